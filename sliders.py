"""Figures that a reader can turn: sliders, lists and boxes in Jupyter, one still figure everywhere else."""

import inspect
import os
from collections.abc import Callable
from typing import Any

from IPython import get_ipython
from IPython.display import display


def is_still() -> bool:
    """Whether nobody can turn anything: without Jupyter, or where notebooks run without a person (COURSE_STATIC is set)."""
    return bool(os.environ.get("COURSE_STATIC")) or get_ipython() is None


def play(draw: Callable, **choices: tuple[float, float] | list[str] | type[bool]) -> None:
    """Draw a figure, in Jupyter with a control for each argument that is named.

    Parameters
    ----------
    draw : callable
        Shows the figure and has default values. Where nobody can turn anything it is called once, with these.
    **choices
        Of an argument: a slider from low to high, of whole numbers where its default is one; a list of names to choose from;
        or `bool` for a box to tick.
    """
    if is_still():
        draw()
        return
    import ipywidgets

    parameters = inspect.signature(draw).parameters
    controls = {name: _control(ipywidgets, name, choice, parameters[name].default) for name, choice in choices.items()}
    boxes = [box for box in controls.values() if isinstance(box, ipywidgets.Checkbox)]
    others = [control for control in controls.values() if control not in boxes]
    display(ipywidgets.VBox([*others, ipywidgets.HBox(boxes), ipywidgets.interactive_output(draw, controls)]))


def mark(count: int, question: str, without_a_person: list[bool], score: Callable[[list[bool]], None]) -> None:
    """Let a person mark some of the pictures 1 to `count` by buttons, and call `score` with the answers.

    Where nobody can press a button, `without_a_person` is scored at once.
    """
    if is_still():
        score(list(without_a_person))
        return
    import ipywidgets

    narrow = ipywidgets.Layout(width="46px")
    buttons = [ipywidgets.ToggleButton(description=str(number), layout=narrow) for number in range(1, count + 1)]
    done = ipywidgets.Button(description="Score my reading", button_style="primary")
    result = ipywidgets.Output()

    def finish(_) -> None:
        result.clear_output(wait=True)
        with result:
            score([button.value for button in buttons])

    done.on_click(finish)
    rows = [ipywidgets.HBox(buttons[start : start + 10]) for start in range(0, count, 10)]
    display(ipywidgets.VBox([ipywidgets.Label(question), *rows, done, result]))


def _control(widgets: Any, name: str, choice: Any, start: Any) -> Any:
    text = name.replace("_", " ")
    if choice is bool:
        return widgets.Checkbox(start, description=text, indent=False)
    if isinstance(choice, list):
        return widgets.ToggleButtons(options=choice, value=start, description=text)
    low, high = choice
    wide = {"description": text, "continuous_update": False, "layout": widgets.Layout(width="480px")}  # two pixels a slice
    if isinstance(start, int):
        return widgets.IntSlider(start, low, high, **wide)
    return widgets.FloatSlider(start, min=low, max=high, step=(high - low) / 100, **wide)
