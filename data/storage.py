"""Where generated data are kept, and how they are written so that nothing half-written is ever taken for whole."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.errors import DataError


def cache_dir() -> Path:
    """Folder of generated cohorts: ``data/cache`` in the course, or what the variable COURSE_CACHE names."""
    return Path(os.environ.get("COURSE_CACHE") or Path(__file__).parent / "cache").resolve()


@contextmanager
def actionable_disk_errors(path: Path, option: str = "") -> Iterator[None]:
    """Turn "no space left" and "not permitted" of the block into a `DataError` that says what to do about `path`.

    `option` is the one of the command line that names another folder; without it the text knows COURSE_CACHE.
    """
    try:
        yield
    except OSError as error:
        cached = Path(path).resolve().is_relative_to(cache_dir())
        elsewhere = f"name a folder with {option}" if option else "set COURSE_CACHE to a folder" if cached else "name a folder"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{path}: the disk is full. What has been written is kept, and nothing half-written is taken for whole. Free some "
                f"space and run again to resume, or {elsewhere} on another disk."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DataError(f"{path}: cannot be written ({error.strerror}). Please {elsewhere} that you may write to.") from error
        raise


@contextmanager
def partial_folder(final: Path, option: str = "") -> Iterator[Path]:
    """Give a ``.partial`` folder to fill; rename it to `final` when the block ends without an error.

    After an error or a kill the partial folder stays, so that the next run can resume; `final` appears only when it is complete.

    Parameters
    ----------
    final : Path
        Folder that must not exist yet.
    option : str
        See `actionable_disk_errors`.

    Raises
    ------
    DataError
        When the disk is full or the folder cannot be written.
    """
    partial = final.with_name(final.name + ".partial")
    with actionable_disk_errors(final, option):
        partial.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.rename(final)


@contextmanager
def atomic_file(final: Path) -> Iterator[Path]:
    """Give a temporary path beside `final` to write; it replaces `final` only when the block ends without an error.

    The temporary name keeps the suffixes of `final`, because image and NIfTI writers choose the format by them.
    """
    temporary = final.with_name(f".{os.getpid()}.{final.name}")
    with actionable_disk_errors(final):
        try:
            yield temporary
            os.replace(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Delete a folder of generated data and all in it; a folder that does not exist is fine."""
    shutil.rmtree(folder, ignore_errors=True)


def existing_folder(folder: Path | str, wanted: str) -> Path:
    """The folder that a person named, ``~`` resolved; `wanted` says what should be named, for the message.

    Raises
    ------
    DataError
        When it is not there, or is a file.
    """
    folder = Path(folder).expanduser()
    if folder.is_file():
        packed = folder.suffix.lower() in (".zip", ".gz", ".tgz", ".tar", ".rar", ".7z")
        what = "Unpack it, and name the folder that comes out." if packed else "Name the folder that it is in."
        raise DataError(f"{folder}: a file, but a folder is needed. {what} {wanted}")
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder. {wanted}")
    return folder
