"""The comparison of simulated with real films, on films whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from data.chest_simulator import cohort as chest_cohort
from data.chest_simulator import compare
from data.nih import FINDINGS, read_chest_folder


def films(count: int, size: int = 64, grain: int = 1, level: float = 120, seed: int = 0) -> np.ndarray:
    """Noise films: `grain` pixels to a grain, standard deviation 30."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(level, 30, (count, size // grain, size // grain))
    return np.clip(np.kron(noise, np.ones((1, grain, grain))), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return chest_cohort.chest_cohort(
        tmp_path_factory.mktemp("compare") / "chest", films=70, seed=3, size=48, jobs=2, progress=False
    )


def test_grey_levels_are_shares_of_pixels():
    film = np.zeros((1, 16, 16), np.uint8)
    film[0, :4] = 255
    levels = compare.grey_levels(film)
    assert levels.shape == (1, 32) and levels[0, 0] == 0.75 and levels[0, 31] == 0.25


def test_spectrum_peaks_at_the_frequency_of_a_grating():
    n, cycles = 128, 17
    wave = np.round(120 + 60 * np.sin(2 * np.pi * cycles * np.arange(n) / n)).astype(np.uint8)
    spectrum = compare.spectra(np.repeat(wave[None, None], n, 1))
    assert spectrum.shape == (1, n // 2 - 1)
    assert spectrum[0].argmax() + 1 == cycles
    doubled = np.round(120 + 30 * np.sin(2 * np.pi * cycles * np.arange(n) / n)).astype(np.uint8)
    half = compare.spectra(np.repeat(doubled[None, None], n, 1))
    assert spectrum[0, cycles - 1] - half[0, cycles - 1] == pytest.approx(np.log10(4), abs=0.02)


def test_local_contrast_of_noise_is_its_standard_deviation():
    deciles = compare.local_contrast(films(3))
    assert deciles.shape == (3, 9) and (np.diff(deciles) >= 0).all()
    assert deciles[:, 4] == pytest.approx(30, abs=2)
    assert compare.local_contrast(np.full((1, 64, 64), 7, np.uint8)).max() == pytest.approx(0, abs=1e-3)


def test_halves_share_no_patient():
    patients = np.repeat(np.arange(30), 3)
    half = compare.halves(patients, 1)
    assert not set(patients[half]) & set(patients[~half]) and half.sum() == 45
    assert (compare.halves(patients, 2) != half).any()


def test_comparison_tells_like_from_unlike():
    """Films of the same kind are about as far from one another as halves; coarser or darker ones much farther."""
    patients = np.repeat(np.arange(40), 2)
    real = films(80, seed=1)
    same, coarse, dark = (
        compare.compare(other, real, patients, repeats=6)["ratio"]
        for other in (films(80, seed=2), films(80, grain=4, seed=2), films(80, level=90, seed=2))
    )
    assert (same < 2).all()
    assert coarse["spectrum"] > 5 and coarse["local contrast"] > 5
    assert dark["grey levels"] > 5


def test_true_heart_ratio_is_large_where_cardiomegaly_is(cohort):
    truth = pd.read_csv(cohort / "truth.csv").set_index("Image Index")
    large = list(truth.index[truth["Cardiomegaly"] == 1])
    usual = list(truth.index[(truth["Cardiomegaly"] == 0) & (truth["Edema"] == 0)])[:12]
    assert large
    assert min(compare.true_heart_ratios(3, 70, large)) > np.median(compare.true_heart_ratios(3, 70, usual)) + 0.03


def test_heart_ratio_is_estimated_from_patients_not_seen():
    """Bright discs of known width: the estimate follows, also of films without known geometry."""
    rng = np.random.default_rng(0)
    ratios = rng.uniform(0.3, 0.7, 160)
    across = (np.arange(64) - 31.5) / 26
    discs = np.hypot(across[None, :, None], across[None, None, :]) < ratios[:, None, None]
    pictures = np.clip(np.where(discs, 200, 60) + rng.normal(0, 10, discs.shape), 0, 255).astype(np.uint8)
    held_out, others = compare.estimate_heart_ratios(pictures[:120], ratios[:120], np.arange(120) // 2, pictures[120:])
    for estimate, truth in ((held_out, ratios[:120]), (others, ratios[120:])):
        assert np.abs(estimate - truth).mean() < 0.03 and np.corrcoef(estimate, truth)[0, 1] > 0.95


def test_truth_is_taken_where_there_is_one(cohort):
    chest = read_chest_folder(cohort)
    labels = compare.truth(chest, chest.table)
    expected = pd.read_csv(cohort / "truth.csv").set_index("Image Index").loc[chest.table["Image Index"], list(FINDINGS)]
    assert (labels == expected.to_numpy()).all()
    assert (labels != chest.table[list(FINDINGS)].to_numpy()).any()  # the mined labels err


def test_auroc_of_given_predictions(tmp_path):
    rng = np.random.default_rng(0)
    table = {}
    for name in FINDINGS:
        table[name] = np.arange(40) % 2
        table[f"{name}_pred"] = table[name] + rng.normal(0, 0.01, 40)
    table["Hernia"] = np.zeros(40)
    table["Mass_pred"] = -table["Mass_pred"]
    pd.DataFrame(table).to_csv(tmp_path / "p.csv", index=False)
    result = compare.given_predictions(tmp_path / "p.csv")["p.csv"]
    assert result["Nodule"] == 1 and result["Mass"] == 0 and np.isnan(result["Hernia"])
    pd.DataFrame(table).drop(columns="Edema_pred").to_csv(tmp_path / "q.csv", index=False)
    with pytest.raises(compare.DataError, match="no column Edema_pred"):
        compare.given_predictions(tmp_path / "q.csv")


def test_small_network_finds_a_spot_that_is_there():
    rng = np.random.default_rng(5)
    labels = np.zeros((160, len(FINDINGS)), np.float32)
    labels[:, 2] = rng.random(160) < 0.5
    drawn = films(160, size=32)
    for film, spot in zip(drawn, labels[:, 2], strict=True):
        if spot:
            row, column = rng.integers(4, 20, 2)
            film[row : row + 7, column : column + 7] = 250
    predict = compare.train_small_network(drawn[:120], labels[:120], epochs=8)
    found = compare.auroc(labels[120:], predict(drawn[120:]))
    assert found[2] > 0.9 and np.isnan(found[[0, 1, 3]]).all()


def test_small_network_is_tested_on_films_that_it_was_not_trained_on(cohort, monkeypatch):
    chest, seen = read_chest_folder(cohort), []

    def learn(part, labels):
        seen.append((part.copy(), labels))
        return lambda others: np.tile(others.mean((1, 2))[:, None], (1, len(FINDINGS)))

    monkeypatch.setattr(compare, "train_small_network", learn)
    table = compare.train_and_test(chest, chest, 30, 24)
    (part, labels), test = seen[0], (chest.table["split"] == "test").sum()
    assert part.shape == (30, 24, 24) and labels.shape == (30, len(FINDINGS))
    assert list(table) == ["simulated test", "positive (simulated test)", "real", "positive (real)"] and list(table.index) == list(
        FINDINGS
    )
    truth = compare.truth(chest, chest.table)
    assert table["positive (real)"].tolist() == truth.sum(0).tolist()
    assert table["positive (simulated test)"].tolist() == truth[chest.table["split"] == "test"].sum(0).tolist() and test > 0


def test_command_line_prints_and_draws(cohort, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compare, "SIZE", 48)
    picture = tmp_path / "sheet.png"
    assert compare.main([str(cohort), str(cohort), "--films", "70", "--sheet", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "grey levels" in printed and "Cardiothoracic ratio" in printed and "mean absolute" in printed
    assert picture.stat().st_size > 10_000
    assert compare.main([str(tmp_path), str(cohort)]) == 1
    assert "DataError" in capsys.readouterr().err
    assert compare.main([str(cohort)]) == 1
    assert "--sheet" in capsys.readouterr().err


def test_sheet_has_a_film_of_each_finding(cohort):
    """Findings are asked for in turn; a folder in which one is lacking is named."""
    chest = read_chest_folder(cohort)
    table = chest.table.assign(split="test")
    picture = compare.finding_sheet(chest.with_table(table), size=40)
    assert picture.shape == (3 * 56, 5 * 44)
    none_left = table[compare.truth(chest, table)[:, FINDINGS.index("Hernia")] == 0]
    with pytest.raises(compare.DataError, match="Hernia"):
        compare.finding_sheet(chest.with_table(none_left), size=40)
