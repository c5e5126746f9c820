"""The benchmarks' own parts; and, where TORCH_PYTHON names a Python with benchmarks/requirements.txt, a tiny comparison."""

import json
import os
import sys
import time

import numpy as np
import pytest

from benchmarks import compare, inputs, pipelines
from data.decathlon import brain_box
from models.brain.network import unet3d
from models.brain.predict import tile_corners


def test_the_scan_fills_its_box_and_lies_in_the_archives_matrix():
    box, whole = inputs.scan(96, False), inputs.scan(96, True)
    assert box.shape == (144, 192, 144, 4) and whole.shape == (240, 240, 155, 4)
    assert [(part.start, part.stop) for part in brain_box(box)] == [(0, 144), (0, 192), (0, 144)]
    np.testing.assert_array_equal(whole[brain_box(whole)], box)


def test_tiles_of_both_sides_coincide_in_the_box():
    """MONAI's lie every half tile, the last one at the border."""
    expected = [[0, 48], [0, 48, 96], [0, 48]]
    corners = np.array(tile_corners((144, 192, 144), (96,) * 3, 0.5))
    assert [sorted(set(axis)) for axis in corners.T.tolist()] == expected


def test_operations_are_counted():
    from benchmarks.cost import multiply_adds

    # folding, two convolutions at half the resolution, unfolding
    assert multiply_adds(unet3d(2, 1, (4,)), (8, 8, 8, 2)) == 64 * (8 * 2 * 4 + 27 * 4 * 4 * 2 + 8 * 4 * 2)


def test_tables_replace_what_stood_between_their_marks(tmp_path):
    file = tmp_path / "README.md"
    file.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb\n")
    compare.write_between(file, "x", "new")
    assert file.read_text() == "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n"


def row(**changed) -> dict:
    """A row as `compare.compare` makes it."""
    numbers = {"rounds": 3, "low": 1.1, "median": 1.234, "high": 1.4, "processor": 1.26, "load": 2.04, "difference": 1.2e-6}
    numbers |= {"ours": 0.5, "ours_processor": 0.9}
    return {"job": "scan box", "cores": 2, "against": "PyTorch", "vectors": "AVX2", "stand_in": None} | numbers | changed


def test_the_table_has_both_memory_formats_side_by_side():
    last = compare.table([row(), row(median=0.9, difference=3e-5)]).splitlines()[-1]
    assert "| AVX2 | 2 | **1.23** (1.10–1.40) | **0.90** (1.10–1.40) | 1.26, 1.26 | 3, 2.0 | 3e-05 |" in last
    training = [{key: value for key, value in row(job="brain train").items() if key != "difference"}] * 2
    assert compare.table(training).endswith("| – |")


@pytest.mark.parametrize(
    "flags, stand_in, expected",
    [
        ("fma avx avx2 avx512f avx512bw avx512vl avx512dq", None, "AVX-512"),
        ("fma avx avx2 avx512f avx512bw avx512vl avx512dq", "avx2", "AVX2 (stand-in)"),
        ("fma avx avx2 avx512f avx512bw avx512vl avx512dq", "no-onednn", "AVX-512, TensorFlow without oneDNN"),
        ("fma avx avx2 avx512f", None, "AVX2"),  # Xeon Phi: not what oneDNN calls AVX-512
        ("fma avx avx2", "avx2", "AVX2"),  # this is such a processor, nothing stands in for it
        ("avx", None, "AVX"),
        ("fp asimd", None, "NEON"),
        ("", None, "unknown"),
    ],
)
def test_the_processors_vectors_are_named_and_stand_ins_are_labelled(flags, stand_in, expected):
    assert compare.vectors(flags, stand_in) == expected


def test_rows_of_stand_ins_stand_beside_the_machines_own(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "STORE", tmp_path / "benchmarks.json")
    monkeypatch.setattr(compare, "README", tmp_path / "README.md")
    compare.README.write_text("<!-- compare -->\n<!-- /compare -->\n")
    compare.keep([row(), row()])
    compare.keep([row(vectors="AVX2 (stand-in)", stand_in="avx2", median=2)] * 2)
    compare.keep([row(median=3), row(median=3)])  # measured again
    stored = json.loads(compare.STORE.read_text())
    assert [(one["vectors"], one["median"]) for one in stored] == [("AVX2", 3)] * 2 + [("AVX2 (stand-in)", 2)] * 2
    assert compare.README.read_text().count("| whole scan, cut to the brain for both |") == 2


def test_a_stand_in_reaches_the_contender_and_nobody_elses_setting_is_lost(monkeypatch, tmp_path):
    monkeypatch.setenv("ONEDNN_VERBOSE", "0")
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    (tmp_path / "tell.py").write_text(
        "import json, os, sys\nfor _ in sys.stdin:\n    print(json.dumps(dict(os.environ)), flush=True)\n"
    )
    for stand_in in (None, *compare.STAND_INS):
        contender = compare.Contender(sys.executable, "tell", 1, stand_in)
        told = contender.ask()
        contender.close()
        own = compare.STAND_INS.get(stand_in, {})
        assert told["ONEDNN_VERBOSE"] == "0" and told["OMP_NUM_THREADS"] == "1"
        assert {name: told[name] for name in own} == own
        assert ("ONEDNN_MAX_CPU_ISA" in told) == (stand_in == "avx2")


@pytest.mark.skipif(
    "TORCH_PYTHON" not in os.environ, reason="TORCH_PYTHON is not set: Python of an environment with PyTorch and MONAI"
)
@pytest.mark.parametrize("job", ["brain predict", "chest predict", "scan box"])
def test_both_sides_compute_the_same(job):
    ours = compare.Contender(sys.executable, "benchmarks.ours", 2)
    theirs = compare.Contender(os.environ["TORCH_PYTHON"], "benchmarks.theirs", 2)
    try:
        rows = compare.compare(job, compare.SMALL[job.split()[0]] | {"cores": 2}, ours, theirs, 1, 0.0)
    finally:
        ours.close()
        theirs.close()
    assert [row["against"] for row in rows] == list(compare.THEIRS)
    assert all(row["difference"] < 2e-4 and row["median"] > 0 for row in rows)


def test_a_slow_pipeline_is_seen():
    """Steps of 5 ms; those that the pipeline feeds take three times as long once what was prepared ahead is used up."""

    def steps(count, seconds, ahead=0):
        ends = []
        for number in range(count):
            time.sleep(0.005 if number < ahead else seconds)
            ends.append(pipelines.now())
        return np.array(ends)

    row = pipelines.compare("x", 2, lambda count: steps(count, 0.005), lambda count: steps(count, 0.015, 2), rounds=3, seconds=0.05)
    assert 2 < row["median"] < 3.5 and row["low"] <= row["median"] <= row["high"]
    assert "| x | **2" in pipelines.table([row]) or "| x | **3" in pipelines.table([row])
