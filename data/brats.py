"""Names and label conventions of the BraTS challenges (Menze et al., IEEE TMI 2015), 2012 to 2025, and what people make of them.

A case is a group of files in one folder: ``ID_flair.nii.gz``, ``ID_t1``, ``ID_t1ce``, ``ID_t2`` and ``ID_seg`` until 2021; since
2023 ``ID-t2f``,
``ID-t1n``, ``ID-t1c``, ``ID-t2w`` and ``ID-seg``. Releases reuse numbers and names for other things:

===================================  =======================================================================
names                                labels
===================================  =======================================================================
``Brats17_…`` to ``BraTS2021_…``     1 necrotic and non-enhancing, 2 edema, 4 enhancing
``BraTS-GLI-``, ``-MET-``            1 necrotic or non-enhancing, 2 edema, 3 enhancing, 4 resection cavity (2024 on)
``BraTS-MEN-``, ``-SSA-``, ``-GoAT-``  1 necrotic or non-enhancing, 2 edema, 3 enhancing
``BraTS-PED-`` (2023)                1 non-enhancing, 2 edema, 3 enhancing
``BraTS-PED-`` (2024 on)             1 enhancing, 2 non-enhancing, 3 cyst, 4 edema
===================================  =======================================================================
"""

import os
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from data.errors import DataError
from data.instead import original_of
from data.nifti import open_nifti, stem
from data.tables import read_table

PARTS = {
    **dict.fromkeys(("flair", "t2f", "t2flair", "t2_flair", "t2-flair"), 0),
    **dict.fromkeys(("t1", "t1n", "t1w"), 1),
    **dict.fromkeys(("t1ce", "t1c", "t1gd", "t1gad"), 2),
    **dict.fromkeys(("t2", "t2w"), 3),
    **dict.fromkeys(("seg", "glistrboost_manuallycorrected"), "seg"),
}
"""Names of the sequences, in small letters, to their place among FLAIR, T1w, T1gd, T2w."""
_NAME = re.compile(rf"(?P<case>.+?)(?P<dash>[_-])(?P<part>{'|'.join(sorted(PARTS, key=len, reverse=True))})", re.IGNORECASE)
MAYBE_MASK = re.compile("seg|glistr", re.IGNORECASE)
_NEW_PARTS = ("t2f", "t1n", "t1c", "t2w")
_NEW_CASE = re.compile(r"BraTS-(?P<kind>[A-Za-z]+(?:-RT)?)-", re.IGNORECASE)

UNTIL_2021 = {0: 0, 1: 2, 2: 1, 4: 3}
SINCE_2023 = {0: 0, 1: 2, 2: 1, 3: 3}
WITH_CAVITY = SINCE_2023 | {4: 0}
PED_2024 = {0: 0, 1: 3, 2: 2, 3: 2, 4: 1}


@dataclass(frozen=True)
class Convention:
    """What the numbers in a mask mean.

    Attributes
    ----------
    values : dict of int to int
        Label in the file to label of the course: 0 background, 1 edema, 2 non-enhancing, 3 enhancing tumour.
    name : str
        For messages.
    notes : dict of int to str
        What a reader of the results must know where a mask holds this value.
    hints : dict of int to str
        What a value that is not in `values` may be.
    """

    values: dict[int, int]
    name: str
    notes: dict[int, str] = field(default_factory=dict)
    hints: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listed:
    """A case as its files' names tell it, before any of them is opened.

    Attributes
    ----------
    name : str
    images : tuple of Path or None
        FLAIR, T1w, T1gd, T2w, or one file with all four; None where there is none.
    label : Path or None
    convention : Convention or None
    problem : str or None
        Why the case cannot be used, where the names say it.
    note : str or None
        What was decided about it.
    """

    name: str
    images: tuple[Path | None, ...]
    label: Path | None
    convention: Convention | None
    problem: str | None = None
    note: str | None = None


_OLD_HINTS = {
    3: "3 is the non-enhancing tumour in BraTS 2012 to 2015 and the enhancing one since 2023; files named as in 2017 to 2021 "
    "have 0, 1, 2 and 4."
}
_CAVITY = {4: "Label 4 is the resection cavity in this release, not enhancing tumour: it counts as background."}
_CYST = {3: "Label 3 is the cystic component in this release: it counts as non-enhancing tumour."}
_ENHANCING_IS_3 = {4: "4 is BraTS' enhancing tumour until 2021; in names such as this one it is 3."}


def convention_of(case: str, *, new_parts: bool = False, edition: int | None = None) -> Convention:
    """The label convention that a case's name stands for.

    Parameters
    ----------
    case : str
        Such as ``BraTS20_Training_355`` or ``BraTS-GLI-00005-100``.
    new_parts : bool
        Whether its sequences are called ``t2f``, ``t1n``, ``t1c``, ``t2w``, as since 2023.
    edition : int, optional
        Year of the release, where names do not tell the convention (``BraTS-PED``).

    Raises
    ------
    DataError
        When the name stands for several conventions, or for none that has edema, non-enhancing and enhancing tumour.
    """
    new = _NEW_CASE.match(case)
    if not new:
        if new_parts:
            return Convention(SINCE_2023, "BraTS since 2023", hints=_ENHANCING_IS_3)
        return Convention(UNTIL_2021, "BraTS 2017 to 2021", hints=_OLD_HINTS)
    kind = new["kind"].upper()
    if kind == "MEN-RT":
        raise DataError(
            f"{case}: BraTS-MEN-RT has one sequence (t1c) and one label (the target of radiotherapy). The course needs four and "
            "three."
        )
    if kind.startswith("PED"):
        if edition is None:
            raise DataError(
                f"{case}: labels of BraTS-PED differ between releases under the same names: 1 non-enhancing, 2 edema, 3 enhancing "
                "in 2023; 1 enhancing, 2 non-enhancing, 3 cyst, 4 edema since 2024. Say which: read_brain(folder, edition=2023) or "
                "edition=2024 (on the command line --edition)."
            )
        if edition >= 2024:
            return Convention(PED_2024, "BraTS-PED since 2024", _CYST)
        return Convention(SINCE_2023, "BraTS-PED of 2023", hints={4: "4 is edema in BraTS-PED since 2024: edition=2024 reads it."})
    if kind in ("GLI", "MET"):
        return Convention(WITH_CAVITY, f"BraTS-{kind} since 2023", _CAVITY)
    return Convention(SINCE_2023, f"BraTS-{kind}", hints=_ENHANCING_IS_3)


def list_cases(folder: Path, edition: int | None = None) -> list[Listed]:
    """The cases of a folder and of all folders in it, sorted by name."""
    found: dict[tuple[Path, str], dict[int | str, list[Path]]] = {}
    new_parts: dict[tuple[Path, str], bool] = {}
    others: dict[Path, list[Path]] = {}
    for name, path, place in _nifti_files(folder):
        match = _NAME.fullmatch(name)
        if not match:
            others.setdefault(place, []).append(path)
            continue
        key, part = (place, match["case"]), match["part"].lower()
        found.setdefault(key, {}).setdefault(PARTS[part], []).append(path)
        new_parts[key] = new_parts.get(key, False) or (part in _NEW_PARTS[:2] or (part in _NEW_PARTS and match["dash"] == "-"))
    if edition is None and (mask := _mask_of_2024(found)):
        edition = 2024
        warnings.warn(
            f"{mask}: holds a 4, so all BraTS-PED masks of this folder are read with the labels of 2024 and later. If some are "
            "of 2023, keep "
            "the releases apart, and read each with its edition.",
            stacklevel=3,
        )
    cases = []
    for (place, case), parts in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        if len([key for key in found if key[0] == place]) == 1 and "seg" not in parts:
            masks = [path for path in others.get(place, []) if re.search(r"seg", path.name, re.IGNORECASE)]
            if len(masks) == 1 and "tumor_segmentation" not in masks[0].name.lower():
                parts = parts | {"seg": masks}
        listed = _listed(place, case, parts, new_parts[place, case], edition)
        unread = [path.name for path in others.get(place, []) if _may_be_meant(path, case) and path not in parts.get("seg", ())]
        if unread and not listed.problem:
            sentence = f"{place}: not read, because of their names: {', '.join(unread)}. Is one of them meant? Put it in its place."
            listed = replace(listed, note=" ".join(filter(None, [listed.note, sentence])))
        cases.append(listed)
    return cases


def _listed(place: Path, case: str, parts: dict, new_parts: bool, edition: int | None) -> Listed:
    problem = note = convention = None
    chosen: dict[int | str, Path] = {}
    for part, files in parts.items():
        chosen[part] = files[0]
        if len(files) > 1 and len({open_or_none(file) for file in files}) > 1:
            problem = (
                f"{place}: {case} has {' and '.join(file.name for file in files)}, and they differ. Keep the one that is meant."
            )
    try:
        convention = convention_of(case, new_parts=new_parts, edition=edition)
    except DataError as error:
        problem = problem or str(error)
    if case.upper().startswith("UCSF-PDGM"):
        problem = (
            f"{place}: UCSF-PDGM (its masks are called tumor_segmentation, and there are other sequences beside) is not read. "
            "Copy FLAIR, T1, T1c, T2 "
            f"and the mask to files {case}_flair, _t1, _t1ce, _t2, _seg under a name without UCSF-PDGM; its labels are those of "
            "BraTS until 2021."
        )
    if (label := chosen.get("seg")) and not _NAME.fullmatch(stem(label) or ""):
        note = f"{label}: taken for the mask of {case}, because it is the only other file there and its name says seg."
    return Listed(case, tuple(chosen.get(channel) for channel in range(4)), chosen.get("seg"), convention, problem, note)


def _may_be_meant(file: Path, case: str) -> bool:
    """Whether a file beside a case is a copy that a computer made of one of its files, or looks like another mask of it."""
    name = stem(file) or ""
    mask = name.lower().startswith(case.lower()) and MAYBE_MASK.search(name)
    return bool(mask and "pred" not in name.lower()) or bool((base := original_of(name)) and _NAME.fullmatch(base))


def open_or_none(file: Path) -> object:
    """Fingerprint of a file's content; None where it cannot be read."""
    try:
        return open_nifti(file).fingerprint
    except DataError:
        return None


def _nifti_files(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Name without suffix, file, and folder of the case, of every NIfTI file; a folder named like one stands for the file in it."""
    visited = set()
    for top, folders, names in os.walk(folder, followlinks=True):
        place = Path(top)
        if (real := os.path.realpath(top)) in visited:  # a link that leads back
            folders[:] = []
            continue
        visited.add(real)
        for name in sorted(folders):
            inner = place / name
            if (called := stem(inner)) is not None:  # archives unpacked by some programs: x_flair.nii/00000057_brain_flair.nii
                folders.remove(name)
                inside = sorted(path for path in inner.iterdir() if path.is_file() and stem(path) is not None)
                yield called, inside[0] if len(inside) == 1 else inner, place
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if (called := stem(place / name)) is not None:
                yield called, place / name, place


def _mask_of_2024(found: dict) -> Path | None:
    """The first paediatric mask that holds a 4, which only the convention of 2024 knows."""
    for (_, case), parts in sorted(found.items(), key=lambda item: item[0][1]):
        if case.upper().startswith("BRATS-PED") and "seg" in parts:
            try:
                if (open_nifti(parts["seg"][0]).voxels().round() == 4).any():
                    return parts["seg"][0]
            except DataError:
                continue
    return None


# -- who a case is ------------------------------------------------------------------------------------------------------

_WHO = (  # pattern of a name, and what of it identifies the patient
    (r"brats(?:17|18|19)_2013_(\d+)(?:_\d+)?", "2013 {}"),
    (r"brats(?:17|18|19)_cbica_([a-z]+)(?:_\d+)?", "cbica {}"),
    (r"brats(?:17|18|19)_tcia\d*_(\d+)(?:_\d+)?", "tcia {}"),  # 2017 has no number of the collection
    (r"brats(?:17|18|19)_([a-z]+)_([a-z0-9]+)(?:_\d+)?", "{} {}"),
    (r"brats20_(training|validation)_(\d+)", "brats20 {} {}"),
    (r"brats(?:2021|21)_(?:training_|validation_)?(\d+)", "gli {}"),  # 2023 kept the numbers of 2021
    (r"brats-([a-z]+)-(\d+)(?:-\d+)?", "{} {}"),
    (r"fets_?(?:20)?(\d\d)_(?:(training|validation)_)?(\d+)", "fets{} {} {}"),
    (r"(tcga-[a-z0-9]{2}-[a-z0-9]{4}).*", "{}"),
    (r"(upenn-gbm-\d+)(?:_\d+)?", "{}"),
    (r"(ucsf-pdgm-\d+)(?:_.*)?", "{}"),
    (r"brats_(\d+)", "decathlon {}"),
)
_COMPARABLE = ("2013 ", "cbica ", "tcia ", "tmc ")
_ELSEWHERE = ("ped ", "men ", "met ", "ssa ", "ucsf-pdgm-")  # other diseases and other hospitals than those of 2012 to 2019


def patient_of(name: str) -> str:
    """The patient behind a case's name, without year, time point and spelling.

    ``BraTS-GLI-00005-000`` and ``-001`` are one patient at two times, ``BRATS19_CBICA_ABM_1`` and ``Brats18_CBICA_ABM_1`` one
    scan in two
    releases. A name that no release uses is its own patient.
    """
    plain = name.strip().lower()
    for pattern, form in _WHO:
        if match := re.fullmatch(pattern, plain):
            return form.format(*(str(int(part)) if (part or "").isdigit() else part or "" for part in match.groups()))
    return plain


def is_among(name: str, others: Iterable[str]) -> bool | None:
    """Whether a case's patient is among those of other names; None where names of different releases cannot be compared.

    BraTS 2020, 2021 and later, FeTS, TCGA and the Decathlon hold patients of BraTS 2012 to 2019 under new names.
    """
    patient, known = patient_of(name), {patient_of(other) for other in others}
    if patient in known:
        return True
    if not known or patient.startswith(_ELSEWHERE):
        return False
    comparable = all(who.startswith(_COMPARABLE) for who in known) and patient.startswith(_COMPARABLE)
    return False if comparable else None


def cannot_be_compared(names: Iterable[str]) -> tuple[str, str] | None:
    """Two of the names that belong to releases without common names of patients, so that one patient may be under both; or None."""
    families: dict[str, str] = {}
    for name in names:
        patient = patient_of(name)
        if patient.startswith(_COMPARABLE):
            families.setdefault("2012 to 2019", name)
        elif patient.startswith(("brats20 ", "gli ", "goat ", "fets", "tcga-", "upenn-", "decathlon ")):
            families.setdefault(re.split(r"[ -]", patient)[0], name)
    first, *others = families.values() or [None]
    return (first, others[0]) if others else None


def aliases(folder: Path) -> dict[str, str]:
    """Names of BraTS 2020 to their names in 2019, 2018 or 2017, by the ``name_mapping.csv`` that the challenge gives along."""
    known = {}
    years = {year: f"BraTS_{year}_subject_ID" for year in (2019, 2018, 2017)}
    for path in sorted(folder.rglob("name_mapping*.csv")):
        if path.name.startswith("."):
            continue
        try:
            table = read_table(path, ["BraTS_2020_subject_ID"], list(years.values()))
        except DataError as error:
            warnings.warn(f"{error} Without it, it cannot be told who is whom.", stacklevel=3)
            continue
        for row in table.to_dict("records"):
            old = next((row[name] for name in years.values() if row.get(name)), "")
            if old and row["BraTS_2020_subject_ID"]:
                known[row["BraTS_2020_subject_ID"]] = old
    return known
