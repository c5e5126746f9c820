"""The EVALUATION section of util.py, against the plain ways of computing the same numbers."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jupytext
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

import util
from data.nih import FINDINGS
from data.prediction_tables import PredictionTable, write_predictions

COURSE = Path(util.__file__).parent


def cohort(rows=600, findings=5, patients=250, decimals=2, seed=0):
    """Labels, tied scores and patients with unequal numbers of films."""
    rng = np.random.default_rng(seed)
    y = (rng.random((rows, findings)) < [0.02, 0.1, 0.3, 0.5, 0.9][:findings]).astype(int)
    pred = expit(rng.normal(size=y.shape) + y).round(decimals)
    return y, pred, rng.integers(patients, size=rows)


def loop_auroc(y, pred, patient, counts):
    areas = np.full((counts.shape[1], y.shape[1]), np.nan)
    for sample in range(counts.shape[1]):
        rows = np.repeat(np.arange(len(y)), counts[patient, sample].astype(int))
        for k in range(y.shape[1]):
            if 0 < y[rows, k].sum() < rows.size:
                areas[sample, k] = roc_auc_score(y[rows, k], pred[rows, k])
    return areas


@pytest.mark.parametrize("decimals", [1, 2, 9])  # many ties, some, none
def test_bootstrap_agrees_with_the_loop(decimals):
    y, pred, ids = cohort(decimals=decimals)
    patient, counts = util.resample_patients(ids, 40, np.random.default_rng(1))
    fast, slow = util.bootstrap_auroc(y, pred, patient, counts), loop_auroc(y, pred, patient, counts)
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-12)
    assert np.ptp(fast, axis=0).min() > 0.005  # the samples do differ


def test_bootstrap_of_unchanged_sample_is_the_auroc_itself():
    y, pred, ids = cohort()
    patient = np.unique(ids, return_inverse=True)[1]
    once = np.ones((patient.max() + 1, 1), dtype=np.float32)
    expected = [roc_auc_score(y[:, k], pred[:, k]) for k in range(y.shape[1])]
    np.testing.assert_allclose(util.bootstrap_auroc(y, pred, patient, once)[0], expected, rtol=0, atol=1e-13)


def test_samples_with_one_class_only_give_nan_and_no_warning():
    y, pred, _ids = cohort(rows=30, patients=10)
    y[:, 0], y[:, 1] = 0, 1
    y[:, 2] = 0
    y[0, 2] = 1  # one positive: missed by about a third of the samples
    with np.errstate(all="raise"):
        patient, counts = util.resample_patients(np.arange(30), 60, np.random.default_rng(0))
        areas = util.bootstrap_auroc(y, pred, patient, counts)
    assert np.isnan(areas[:, :2]).all()
    missed = counts[0] == 0
    assert 5 < missed.sum() < 50
    np.testing.assert_array_equal(np.isnan(areas[:, 2]), missed)


def test_resampling_draws_whole_patients():
    ids = np.array(["b", "a", "b", "c", "b"])
    patient, counts = util.resample_patients(ids, 3000, np.random.default_rng(0))
    assert patient.tolist() == [1, 0, 1, 2, 1]
    assert counts.shape == (3, 3000)
    np.testing.assert_array_equal(counts.sum(axis=0), 3)
    np.testing.assert_allclose(counts.mean(axis=1), 1, atol=0.06)  # each patient equally likely, however many films
    np.testing.assert_allclose((counts == 0).mean(axis=1), (2 / 3) ** 3, atol=0.04)  # with replacement


def test_intervals_of_patients_are_wider_than_of_films_that_are_copies():
    y, pred, _ = cohort(rows=200, findings=4)
    y, pred = np.repeat(y, 5, axis=0), np.repeat(pred, 5, axis=0)
    names, rng = list("abcd"), np.random.default_rng
    films = util.auroc_intervals(y, pred, np.arange(1000), names, rng(0))
    patients = util.auroc_intervals(y, pred, np.arange(1000) // 5, names, rng(0))
    ratio = (patients.high - patients.low) / (films.high - films.low)
    np.testing.assert_allclose(ratio[1:], np.sqrt(5), rtol=0.2)  # five copies hold no more information than one
    assert ((patients.low < patients.AUROC) & (patients.high > patients.AUROC)).all()


def test_interval_is_from_2_5_to_97_5_percent():
    low, high = util.percentile_interval(np.arange(1001.0))
    assert (low, high) == pytest.approx((25, 975))
    low, high = util.percentile_interval(np.column_stack([np.r_[np.arange(1001.0), np.nan], np.full(1002, np.nan)]))
    np.testing.assert_allclose(low, [25, np.nan])
    np.testing.assert_allclose(high, [975, np.nan])


def test_interval_holds_the_truth_as_often_as_it_says():
    # AUROC of two normals with means 1 apart
    truth, rng, held = 0.7602, np.random.default_rng(0), 0
    for _ in range(200):
        y = np.repeat([[0], [1]], [150, 60], axis=0)
        table = util.auroc_intervals(y, rng.normal(size=y.shape) + y, np.arange(210), ["x"], rng, n_resamples=200)
        held += table.low.iloc[0] < truth < table.high.iloc[0]
    assert 0.89 <= held / 200 <= 0.99


def test_bootstrap_metric_draws_the_same_samples():
    y, pred, ids = cohort(findings=3)
    loop = util.bootstrap_metric(util.auroc, ids, np.random.default_rng(4), y[:, 2], pred[:, 2], n_resamples=20)
    fast = util.bootstrap_auroc(y, pred, *util.resample_patients(ids, 20, np.random.default_rng(4)))[:, 2]
    np.testing.assert_allclose(loop, fast, rtol=0, atol=1e-12)


SPEED = """
import time, numpy as np, util
rng = np.random.default_rng(0)
prevalence = np.geomspace(0.18, 0.002, 14)
y = (rng.random((11_000, 14)) < prevalence).astype(int)
pred = 1 / (1 + np.exp(-(rng.normal(size=y.shape) + 1.3 * y)))
def fast():
    start = time.perf_counter()
    util.bootstrap_auroc(y, pred, *util.resample_patients(np.arange(11_000), 1000, np.random.default_rng(1)))
    return time.perf_counter() - start
def loop():
    start = time.perf_counter()
    for _ in range(4):
        rows = rng.integers(11_000, size=11_000)
        for k in range(14):
            util.auroc(y[rows, k], pred[rows, k])
    return (time.perf_counter() - start) * 1000 / 4
fast()
print(min(fast() for _ in range(3)), min(loop() for _ in range(3)))
"""


def test_bootstrap_is_fast_on_one_core():
    one_core = {**os.environ, **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}}
    run = subprocess.run([sys.executable, "-c", SPEED], cwd=COURSE, env=one_core, capture_output=True, text=True, check=True)
    fast, loop = map(float, run.stdout.split())
    print(
        f"14 findings × 1,000 resamples × 11,000 rows: {fast:.2f} s; loop over roc_auc_score: {loop:.0f} s; ratio {loop / fast:.0f}"
    )
    assert fast <= 2
    assert loop / fast >= 20


class TestPerformanceTable:
    y = np.array([[1, 0], [0, 0], [1, 0], [0, 1]])
    pred = np.array([[0.9, 0.1], [0.6, 0.2], [0.4, 0.3], [0.1, 0.4]])

    def test_starts_not_defined(self):
        table = util.performance_table(self.y, self.pred, ["A", "B"])
        assert table.isna().all(axis=None)
        assert list(table.columns) == [
            "TP",
            "TN",
            "FP",
            "FN",
            "Accuracy",
            "Prevalence",
            "Sensitivity",
            "Specificity",
            "PPV",
            "NPV",
            "AUC",
            "F1",
            "Threshold",
        ]

    def test_fills_what_is_there_with_the_right_arguments(self):
        seen = []

        def unwritten(*arguments):
            raise NotImplementedError

        metrics = {
            "TP": lambda y, pred, th: ((pred >= th) & (y == 1)).sum(),
            "Prevalence": lambda y: y.mean(),
            "AUC": util.auroc,
            "F1": unwritten,
            "FN": lambda y, pred, th: seen.append(th) or 7,
        }
        table = util.performance_table(self.y, self.pred, ["A", "B"], metrics, thresholds=[0.3, 0.4])
        assert table["TP"].tolist() == [2, 1] and seen == [0.3, 0.4]
        assert table["Prevalence"].tolist() == [0.5, 0.25] and table["AUC"].tolist() == [0.75, 1.0]
        assert table[["F1", "PPV"]].isna().all(axis=None)
        assert table["Threshold"].tolist() == [0.3, 0.4]

    def test_computes_with_one_half_when_no_threshold_is_given(self):
        table = util.performance_table(self.y, self.pred, ["A", "B"], {"FP": lambda y, pred, th: th * 10})
        assert table["FP"].tolist() == [5, 5] and table["Threshold"].isna().all()

    def test_without_a_threshold_nothing_that_needs_one_is_claimed(self):
        metrics = {"TP": lambda y, pred, th: (pred >= th).sum(), "Sensitivity": lambda y, pred, th: 0.0, "AUC": util.auroc}
        table = util.performance_table(self.y, self.pred, ["A", "B"], metrics, thresholds=[0.5, np.nan])
        assert table["TP"].tolist()[0] == 2 and np.isnan(table["TP"].tolist()[1])
        assert table["Sensitivity"].isna().tolist() == [False, True] and table["AUC"].notna().all()

    def test_refuses_a_misspelt_metric(self):
        with pytest.raises(ValueError, match="Recall"):
            util.performance_table(self.y, self.pred, ["A", "B"], {"Recall": len})


def shown_table(frame: pd.DataFrame, **options) -> dict[str, str]:
    with mock.patch.object(util, "display") as display:
        util.show_table(frame, "Films & <scans>", "simulated", **options)
    return display.call_args.args[0]


def test_a_table_needs_no_style_sheet_and_no_colour_of_its_own():
    """GitHub strips style sheets, and a grey of one's own is unreadable in a dark theme."""
    frame = pd.DataFrame({"A<B": [0.12345, np.nan], "file": ["1_000.png", None], "n": pd.Series([7, np.nan], dtype=object)})
    frame.index = ["Pleural_Thickening", "Mass|Pleural_Thickening"]
    shown = shown_table(frame, precision=2)
    html, cells = shown["text/html"], re.findall(r"<t[dh]\b[^>]*>([^<]*)<", shown["text/html"])
    assert cells[1:] == ["A&lt;B", "file", "n", "Pleural Thickening", "0.12", "1_000.png", "7", "Mass|Pleural Thickening", *"–––"]
    assert "<style" not in html and "color" not in html and "nan" not in html.lower()
    assert re.search(r'<caption align="left"[^>]*><i>Films &amp; &lt;scans&gt; \(simulated\)</i></caption>', html)
    assert "0.12" in shown["text/plain"] and "nan" not in shown["text/plain"].lower()
    assert "font-size" in shown_table(frame, small=True)["text/html"]


def test_progress_is_shown_on_standard_output_in_a_notebook(monkeypatch, capsys):
    assert list(util.progress(range(3), "counting")) == [0, 1, 2]
    assert "counting: 100%" in capsys.readouterr().err
    kernel = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr(sys, "stdout", kernel)
    assert list(util.progress(range(3), "counting", unit="film")) == [0, 1, 2]
    assert "counting: 100%" in kernel.getvalue() and "film/s" in kernel.getvalue() and not capsys.readouterr().err


def test_temperature_is_found():
    rng = np.random.default_rng(0)
    truth = expit(rng.normal(size=20_000) * 2)
    y = (rng.random(truth.size) < truth).astype(int)
    for temperature in (0.5, 1, 3):
        found = util.fit_temperature(y, expit(logit(truth) * temperature))
        assert found == pytest.approx(temperature, rel=0.05)
    assert np.isfinite(util.fit_temperature(y, y.astype(float)))  # probabilities of exactly 0 and 1


def test_auroc_of_one_class_is_nan():
    assert np.isnan(util.auroc([0, 0], [0.1, 0.2])) and np.isnan(util.auroc([1, 1], [0.1, 0.2]))
    assert util.auroc([0, 1], [0.1, 0.2]) == 1


@pytest.mark.parametrize("kind", ["roc", "pr"])
def test_curve_grid_marks_the_threshold_where_it_lies(kind):
    y = np.array([[0, 0], [0, 0], [1, 0], [0, 0], [1, 0]])
    pred = np.tile([[0.1], [0.2], [0.3], [0.4], [0.5]], 2)
    fig = util.plot_curve_grid(kind, y, pred, ["A", "B"], points=[0.25, 0.5])
    mark = next(line for line in fig.axes[0].lines if line.get_marker() == "o")
    expected = (1 / 3, 1) if kind == "roc" else (1, 2 / 3)
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx(expected)
    assert "one class only" in fig.axes[1].get_title()
    plt.close(fig)


def run_lesson(folder, capsys) -> tuple[dict, str]:
    """Run the code of notebook 02 on a folder, in this process and without its checks; what it defines and prints."""
    cells = jupytext.read(COURSE / "lessons" / "02_diagnostic_model_evaluation.py").cells
    scope = {}
    for cell in cells:
        if cell.cell_type == "code" and "setup" not in cell.metadata.get("tags", []) and "check" not in cell.metadata:
            code = cell.source.replace("DATA_DIR = None", f"DATA_DIR = {str(folder)!r}").replace("QUICK = False", "QUICK = True")
            exec(compile(code, f"cell: {cell.source[:60]}", "exec"), scope)
            plt.close("all")
    return scope, capsys.readouterr().out


def test_lesson_runs_where_findings_lack_a_class(tmp_path, capsys):
    rng, tables = np.random.default_rng(0), {}
    for split, (rows, first) in {"valid": (400, 0), "test": (240, 1000)}.items():
        y = (rng.random((rows, 14)) < np.linspace(0.3, 0.05, 14)).astype(int)
        about = pd.DataFrame(
            {"Patient ID": (first + np.arange(rows) // 2).astype(str), "Patient Gender": rng.choice(["F", "M"], rows)}
        )
        tables[split] = PredictionTable(about, y, expit(rng.normal(size=y.shape) + 2 * y - 1))
    mass, edema, hernia = (FINDINGS.index(name) for name in ("Mass", "Edema", "Hernia"))
    tables["valid"].y[:, mass], tables["valid"].y[:, edema], tables["test"].y[:, hernia] = 0, 1, 0
    scope, printed = run_lesson(write_predictions(tmp_path / "odd", tables, simulated=False), capsys)

    assert scope["source"] == "real patients: odd"
    for note in (
        "no positive X-ray of Mass",
        "no negative X-ray of Edema",
        "test: no positive X-ray of Hernia",
        "no column View Position",
    ):
        assert note in printed
    final = scope["final"]
    assert np.isnan(final.loc["Hernia", "AUROC"]) and np.isnan(final.loc["Hernia", "Sensitivity"])
    assert np.isnan(final.loc["Mass", "threshold"]) and np.isnan(final.loc["Mass", "PPV"]) and final.loc["Mass", "AUROC"] > 0.8
    assert final.drop(index=["Mass", "Edema", "Hernia"]).notna().all(axis=None)
    assert list(scope["by_group"].index) == ["women", "men"]


def test_lesson_runs_on_real_predictions(real_data, capsys):
    scope, printed = run_lesson(real_data / "predictions", capsys)
    assert "every X-ray counts as a patient of its own" in printed and "nothing to compare" in printed
    assert scope["by_patient"]["AUROC"].mean() > 0.8
    assert (
        scope["calibration"].loc["as it is", "ECE"] < scope["calibration"].loc["weights undone", "ECE"]
    )  # trained without weights
