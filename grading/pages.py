"""HTML pages from the templates in `templates/`: everything is escaped unless a template says otherwise, and none does.

The pages have no scripts and load nothing; a policy in each forbids both, should an escape ever fail.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from .texts import COLOUR, MEANING, SYMBOL, spans, visible

TEMPLATES = Path(__file__).parent / "templates"
FIELD = re.compile(r"^  (input|expected|got|where): +(.*)$")


class Message(NamedTuple):
    """What a check said: the text, and its lines `input:`, `expected:`, `got:` as pairs."""

    text: str
    fields: list[tuple[str, str]]


def parts(message: str) -> Message:
    """Take a check's message apart."""
    text, fields = [], []
    for line in message.split("\n"):
        match = FIELD.match(line)
        if match:
            fields.append((match[1], match[2]))
        elif fields:
            fields[-1] = (fields[-1][0], f"{fields[-1][1]}\n{line}")
        else:
            text.append(line)
    return Message("\n".join(text).strip(), fields)


def prose(text: str) -> jinja2.utils.markupsafe.Markup:
    """A text with what stands between backticks as code; all of it escaped."""
    escape = jinja2.utils.markupsafe.escape
    markup = jinja2.utils.markupsafe.Markup
    return markup("").join(
        markup(f"<code>{escape(piece)}</code>") if code else escape(piece) for code, piece in spans(visible(text))
    )


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    made.filters |= {"visible": visible, "parts": parts, "prose": prose}
    made.globals |= {
        "colour": COLOUR,
        "symbol": SYMBOL,
        "meaning": MEANING,
        "style": jinja2.utils.markupsafe.Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
    }
    return made


def page(template: str, **values: Any) -> str:
    """A whole page."""
    return _environment().get_template(template).render(**values)


def title_of(name: str) -> str:
    """A lesson's name for people: 02_diagnostic_model_evaluation → Notebook 2: diagnostic model evaluation."""
    number, _, rest = name.partition("_")
    return f"Notebook {int(number)}: {rest.replace('_', ' ')}" if number.isdigit() else name
