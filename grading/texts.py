"""Words, colours and clean text that marks, feedback and the class report share."""

import re
import unicodedata

SYMBOL = {"right": "✓", "wrong": "✗", "error": "!", "timeout": "⧗", "not attempted": "–", "not found": "?"}
COLOUR = {
    "right": "#1f7a5c",
    "wrong": "#d08700",
    "error": "#b23a48",
    "timeout": "#6d4c9f",
    "not attempted": "#8d97a5",
    "not found": "#c3cad3",
}
MEANING = {
    "right": "all checks passed, the hidden ones too",
    "wrong": "it runs, but not every answer is right",
    "error": "it stops with an error",
    "timeout": "it does not end in time",
    "not attempted": "the function is as it was handed out",
    "not found": "there is no function of this name in the notebook",
}
JOINERS = "\u200c\u200d"  # part of words in several scripts
MOST = 20_000  # characters of one text in a report


CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")


def spans(text: str) -> list[tuple[bool, str]]:
    """A text cut at its `code` between backticks: (is it code, the piece without the backticks)."""
    found, end = [], 0
    for match in CODE.finditer(text):
        found += [(False, text[end : match.start()]), (True, match[2].strip())]
        end = match.end()
    return [(code, piece) for code, piece in [*found, (False, text[end:])] if piece]


def visible(text: object) -> str:
    """A text in which nothing is hidden: control characters and those that turn the reading direction are shown by number."""
    text = str(text)
    if len(text) > MOST:
        text = f"{text[:MOST]}\n… ({len(text) - MOST} more characters)"
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text.replace("\r\n", "\n"))  # colours of a terminal
    hidden = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # control, format (with those of direction), surrogate, private, separators
    return "".join(c if c in "\n\t" or c in JOINERS or unicodedata.category(c) not in hidden else f"⟨U+{ord(c):04X}⟩" for c in text)
