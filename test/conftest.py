"""What all tests share: no example of a property is timed, ROS 2 nodes of this run hear nobody else's, and nobody hears
them; and tools/run_tests.py learns which tests passed, also of a run that crashes.

Every pytest process takes a ROS domain that no other one on this machine holds, before anything imports rclpy;
processes that tests start inherit it. A test that starts processes of its own takes another one with the fixture
`ros_domain`.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not; for strict_messages

_ledger = os.environ.pop("SEMHIER_TEST_LEDGER", os.devnull)
_failed: set[str] = set()


def _tell(word: str, tests: list[str]) -> None:
    with open(_ledger, "a", encoding="utf-8") as file:
        file.writelines(f"{word} {test}\n" for test in tests)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tells what is to run."""
    _tell("run", [item.nodeid for item in session.items])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keeps in mind what failed, in its setup or teardown as well."""
    if report.failed:
        _failed.add(report.nodeid)


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Tells what is well: passed, or skipped with a reason."""
    if nodeid not in _failed:
        _tell("well", [nodeid])


TOGETHER = {f"test/lab/test_{name}.py": "a replay of a street" for name in ("film", "from_above", "replay", "report")}
"""Files that look at the same costly thing, and at what: of several processes that run tests, one runs all of these."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folders whose files take longest come first, so that processes side by side end at about the same time."""
    items.sort(key=lambda item: item.path.parent.name not in ("lab", "training"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files are handed out whole, and those of `TOGETHER` as one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return TOGETHER.get(file, file)

    return Scheduling(config, log)


FIRST_DOMAIN, LAST_DOMAIN = 1, 101  # beyond it, DDS ports meet the ephemeral ports of Linux


def _take_domain() -> tuple[int, IO[str]]:
    """A domain that is free, and the open file whose lock holds it until it is closed or this process ends."""
    folder = Path(tempfile.gettempdir()) / f"semhier_ros-domains-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    count = LAST_DOMAIN - FIRST_DOMAIN + 1
    for step in range(count):
        domain = FIRST_DOMAIN + (os.getpid() + step) % count
        file = (folder / str(domain)).open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        return domain, file
    raise RuntimeError(f"all ROS domains from {FIRST_DOMAIN} to {LAST_DOMAIN} are held by other test runs")


_domain, _domain_lock = _take_domain()
os.environ["ROS_DOMAIN_ID"] = str(_domain)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS domain of the test's own, set in the environment for what the test starts; given back at its end."""
    domain, lock = _take_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    with lock:
        yield domain
