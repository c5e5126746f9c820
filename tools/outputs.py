"""Cleans the outputs of an executed notebook: what is left is what a reader wants, and the same on every machine."""

import base64
import copy
import io
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
from nbformat import NotebookNode
from PIL import Image

from tools.lesson import ROOT, caption_of

CONTROL = re.compile(r"\x1b\[(\d*A)|(\x1b\[[\d;]*m)|\x1b\[[\d;]*[A-Za-z]|(.)", re.DOTALL)
PROGRESS = re.compile(r"\d+%\|.*\||\d+(it|\w*) \[\d\d:\d\d")  # a tqdm bar, with or without a known end
NOISE = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] \S+\.cc:\d+\]"  # TensorFlow's C++ log
    r"|[IWE]\d{4} \d\d:\d\d:\d+\.\d+ +\d+ \S+:\d+\]"  # abseil's
    r"|WARNING: All log messages before absl::InitializeLog"
    r"|To enable the following instructions: "
    r"|.*Skipping registering GPU devices)"
)
# Quality of JPEGs, colours of charts and the share of their side that photographs keep; the first that keeps a notebook within
# its limit.
STEPS = (
    (88, 256, 1),
    (75, 256, 1),
    (62, 256, 1),
    (62, 64, 1),
    (62, 32, 1),
    (62, 32, 0.75),
    (62, 24, 0.6),
    (62, 16, 0.5),
    (50, 16, 0.5),
)
FLAT = 0.7  # mean change (of 255) by fewer colours up to which a picture is a chart; an X-ray would get steps
PHOTOGRAPH = 60_000  # characters of base64; noise makes PNGs of X-rays and scans this long
WIDGET = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r"\b0x[0-9a-f]{7,16}\b")
STYLER_ID = re.compile(r"\bT_([0-9a-f]{5})(?=[_\s\"#,{])")
MACHINE_PATH = re.compile(r"(?<![\w.])/(root|home|Users|tmp|mnt|var)/[\w.\-]+|[A-Z]:\\\\?Users\\")


def fit_outputs(nb: NotebookNode, limit: int, root: Path = ROOT) -> NotebookNode:
    """A copy of `nb` with clean outputs, and figures compressed as little as `limit` (bytes of the notebook) allows."""
    for step in STEPS:
        clean = clean_outputs(copy.deepcopy(nb), root, *step)
        if len(nbformat.writes(clean).encode()) < limit:
            break
    return clean


def clean_outputs(
    nb: NotebookNode, root: Path = ROOT, quality: int = STEPS[0][0], colours: int = STEPS[0][1], scale: float = 1
) -> NotebookNode:
    """Clean all outputs of `nb` in place, and return it.

    Progress bars collapse to their last state, log noise goes, paths of this machine become relative, memory addresses
    and pandas' random table ids become the same on every run, execution times and widget state are dropped. Figures get
    their caption as alternative text.
    """
    nb.metadata.pop("widgets", None)
    for index, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        _merge_streams(cell)
        for output in cell.outputs:
            if output.output_type == "stream":
                _clean_stream(output, root)
            elif output.output_type == "error":
                output.evalue = scrub(output.evalue, root)
                output.traceback = [scrub(line, root) for line in output.traceback]
            else:
                size = output.metadata.get("image/png", {})
                output.metadata = NotebookNode()
                for mime, value in list(output.data.items()):
                    if mime == "image/png":
                        shrunk, data = shrink_figure(value, quality, colours, scale)
                        del output.data[mime]
                        output.data[shrunk] = data
                        notes = {key: size[key] for key in ("width", "height") if key in size}  # of a page, not of a screen
                        notes |= {"alt": caption_of(nb, index)} if caption_of(nb, index) else {}
                        if notes:
                            output.metadata[shrunk] = NotebookNode(notes)
                    elif isinstance(value, str) and (mime.startswith("text/") or mime == "image/svg+xml"):
                        output.data[mime] = scrub(value, root)
        cell.outputs = [o for o in cell.outputs if o.output_type != "stream" or o.text.strip()]
        cell.outputs = [o for o in cell.outputs if WIDGET not in o.get("data", {})]  # dead without its kernel
        _stable_table_ids(cell)
    return nb


def scrub(text: str, root: Path = ROOT) -> str:
    """Take paths of this machine and memory addresses out of a text: the course becomes ``.``, the home ``~``."""
    places = {str(root): ".", str(root.resolve()): ".", sys.prefix: ".venv", sys.base_prefix: "python"}
    places |= {str(Path.home()): "~", str(Path.home().resolve()): "~"}
    for place, short in places.items():
        if len(place) > 4:  # never "/" or "/usr" of a system Python
            text = re.sub(re.escape(place) + r"(?![\w.\-])", short, text)
    return ADDRESS.sub("0x…", text)


def shrink_figure(encoded: str, quality: int = STEPS[0][0], colours: int = STEPS[0][1], scale: float = 1) -> tuple[str, str]:
    """A figure as small as it may be: (mime type, base64). Charts stay PNG; photographs over `PHOTOGRAPH` become JPEG."""
    png = shrink_png(encoded, colours)
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))  # not what has a palette by now
    if len(png) < PHOTOGRAPH or getattr(picture, "is_animated", False):
        return "image/png", png
    buffer = io.BytesIO()
    pixels = picture.convert("RGB")
    pixels = pixels.resize([round(side * scale) for side in pixels.size], Image.Resampling.LANCZOS) if scale < 1 else pixels
    pixels.save(buffer, "JPEG", quality=quality, subsampling=0 if scale == 1 else 2, optimize=True)
    return min(("image/png", png), ("image/jpeg", base64.b64encode(buffer.getvalue()).decode()), key=lambda pair: len(pair[1]))


def shrink_png(encoded: str, colours: int = STEPS[0][1], tolerance: int = 8) -> str:
    """Store a figure with a palette of 256 colours where nobody sees the difference, about 40 % of the size; or of fewer.

    Parameters
    ----------
    encoded : str
        PNG, base64. An animation or a picture with transparency stays as it is.
    colours : int
        Below 256 for a notebook that would be too large: charts need few.
    tolerance : int
        The largest change (of 255, 99.9 % of all colour values) that counts as invisible with 256 colours. A picture of
        more colours than that allows keeps them all.

    Returns
    -------
    str
        PNG, base64, never longer than `encoded`.
    """
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    opaque = picture.mode in ("L", "RGB") or (picture.mode == "RGBA" and picture.getextrema()[3][0] == 255)
    if getattr(picture, "is_animated", False) or not opaque:
        return encoded
    full = picture.convert("RGB")
    small = full.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    change = np.abs(np.asarray(small.convert("RGB"), dtype=np.int16) - np.asarray(full))
    buffer = io.BytesIO()
    if np.quantile(change, 0.999) > tolerance:
        small = full
    elif colours < 256:
        fewer = full.quantize(colours, method=Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE)
        if np.abs(np.asarray(fewer.convert("RGB"), dtype=np.int16) - np.asarray(full)).mean() < FLAT:
            small = fewer
    small.save(buffer, "PNG", optimize=True, dpi=picture.info.get("dpi"))
    return min(base64.b64encode(buffer.getvalue()).decode(), encoded, key=len)


def render_terminal(text: str) -> str:
    """What a terminal would show in the end: carriage returns, backspaces and cursor-up applied, colours kept."""
    lines: list[list[str]] = [[]]
    row = column = 0
    colour = ""
    for up, sgr, char in CONTROL.findall(text):
        if sgr in ("\x1b[0m", "\x1b[m"):  # the end of a colour belongs to what was coloured
            if column and not colour:
                lines[row][column - 1] += sgr
            colour = ""
        elif sgr:
            colour += sgr
        elif up:
            row = max(0, row - int(up[:-1] or 1))
        elif not char:
            continue  # some other control sequence
        elif char == "\n":
            row, column = row + 1, 0
            if row == len(lines):
                lines.append([])
        elif char == "\r":
            column = 0
        elif char == "\b":
            column = max(0, column - 1)
        else:
            line = lines[row]
            line += [" "] * (column - len(line))
            line[column : column + 1] = [colour + char]
            column, colour = column + 1, ""
    if colour:
        lines[row].append(colour)
    return "\n".join("".join(line).rstrip(" ") for line in lines)


def _merge_streams(cell: NotebookNode) -> None:
    """Join what the kernel sent in pieces. (nbconvert's preprocessor for this would lose what nested bars need.)"""
    merged: list[NotebookNode] = []
    for output in cell.outputs:
        stream = output.output_type == "stream"
        if stream and merged and merged[-1].output_type == "stream" and merged[-1].name == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    cell.outputs = merged


def _clean_stream(output: NotebookNode, root: Path) -> None:
    text = output.text
    if any(mark in text for mark in ("\r", "\b", "\x1b[A")):
        text = render_terminal(text)
    lines = [line for line in text.split("\n") if not NOISE.match(line)]
    if any(PROGRESS.search(line) for line in lines):
        lines = [line for line in lines if line.strip()]
        if output.name == "stderr" and all(PROGRESS.search(line) for line in lines):
            output.name = "stdout"  # a finished progress bar is no error: not on a red ground
        lines.append("")
    output.text = scrub("\n".join(lines), root)


def _stable_table_ids(cell: NotebookNode) -> None:
    """Give the tables of pandas' Styler, whose ids are random, ids that come from the cell."""
    number = 0
    for output in cell.outputs:
        html = output.get("data", {}).get("text/html", "")
        for old in dict.fromkeys(STYLER_ID.findall(html)):
            html = html.replace(f"T_{old}", f"T_{cell.id[:6]}{number}")
            number += 1
        if html:
            output.data["text/html"] = html
