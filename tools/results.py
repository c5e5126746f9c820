"""What was measured when the notebooks ran, and the table of it in the README.

``tools/measured.json`` is written by ``tools.build_notebooks`` (the simulated cohorts) and by
``tools.run_notebooks --record`` (real patients too), never by hand.
``python -m tools.results`` writes the table between the two marks in the README.
"""

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tools.execution import Run
from tools.lesson import ROOT, lesson_paths, notebook_title, read_cells

MEASURED = ROOT / "tools" / "measured.json"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
SIMULATED = "simulated"


def load(path: Path = MEASURED) -> dict[str, Any]:
    """The measurements so far: notebook name → kind of data ("simulated", "real") → what was measured."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def record(name: str, run: Run, *, cold: bool, path: Path = MEASURED) -> None:
    """Store what a complete run of the notebook `name` measured; what is there of other notebooks and data stays.

    Parameters
    ----------
    name : str
        Stem of the lesson.
    run : Run
        A run without failure.
    cold : bool
        The embedded cohort was generated in this run.
    path : Path
        The JSON file.

    Raises
    ------
    ValueError
        When the run failed or gave no headline.
    """
    if run.failure:
        raise ValueError(f"{name}: a run that failed is not recorded.")
    if not run.headlines:
        raise ValueError(f"{name}: no headline to record. The last cell of a lesson calls util.headline(…).")
    measured = load(path)
    source = run.headlines[-1]["source"]
    kind = SIMULATED if source.startswith(SIMULATED) else "real"
    measured.setdefault(name, {})[kind] = {
        "source": source,
        "numbers": {key: value for headline in run.headlines for key, value in headline["numbers"].items()},
        "seconds": round(run.seconds),
        "peak_mib": round(run.peak_mib),
        "cold": cold,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "keras": version("keras"),
    }
    text = json.dumps(dict(sorted(measured.items())), indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def table(measured: dict[str, Any], titles: dict[str, str]) -> str:
    """The measurements as a Markdown table: one line for each notebook and kind of data."""
    lines = ["| notebook | data | result | time | memory |", "| --- | --- | --- | ---: | ---: |"]
    setups, warm = set(), False
    for name, kinds in sorted(measured.items()):
        for kind, entry in sorted(kinds.items(), key=lambda item: item[0] != SIMULATED):
            data = kind if kind == SIMULATED else f"**{entry['source']}**"
            numbers = "<br>".join(f"{key}: {number(value)}" for key, value in entry["numbers"].items())
            mark = "" if entry["cold"] or kind != SIMULATED else "*"
            warm |= bool(mark)
            lines.append(
                f"| [{titles.get(name, name)}]({name}.ipynb) | {data} | {numbers} "
                f"| {duration(entry['seconds'])}{mark} | {entry['peak_mib'] / 1024:.1f} GiB |"
            )
            setups.add(f"{entry['cores']} cores, Python {entry['python']}, Keras {entry['keras']}")
    lines += ["", f"Measured on {'; '.join(sorted(setups))}, without a GPU; time and memory are of the whole notebook."]
    if warm:
        lines[-1] += " \\* The simulated cohort was there already."
    return "\n".join(lines)


def number(value: float) -> str:
    """A number as a reader wants it: counts whole, everything else with three decimals."""
    value = float(value)  # a nan comes out of a notebook as text: JSON has none
    return f"{value:,.0f}" if value.is_integer() and abs(value) > 1 else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Seconds as minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def write_table(readme: Path, text: str) -> bool:
    """Put `text` between the marks of the README; say whether that changed anything.

    Raises
    ------
    ValueError
        When the marks are not there, in this order.
    """
    old = readme.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme.name} has no marks {BEGIN} and {END} around its results table.")
    new = f"{before}{BEGIN}\n{text}\n{END}{after}"
    readme.write_text(new, encoding="utf-8")
    return new != old


def current_table(root: Path = ROOT) -> str:
    """The table of the committed measurements, with the lessons' own titles."""
    titles = {path.stem: notebook_title(read_cells(path)) for path in lesson_paths(root)}
    return table(load(root / "tools" / "measured.json"), titles)


def main() -> int:
    """Command line: write the table into the README."""
    argparse.ArgumentParser(prog="python -m tools.results", description=__doc__.splitlines()[0]).parse_args()
    try:
        changed = write_table(ROOT / "README.md", current_table())
    except (OSError, ValueError) as error:
        print(f"results: {error}", file=sys.stderr)
        return 1
    print("README.md: results table " + ("written" if changed else "was up to date"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
