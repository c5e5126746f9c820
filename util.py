"""Helpers that the three notebooks share: figures, chest films, evaluation, brain scans.

The lessons import this file; it imports only `data`. What is taught is written in the notebooks themselves, what is only
needed is here.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display

COURSE = Path(__file__).parent

# ---------------------------------------------------------------------------------------------------------------------
# FIGURES AND TABLES
# ---------------------------------------------------------------------------------------------------------------------

HEADLINE_MIME = "application/vnd.course.headline+json"


def use_course_style() -> None:
    """Set the look of all figures: quiet axes, readable type, a colour-blind-safe palette (Okabe and Ito, 2008)."""
    colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
    plt.rcParams.update(
        {
            "figure.dpi": 80,
            "savefig.dpi": 80,
            "figure.figsize": (8, 4),
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.prop_cycle": plt.cycler(color=colours),
            "legend.frameon": False,
            "image.cmap": "gray",
        }
    )


def sign_figure(fig: plt.Figure, source: str) -> None:
    """Write where the data of a figure are from ("simulated", "real patients: …") into its lower right corner."""
    fig.supxlabel(source, x=0.995, ha="right", fontsize=8, color="#666666", style="italic")
    plt.show()


def show_table(frame: pd.DataFrame, caption: str, source: str, precision: int = 3) -> None:
    """Show a table with its caption, the source of its data and numbers of equal precision."""
    display(
        frame.style.set_caption(f"{caption} ({source})")
        .format(precision=precision, na_rep="–")
        .set_table_styles([{"selector": "caption", "props": "caption-side: top; text-align: left; font-style: italic"}])
    )


def headline(numbers: dict[str, float], source: str) -> None:
    """Print the numbers that a notebook comes down to and leave them where the course's tools find them.

    Parameters
    ----------
    numbers : dict of str to float
        Name, as a reader should see it, to value.
    source : str
        Where the data are from.
    """
    numbers = {name: float(value) for name, value in numbers.items()}
    text = "\n".join(f"{name}: {value:.3f}" for name, value in numbers.items()) + f"\n({source})"
    display({"text/plain": text, HEADLINE_MIME: {"source": source, "numbers": numbers}}, raw=True)


# ---------------------------------------------------------------------------------------------------------------------
# CHEST FILMS (notebook 01)
# ---------------------------------------------------------------------------------------------------------------------


# ---------------------------------------------------------------------------------------------------------------------
# EVALUATION (notebook 02)
# ---------------------------------------------------------------------------------------------------------------------


# ---------------------------------------------------------------------------------------------------------------------
# BRAIN SCANS (notebook 03)
# ---------------------------------------------------------------------------------------------------------------------
