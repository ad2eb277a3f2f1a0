"""A replay of a street that several tests look at."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from semhier_ros.paths import model_names

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not; for replay_footage


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bag of a street, 10 frames a second, and a cache that its tests share."""
    from replay_footage import FRAMES, write_street

    folder = tmp_path_factory.mktemp("replay")
    write_street(folder / "bag", [number * 100_000_000 for number in range(FRAMES)])
    return folder


@pytest.fixture(scope="session")
def result(place: Path) -> object:
    """A replay of it in virtual time."""
    if "road" not in model_names():
        pytest.skip("models/road is not there")
    from semhier_ros.lab.replay.base import Costs
    from semhier_ros.lab.replay.task import Task
    from semhier_ros.lab.replay.work import replay

    codecs, cache = ("semhier", "answer", "jpeg"), place / "c" / "replay.sqlite"
    link = "64kbit,50ms,5%,seed3"
    return replay(Task((place / "bag",), link, codecs, "road", costs=Costs(), finalists=2, cache=cache))
