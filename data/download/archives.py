"""What the publishers of the real archives list: addresses, sizes, checksums, licences.

Nothing here was downloaded where the course is developed. `RemoteFile.confirmed` says for each file where its facts were read;
``None`` stands for what no list gives, and `data.download.fetch` then prints what it computes instead of comparing.
"""

from dataclasses import dataclass

CHESTMNIST_SIZES = (28, 64, 128, 224)
CHESTMNIST_FILMS = {"train": 78_468, "val": 11_219, "test": 22_433}
"""Films of each split as the publisher's list has them: 112,120 in all."""


@dataclass(frozen=True)
class RemoteFile:
    """One published file.

    Attributes
    ----------
    name : str
        Name on disk, and on a mirror.
    url : str or None
        Address of its bytes; None where only a page for people is known.
    size, md5 : int (bytes) and str, or None
        As published; None where no list gives it.
    about : int
        Bytes to expect when `size` is None (for the check of the disk only).
    confirmed : str
        Where size and checksum were read.
    optional : bool
        Whether the archive can be used without it.
    """

    name: str
    url: str | None
    size: int | None = None
    md5: str | None = None
    about: int = 0
    confirmed: str = ""
    optional: bool = False

    @property
    def bytes(self) -> int:
        """Size in bytes, exact where it is published."""
        return self.size or self.about


@dataclass(frozen=True)
class Archive:
    """One public archive: its files and what a person who uses it has to know."""

    key: str
    title: str
    page: str
    files: tuple[RemoteFile, ...]
    licence: str
    citation: str

    def notice(self) -> str:
        """Licence, citation and source as text: shown before a download and stored beside the data."""
        return f"{self.title}\n\nSource: {self.page}\n\nLicence and terms\n{self.licence}\n\nPlease cite\n{self.citation}\n"


_WANG = (
    "Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM. ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks on\n"
    "Weakly-Supervised Classification and Localization of Common Thorax Diseases. IEEE CVPR 2017, 3462-3471."
)
_NIH_TERMS = (
    "The usage of the data set is unrestricted (FAQ of the archive, Q04). Whoever uses it should link to the download site,\n"
    "https://nihcc.app.box.com/v/ChestXray-NIHCC, acknowledge the NIH Clinical Center as the provider, and cite the paper."
)

# -- ChestMNIST ---------------------------------------------------------------------------------------------------------

_MEDMNIST_LIST = "MD5: medmnist/info.py, github.com/MedMNIST/MedMNIST (version 3, Zenodo record 10519652)"


def _chestmnist(pixels: int, md5: str, size: int | None, about: int, size_from: str) -> RemoteFile:
    name = "chestmnist.npz" if pixels == 28 else f"chestmnist_{pixels}.npz"
    url = f"https://zenodo.org/records/10519652/files/{name}?download=1"
    return RemoteFile(name, url, size, md5, about, f"{_MEDMNIST_LIST}; size: {size_from}")


CHESTMNIST = Archive(
    "chestmnist",
    "ChestMNIST (MedMNIST+): the X-rays of NIH ChestX-ray14, scaled down",
    "https://zenodo.org/records/10519652",
    (
        _chestmnist(
            28, "02c8a6516a18b556561a56cbdd36c4a8", None, 82_800_000, "82.8 MB on a public copy, exact bytes not confirmed"
        ),
        _chestmnist(64, "9de6cd0b934ebb5b7426cfba5efbae16", 401_604_127, 0, "two public reports of a download with this MD5"),
        _chestmnist(128, "db107e5590b27930b62dbaf558aebee3", None, 1_400_000_000, "about 1.4 GB, exact bytes not confirmed"),
        _chestmnist(224, "45bd33e6f06c3e8cdb481c74a89152aa", 3_889_293_042, 0, "two public reports of a download with this MD5"),
    ),
    "CC BY 4.0 (MedMNIST). Not for clinical use. The X-rays are those of NIH ChestX-ray14:\n" + _NIH_TERMS,
    "Yang J, Shi R, Wei D, Liu Z, Zhao L, Ke B, Pfister H, Ni B. MedMNIST v2 - A large-scale lightweight benchmark for 2D and\n"
    "3D biomedical image classification. Scientific Data 10, 41 (2023). https://doi.org/10.1038/s41597-022-01721-8\n" + _WANG,
)

# -- NIH ChestX-ray14 ---------------------------------------------------------------------------------------------------

_BOX = "https://nihcc.box.com/shared/static/"
_BOX_FILE = "https://nihcc.app.box.com/index.php?rm=box_download_shared_file&vanity_name=ChestXray-NIHCC&file_id=f_"
_NIH_CONFIRMED = (
    "address: the archive's own batch_download_zips.py; MD5: its FAQ_CHESTXRAY.pdf, Q07; size: Content-Range of a public "
    "download log of 2026"
)
_NIH_PARTS = (
    ("vfk49d74nhbxq3nqjg0900w5nvkorp5c", 2_008_470_987, "fe8ed0a6961412fddcbb3603c11b3698"),
    ("i28rlmbvmfjbl8p2n3ril0pptcmcu9d1", 3_952_623_504, "ab07a2d7cbe6f65ddd97b4ed7bde10bf"),
    ("f1t00wrtdk94satdfb9olcolqx20z2jp", 3_929_234_850, "2301d03bde4c246388bad3876965d574"),
    ("0aowwzs5lhjrceb3qp67ahp0rd1l1etg", 3_838_903_983, "9f1b7f5aae01b13f4bc8e2c44a4b8ef6"),
    ("v5e3goj22zr6h8tzualxfsqlqaygfbsn", 3_935_496_531, "1861f3cd0ef7734df8104f2b0309023b"),
    ("asi7ikud9jwnkrnkj99jnpfkjdes7l6l", 3_986_301_172, "456b53a8b351afd92a35bc41444c58c8"),
    ("jn1b4mw4n6lnh74ovmcjb8y48h8xj07n", 4_016_328_426, "1075121ea20a137b87f290d6a4a5965e"),
    ("tvpxmn7qyrgl0w8wfh9kqfjskv6nmm1j", 4_018_347_353, "b61f34cec3aa69f295fbb593cbd9d443"),
    ("upyy3ml7qdumlgk2rfcvlb9k6gvqq2pj", 4_111_327_929, "442a3caa61ae9b64e61c561294d1e183"),
    ("l6nilvfa9cg3s28tqv1qc1olm3gnz54p", 4_181_556_296, "09ec81c4c31e32858ad8cf965c494b74"),
    ("hhq8fkdgvcari67vfhs7ppg2w6ni4jze", 4_187_084_020, "499aefc67207a5a97692424cf5dbeed5"),
    ("ioqwiy20ihqwyr8pf4c24eazhh281pbu", 2_914_187_733, "dc9fda1757c2de0032b63347a7d2895c"),
)
_NIH_TABLES_CONFIRMED = "address: public download scripts that use the archive's own file numbers; no checksum is published"

NIH = Archive(
    "nih",
    "NIH ChestX-ray14: 112,120 frontal chest X-rays of 30,805 patients, 1024 x 1024 pixels",
    "https://nihcc.app.box.com/v/ChestXray-NIHCC",
    (
        RemoteFile("Data_Entry_2017_v2020.csv", _BOX_FILE + "219760887468", None, None, 9_003_496, _NIH_TABLES_CONFIRMED),
        RemoteFile("train_val_list.txt", _BOX_FILE + "256056636701", None, None, 1_500_000, _NIH_TABLES_CONFIRMED),
        RemoteFile("test_list.txt", _BOX_FILE + "256055473534", None, None, 500_000, _NIH_TABLES_CONFIRMED),
        RemoteFile("BBox_List_2017.csv", None, None, None, 92_420, "its address could not be confirmed", optional=True),
        *(
            RemoteFile(f"images_{number:03d}.tar.gz", f"{_BOX}{link}.gz", size, md5, 0, _NIH_CONFIRMED)
            for number, (link, size, md5) in enumerate(_NIH_PARTS, 1)
        ),
    ),
    _NIH_TERMS,
    _WANG,
)

# -- Medical Segmentation Decathlon -------------------------------------------------------------------------------------

DECATHLON = Archive(
    "decathlon",
    "Medical Segmentation Decathlon, Task01_BrainTumour: 484 MR scans of gliomas with masks (and 266 without)",
    "http://medicaldecathlon.com",
    (
        RemoteFile(
            "Task01_BrainTumour.tar",
            "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task01_BrainTumour.tar",
            7_608_266_240,
            "240a19d752f0d9e9101544901065d872",
            0,
            "address and MD5: monai/apps/datasets.py, github.com/Project-MONAI/MONAI; size: three public reports of a download "
            "with this MD5",
        ),
    ),
    "CC BY-SA 4.0: use and change it also commercially, with attribution, and pass changed copies on under the same licence.",
    "Antonelli M, et al. The Medical Segmentation Decathlon. Nature Communications 13, 4128 (2022).\n"
    "https://doi.org/10.1038/s41467-022-30695-9\n"
    "Simpson AL, et al. A large annotated medical image dataset for the development and evaluation of segmentation\n"
    "algorithms. arXiv:1902.09063 (2019).\n"
    "The scans are from BraTS 2016 and 2017: Menze BH, et al. IEEE TMI 34(10), 1993-2024 (2015).",
)

BRATS = Archive(
    "brats",
    "BraTS: MR scans of gliomas with masks, as a person has got them from the challenge",
    "https://www.med.upenn.edu/cbica/brats/",
    (),
    "The challenge gives the scans to registered people for research, under the terms that they have accepted there. Those\n"
    "terms hold for this converted copy too; do not pass it on.",
    "Menze BH, et al. The Multimodal Brain Tumor Image Segmentation Benchmark (BRATS). IEEE TMI 34(10), 1993-2024 (2015).\n"
    "Bakas S, et al. Advancing The Cancer Genome Atlas glioma MRI collections with expert segmentation labels and radiomic\n"
    "features. Scientific Data 4, 170117 (2017).",
)

ARCHIVES = {archive.key: archive for archive in (CHESTMNIST, NIH, DECATHLON, BRATS)}
