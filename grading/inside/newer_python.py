"""Python 3.12 in the words of 3.11: what a student's newer Python accepts, the grader's older one should not call an error.

f-strings with the same quotes, line ends, comments or backslashes inside of their braces (PEP 701) become calls of `str.format`;
type parameters (PEP 695) become names. Lines keep their numbers. For source that Python has refused, never for other.
"""

import re

_STRING = re.compile(r"(?i)(?<!\w)(?P<prefix>f|fr|rf|r|b|br|rb|u|)(?P<quote>\"\"\"|'''|\"|')|#[^\n]*")
_OPEN, _CLOSE = "([{", ")]}"


def translate(source: str) -> tuple[str, str]:
    """The same program for Python 3.11, and what has to be run before it."""
    return _type_parameters(_strings(source))


def _type_parameters(source: str) -> tuple[str, str]:
    names: list[str] = []

    def take(match: re.Match) -> str:
        names.extend(re.findall(r"(?:^|,)\s*\**(\w+)", match["parameters"]))
        return match["head"]

    parameters = r"\[(?P<parameters>[^\[\]\n]*(?:\[[^\[\]\n]*\][^\[\]\n]*)*)\]"
    source = re.sub(rf"(?m)^(?P<head>[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+\w+){parameters}", take, source)
    source = re.sub(rf"(?m)^(?P<head>[ \t]*type[ \t]+\w+){parameters}(?=[ \t]*=)", take, source)
    source = re.sub(r"(?m)^([ \t]*)type[ \t]+(\w+[ \t]*=[^=])", r"\1\2", source)
    made = [f'{name} = __import__("typing").TypeVar("{name}")' for name in dict.fromkeys(names)]
    return source, "\n".join(["from __future__ import annotations", *made] if made else [])


def _strings(source: str) -> str:
    out, at, after_string = [], 0, False
    while True:
        found = _STRING.search(source, at)
        if not found:
            return "".join([*out, source[at:]])
        between = source[at : found.start()]
        out.append(between)
        after_string = after_string and not between.strip()
        if found["quote"] is None:
            out.append(found[0])
            at = found.end()
            continue
        if "f" in found["prefix"].lower():
            text, at, changed = _format_call(source, found)
        else:
            at = _end_of_string(source, found)
            text, changed = source[found.start() : at], False
        joined = re.match(r"\s*(?i:f|fr|rf|r|u|)[\"']", source[at:]) and changed
        out.append(("+ " if after_string and changed else "") + text + (" +" if joined else ""))
        after_string = not joined


def _end_of_string(source: str, found: re.Match) -> int:
    """Where a string that is no f-string ends."""
    at, quote = found.end(), found["quote"]
    while at < len(source) and not source.startswith(quote, at):
        at += 2 if source[at] == "\\" else 1
    return min(len(source), at + len(quote))


def _format_call(source: str, found: re.Match) -> tuple[str, int, bool]:
    """An f-string as a call of str.format where Python 3.11 cannot read it; where it ends; whether it was changed."""
    quote, prefix = found["quote"], re.sub("(?i)f", "", found["prefix"])
    template, values, at = _template(source, found.end(), quote, "r" in prefix.lower())
    end = min(len(source), at + len(quote))
    before = source[found.start() : end]
    try:
        compile(before, "f-string", "eval", 0x400)  # only to a tree: nothing is run
        return before, end, False
    except (SyntaxError, ValueError):
        pass
    arguments = ", ".join(f"({_strings(value)})" for value in values)
    return f"{prefix}{quote}{template}{quote}.format({arguments})", end, True


def _template(source: str, at: int, end: str, raw: bool) -> tuple[str, list[str], int]:
    """The text of an f-string (or of a format in it) up to `end`, its fields empty; their expressions; where it ends."""
    out: list[str] = []
    values: list[str] = []
    while at < len(source) and not source.startswith(end, at):
        if source.startswith("\\N{", at) and not raw:
            stop = source.find("}", at) + 1 or len(source)
        elif (source[at] == "\\" and not raw) or (source.startswith(("{{", "}}"), at) and end != "}"):
            stop = at + 2
        elif source[at] == "{":
            text, inner, at = _field(source, at + 1, raw)
            out.append(text)
            values += inner
            continue
        else:
            stop = at + 1
        out.append(source[at:stop])
        at = stop
    return "".join(out), values, at


def _field(source: str, at: int, raw: bool) -> tuple[str, list[str], int]:
    """A field after its opening brace: what stands for it in the template, its expressions, where it ends."""
    start, depth = at, 0
    while at < len(source):
        found = _STRING.match(source, at)
        if found and not (found["quote"] is None and depth < 0):
            at = found.end() if found["quote"] is None else _skip(source, found)
            continue
        character = source[at]
        if depth == 0 and (character in ":}" or (character == "!" and source[at + 1 : at + 2] != "=")):
            break
        depth += (character in _OPEN) - (character in _CLOSE)
        at += 2 if source.startswith("!=", at) else 1
    value, label, conversion = source[start:at], "", ""
    shown = re.fullmatch(r"(?s)(.*[^=!<>])=\s*", value)
    if shown:
        label, value = repr(value), shown[1]
    if source.startswith("!", at):
        conversion = source[at : at + 2]
        at += 2
    values, text = [value], ""
    if source.startswith(":", at):
        text, inner, at = _template(source, at + 1, "}", raw)
        values, text = values + inner, f":{text}"
    elif shown and not conversion:
        conversion = "!r"
    if label:
        return f"{{}}{{{conversion}{text}}}", [label, *values], at + 1
    return f"{{{conversion}{text}}}", values, at + 1


def _skip(source: str, found: re.Match) -> int:
    """Where a string inside of a field ends."""
    if "f" not in found["prefix"].lower():
        return _end_of_string(source, found)
    *_, at = _template(source, found.end(), found["quote"], "r" in found["prefix"].lower())
    return min(len(source), at + len(found["quote"]))
