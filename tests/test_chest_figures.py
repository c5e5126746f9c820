"""Figures of notebook 01: that they show the numbers they were given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss

import util

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def test_calibration_scores_are_those_of_the_plain_way():
    y, pred = RNG.integers(0, 2, (60, 3)), RNG.random((60, 3)).round(2)
    pred[0] = 1  # belongs to the last bin
    gaps = []
    for k in range(3):
        cell = np.minimum(np.floor(pred[:, k] * 10), 9)
        of_cell = [cell == number for number in range(10)]
        gaps.append(sum(abs(y[rows, k].mean() - pred[rows, k].mean()) * rows.mean() for rows in of_cell if rows.any()))
    scores = util.calibration_scores(y, pred)
    assert scores["ECE"] == pytest.approx(np.mean(gaps))
    assert scores["Brier"] == pytest.approx(np.mean([brier_score_loss(y[:, k], pred[:, k]) for k in range(3)]))


def test_numbers_are_those_of_the_pixels():
    film = RNG.integers(0, 256, (40, 40)).astype(np.uint8)
    fig = util.plot_numbers(film, row=5, column=7, side=3)
    assert [text.get_text() for text in fig.axes[1].texts] == [str(grey) for grey in film[5:8, 7:10].ravel()]


def test_transfer_draws_means_bands_and_points():
    scores = pd.DataFrame({"features": ["a"] * 3 + ["b"] * 3, "X-rays": [50, 50, 100] * 2, "AUROC": [0.5, 0.6, 0.7, 0.6, 0.8, 0.9]})
    fig = util.plot_transfer(scores, {"point": {100: 0.75}}, {"line": 0.8})
    lines = {line.get_label(): line for line in fig.axes[0].lines}
    assert np.allclose(lines["a"].get_ydata(), [0.55, 0.7]) and np.allclose(lines["b"].get_ydata(), [0.7, 0.9])
    assert (lines["point"].get_xdata()[0], lines["point"].get_ydata()[0]) == (100, 0.75) and lines["line"].get_ydata()[0] == 0.8
    assert [text.get_text() for text in fig.axes[0].get_xticklabels()] == ["50", "100"]


def test_reliability_shows_what_was_said_and_what_was_so():
    y, pred = np.array([[0, 1], [0, 1], [1, 0]]), np.array([[0.12, 0.85], [0.18, 0.85], [0.15, 0.05]])
    for ax in util.plot_reliability_row(y, {"one": pred, "two": pred}).axes:
        assert np.allclose(ax.lines[1].get_data(), [[0.05, 0.15, 0.85], [0, 1 / 3, 1]])


def test_two_hospitals_stand_side_by_side():
    areas = {
        place: pd.DataFrame({"AUROC": [value, 0.7], "low": [0.5, 0.6], "high": [0.9, 0.8]}, index=["Mass", "Pleural_Thickening"])
        for place, value in (("A", 0.8), ("B", 0.6))
    }
    y, pred = RNG.integers(0, 2, (50, 2)), RNG.random((50, 2))
    left, right = util.plot_two_hospitals(areas, dict.fromkeys(["A", "B", "B again"], (y, pred))).axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["Mass", "Pleural Thickening"]
    said = right.lines[1].get_xdata()
    assert len(said) == 10 and said.mean() == pytest.approx(pred.mean())


def test_tables_of_the_cohort_are_drawn_as_they_are():
    n = 40
    table = pd.DataFrame(
        {
            "Patient ID": RNG.integers(0, 20, n),
            "Patient Age": RNG.integers(20, 80, n).astype(float),
            "Patient Gender": RNG.choice(["F", "M"], n),
            "View Position": ["AP", "PA"] * (n // 2),
        }
    )
    abnormal = np.array([True, False] * (n // 2))
    bars = util.plot_people(table, abnormal).axes[1].patches
    assert {round(bar.get_height(), 6) for bar in bars} == {0.0, 1.0}
    films = np.where((table["View Position"] == "AP").to_numpy()[:, None, None], 200, 100).astype(np.uint8) * np.ones(
        (1, 8, 8), np.uint8
    )
    pictures = [ax.images[0].get_array() for ax in util.plot_views(films, table["View Position"]).axes if ax.images]
    assert [picture.mean() for picture in pictures] == [100, 200]


def test_cooccurrence_leaves_out_the_diagonal():
    shares = RNG.random((14, 14))
    ax = util.plot_cooccurrence(shares).axes[0]
    assert len(ax.texts) == 14 * 13 and ax.texts[0].get_text() == f"{100 * shares[0, 1]:.0f}"


def test_shares_of_the_loss_add_up():
    positive = np.linspace(0, 0.5, 14)
    fig = util.plot_loss_shares({"plain": (positive, 1 - positive), "none": (positive * 0, positive * 0)})
    widths = np.array([bar.get_width() for bar in fig.axes[0].patches]).reshape(2, 14)
    assert np.allclose(widths.sum(axis=0), 100) and np.allclose(widths[0], 100 * positive)
    assert not any(bar.get_width() for bar in fig.axes[1].patches)
