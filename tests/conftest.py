"""What all tests share: where the course and the real data are, the order of the tests, and what is said at the end."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import models  # noqa: E402, F401  settings of TensorFlow, before it is imported

LONG = [  # with several workers these begin first, so that none is left alone with one at the end; whole notebooks not together
    "test_whole_notebook_on_the_simulated_cohort[01]",
    "test_grading.py",
    "test_whole_notebook_on_the_simulated_cohort[03]",
    "test_grading_attacks.py",
    "test_train_chest.py",
    "test_train_brain.py",
    "test_parallel.py",
    "test_execution.py",
]
NO_REAL_DATA = "REAL_DATA is not set: name a folder that holds nih/, brats/ and predictions/ (REAL_DATA=folder make test)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Quick tests first, so that they fail first; with several workers long ones first, so that these end together."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: next((place for place, name in enumerate(LONG) if name in item.nodeid), len(LONG)))
    else:
        items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """A worker takes a file at a time, since its tests share what is costly to make; whole notebooks are taken one by one."""
    from xdist.scheduler import LoadFileScheduling

    class Schedule(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if "test_execution.py" in nodeid else super()._split_scope(nodeid)

    return Schedule(config, log) if config.option.dist == "loadfile" else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands over what it measured."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["measured"] = MEASURED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    """Take over what a worker measured."""
    MEASURED.extend(getattr(node, "workeroutput", {}).get("measured", []))


def pytest_terminal_summary(terminalreporter) -> None:
    """Say what was measured, and in plain words whether the tests on real patients ran."""
    for line in MEASURED:
        terminalreporter.write_line(line)
    folder = os.environ.get("REAL_DATA")
    text = f"ran on {folder}" if folder else f"SKIPPED. {NO_REAL_DATA}"
    terminalreporter.write_line(f"Tests on real patients: {text}", bold=True)


MEASURED: list[str] = []  # tests add lines; they stand at the end of the run


@pytest.fixture(scope="session")
def measured() -> list[str]:
    """Lines to show at the end of the run."""
    return MEASURED


@pytest.fixture(scope="session")
def root() -> Path:
    """The course's folder."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real patients; the test is skipped where there is none."""
    folder = os.environ.get("REAL_DATA")
    if not folder:
        pytest.skip(NO_REAL_DATA)
    if not Path(folder).is_dir():
        pytest.fail(f"REAL_DATA={folder} is not a folder")
    return Path(folder).resolve()


@pytest.fixture
def site():
    """A local server that plays a publisher: files, faults and requests are set and read on it."""
    from download_server import Site, start

    site = Site()
    server = start(site)
    yield site
    server.shutdown()
    server.server_close()
