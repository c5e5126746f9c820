"""Opens NIfTI files as people have them: headers, where the voxels lie in the head, the voxels themselves.

Everything comes out with the axes to the patient's right, front and top (RAS), so that a file whose axes run another way, or in
another
order, needs no care of whoever reads it.
"""

import gzip
import unicodedata
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from nibabel.wrapstruct import WrapStructError

from data.errors import DataError
from data.instead import HEAD, dangling, described, what_it_is

SUFFIXES = (".nii.gz", ".nii", ".img.gz", ".img")
_MILLIMETRES = {
    1: 1000.0,
    3: 0.001,
}  # codes of the header's unit of length: metres, micrometres; all others are read as millimetres
_GZIP = b"\x1f\x8b"


def stem(file: Path) -> str | None:
    """Name without the suffix of a NIfTI file, in small or capital letters; None for any other file, hidden ones included."""
    name = unicodedata.normalize("NFC", file.name)
    if name.startswith("."):
        return None
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), None)


@dataclass(frozen=True)
class Nifti:
    """A NIfTI file whose header has been read and whose length has been compared with it.

    Attributes
    ----------
    file : Path
    header : nibabel header
        As it is on disk.
    shape : tuple of int
        Voxels to the right, to the front, to the top, and what more axes there are; axes of length 1 behind the third are left out.
    affine : numpy.ndarray of float, shape (4, 4)
        Takes indices of `voxels` to millimetres.
    """

    file: Path
    header: nib.Nifti1Header = field(repr=False)
    shape: tuple[int, ...]
    affine: np.ndarray = field(repr=False)

    @property
    def placed(self) -> bool:
        """Whether the header says where the voxels lie; without that, which side is left is a guess."""
        return self.header["sform_code"] > 0 or self.header["qform_code"] > 0

    @cached_property
    def fingerprint(self) -> tuple[int, int]:
        """CRC-32 and length of the uncompressed file: equal for copies, whatever they are called and however they are packed."""
        with readable(self.file):
            if not _is_gzip(self.file):
                content = self.file.read_bytes()
                return zlib.crc32(content), len(content) % 2**32
            with self.file.open("rb") as stream:
                stream.seek(-8, 2)
                end = stream.read(8)  # gzip ends with both
            return int.from_bytes(end[:4], "little"), int.from_bytes(end[4:], "little")

    def voxels(self) -> np.ndarray:
        """Voxels with the axes turned to RAS; floats, and what a scale makes of integers, as float32.

        Raises
        ------
        DataError
            When the file cannot be decompressed or does not hold one number a voxel.
        """
        image = load(self.file)
        with readable(self.file):
            if image.header.get_data_dtype().names or image.header.get_data_dtype().kind not in "uif":
                raise DataError(
                    f"{self.file}: voxels of the type {image.header.get_data_dtype()}, not one number each. Export magnitudes "
                    "as int16 or float32."
                )
            voxels = np.asanyarray(image.dataobj)
        voxels = voxels.reshape(voxels.shape[:3] + tuple(size for size in voxels.shape[3:] if size > 1))
        voxels = apply_orientation(voxels, io_orientation(image.affine))
        return np.ascontiguousarray(voxels, dtype=np.float32 if voxels.dtype.kind == "f" else voxels.dtype.newbyteorder("="))


def load(file: Path) -> nib.Nifti1Image:
    """Image as nibabel has it, by what the file holds and not by its name: a ``.nii`` may be compressed, a ``.nii.gz`` may not."""
    if file.is_dir():
        raise DataError(f"{file}: a folder with the name of a file. Put the file that is in it in its place.")
    with readable(file):
        name, packed = file.name.lower(), _is_gzip(file)
        if ".nii" not in name or packed == name.endswith(".gz"):
            return nib.load(file)
        content = gzip.decompress(file.read_bytes()) if packed else file.read_bytes()
        newer = 540 in (int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big"))
        return (nib.Nifti2Image if newer else nib.Nifti1Image).from_bytes(content)


def open_nifti(file: Path) -> Nifti:
    """Read the header of a file.

    Raises
    ------
    DataError
        When the file is missing, empty, cut off, no NIfTI file, or does not say where the voxels lie.
    """
    image = load(file)
    with readable(file):
        header, affine = image.header, image.affine
        shape = tuple(int(size) for size in header.get_data_shape())
        wanted = int(image.dataobj.offset) + int(np.prod(shape)) * header.get_data_dtype().itemsize
        if _is_gzip(file):
            with file.open("rb") as stream:
                stream.seek(-4, 2)
                length = int.from_bytes(stream.read(4), "little")  # gzip ends with the length of what it holds
            if length != wanted % 2**32:  # cut off, or written in several parts: only reading on can tell
                with gzip.open(file) as stream:
                    length = sum(len(block) for block in iter(lambda: stream.read(2**24), b""))
            else:
                length = wanted
        else:
            length = file.stat().st_size
    if header["magic"].item() in (b"n+1", b"n+2") and image.dataobj.offset < header["sizeof_hdr"]:  # the header read as voxels
        raise DataError(
            f"{file}: its header says that the voxels begin at byte {image.dataobj.offset}, inside the header itself (vox_offset). "
            "Export the scan again."
        )
    if length < wanted:
        raise DataError(f"{file}: cut off ({length:,} of {wanted:,} bytes). Copy or download it again.")
    if len(shape) < 3:
        raise DataError(f"{file}: {len(shape)} axes, but a scan has three. Export the whole volume.")
    if min(shape[:3]) < 2:
        what = "one slice" if all(shape) else "no voxels"
        raise DataError(f"{file}: {what} (shape {shape}), but a scan is a volume. Export the whole volume.")
    if not isinstance(header, nib.Nifti1Header):
        raise DataError(f"{file}: an Analyze file, which does not say which side is left. Export the scan as NIfTI.")
    _refuse_two_places(file, header)
    if not np.isfinite(affine).all() or np.isnan(io_orientation(affine)).any():
        raise DataError(f"{file}: its affine maps no volume to the head (it is singular). Export the scan again.")
    affine = np.diag([*[_MILLIMETRES.get(int(header["xyzt_units"]) % 8, 1.0)] * 3, 1]) @ affine
    turn = io_orientation(affine)
    turned = tuple(shape[axis] for axis in np.argsort(turn[:, 0]))
    more = tuple(size for size in shape[3:] if size > 1)
    return Nifti(file, header, turned + more, affine @ inv_ornt_aff(turn, shape[:3]))


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Turn what nibabel and gzip raise for a damaged file into a `DataError`."""
    try:
        yield
    except FileNotFoundError as error:
        what = dangling(file) or ". Copy it there, or take the case out."
        raise DataError(f"{file}: the file is missing{what}") from error
    except (ImageFileError, WrapStructError, nib.spatialimages.HeaderDataError, OSError, EOFError, zlib.error, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: {_damage(file, error)}") from error


def _is_gzip(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(2) == _GZIP


def _refuse_two_places(file: Path, header: nib.Nifti1Header) -> None:
    """A header can say twice where the voxels lie; when the two turn the head differently, nobody knows left from right."""
    if header["sform_code"] > 0 and header["qform_code"] > 0:
        try:
            axes = ["".join(nib.aff2axcodes(form)) for form in (header.get_sform(), header.get_qform())]
        except (ValueError, TypeError, nib.spatialimages.HeaderDataError, np.linalg.LinAlgError):
            return  # the quaternion is no rotation: the other form holds
        if axes[0] != axes[1]:
            raise DataError(
                f"{file}: its header says twice where the voxels lie, and differently: axes {axes[0]} by the sform, {axes[1]} "
                "by the qform. "
                "Find out which is right, and save the scan with that one in both."
            )


def _damage(file: Path, error: Exception) -> str:
    """What a file that cannot be read looks like, and what to do."""
    what = "cut off or not a NIfTI file"
    try:
        with file.open("rb") as stream:
            content = stream.read(HEAD)
        packed = content.startswith(_GZIP)
        if packed:
            content = zlib.decompressobj(wbits=31).decompress(content, HEAD)
    except OSError:
        what = "cannot be opened"
    except zlib.error:
        pass
    else:
        begins = content[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c")
        if what_it_is(content)[0] and not begins:
            return f"not a NIfTI file, but {described(content, convert='export the scan as NIfTI', again='')}"
        if packed and begins:
            what = "a NIfTI file that is cut off or not a NIfTI file to its end: it cannot be decompressed to its end"
        elif packed:
            what = "compressed by gzip, but cut off or not a NIfTI file inside"
        elif not content:
            what = "an empty file (0 bytes): was a copy cut off, or not a NIfTI file"
    return f"{what} ({error}). Copy, download or export it again."
