"""A disk that is full leaves whole files or none, and says so in a line.

The system's own limit on the size of a file stands for the disk: it needs no root, and writing beyond it fails alike.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from semhier_ros.footage.bags import open_bag
from semhier_ros.footage.messages import BagWriter, camera_messages
from semhier_ros.lab.replay.store import Store
from semhier_ros.whole_file import replacing, write_whole

NOISE = np.random.default_rng(3).integers(0, 255, (240, 320, 3), np.uint8)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writes beyond `size` bytes of a file fail (EFBIG; Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_whole(path, "first")
    with files_of_at_most(1000), pytest.raises(OSError, match=str(path)) as caught:
        write_whole(path, "x" * 5000)
    assert caught.value.errno == errno.EFBIG
    assert path.read_text() == "first"
    with suppress(KeyboardInterrupt), replacing(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "first"
    assert [item.name for item in tmp_path.iterdir()] == ["summary.json"]


def test_names_that_are_no_utf8_can_be_told_in_a_file(tmp_path: Path) -> None:
    umlaut = "ü".encode().decode("ascii", "surrogateescape")  # what Python makes of it in a locale without UTF-8
    write_whole(tmp_path / "summary.json", f"{umlaut} caf\udce9")
    assert (tmp_path / "summary.json").read_text("utf-8") == "ü caf\ufffd"


def test_what_lies_beside_a_file_stays_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "out.json.part").write_text("somebody else's")
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "x").write_text("somebody else's too")
    write_whole(tmp_path / "out.json", "whole")
    with replacing(tmp_path / "out") as part:
        part.mkdir()
    assert (tmp_path / "out.json.part").read_text() == "somebody else's"
    assert (tmp_path / "out.part" / "x").read_text() == "somebody else's too"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.json", "out.json.part", "out.part"]


def test_of_a_link_what_it_points_to_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("disk/real.json")
    write_whole(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "disk" / "real.json").read_text() == "new"
    (tmp_path / "folder").symlink_to("disk")
    monkeypatch.chdir(tmp_path / "folder")
    with replacing(Path("..") / "folder") as part:
        part.mkdir()
        (part / "made.txt").write_text("made")
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["made.txt"]
    assert (tmp_path / "folder").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "folder", "link.json"]


def write_frames(path: Path, count: int) -> None:
    with BagWriter(path, force=True) as bag:
        for number in range(count):
            for topic, message in camera_messages(bag.store, NOISE, number * 10**8, "camera", "lens"):
                bag.write(topic, message, number * 10**8)


def test_a_bag_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    write_frames(tmp_path / "street", 3)
    with files_of_at_most(2_000_000), pytest.raises(OSError, match="street") as caught:
        write_frames(tmp_path / "street", 80)
    assert caught.value.errno == errno.EFBIG
    assert len(open_bag(tmp_path / "street").cameras[0]) == 3
    write_frames(tmp_path / "street", 5)
    assert len(open_bag(tmp_path / "street").cameras[0]) == 5
    assert [item.name for item in tmp_path.iterdir()] == ["street"]
    assert {item.name for item in (tmp_path / "street").iterdir()} == {"street.mcap", "metadata.yaml"}
    told = yaml.safe_load((tmp_path / "street" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert told["relative_file_paths"] == ["street.mcap"]


def test_a_cache_that_cannot_grow_goes_on_in_memory_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    with closing(Store(path)) as store:
        store.put("kind", "first", "kept")
    with closing(Store(path)) as store, files_of_at_most(60_000):
        for number in range(200):
            store.put("kind", str(number), os.urandom(1000).hex())
        assert str(path) in store.problem
        assert "not used" in store.problem
        assert len(store.get("kind", "199")) == 2000
    with closing(Store(path)) as store:
        assert store.get("kind", "first") == "kept"
        assert not store.problem


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(40):
        cv2.imwrite(str(tmp_path / "pictures" / f"{number:03d}.png"), np.roll(NOISE, number))
    command = ["bag", "from-images", str(tmp_path / "pictures"), "--out", str(tmp_path / "street")]
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, -1)); "
        f"from semhier_ros.cli import main; sys.exit(main({command}))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.strip().splitlines()[-1] == f"semhier: {tmp_path / 'street'} cannot be written: File too large"
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.glob("street*"))
