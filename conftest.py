"""Examples of README.md and docs/ run as tests, each document in a folder of its own that holds a street picture."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).resolve().parent


def _enter(namespace: dict[str, Any]) -> None:
    import cv2

    from semhier_ros.footage.video import default_video

    folder = Path(tempfile.mkdtemp(prefix="semhier_ros-examples-"))
    video = cv2.VideoCapture(str(default_video()))
    taken, frame = video.read()
    video.release()
    assert taken, f"{default_video()}: no frame can be read"
    cv2.imwrite(str(folder / "street.jpg"), frame)
    for name in ("config", "models"):
        (folder / name).symlink_to(ROOT / name)
    namespace["_before"] = (Path.cwd(), folder)
    os.chdir(folder)


def _leave(namespace: dict[str, Any]) -> None:
    before, folder = namespace["_before"]
    os.chdir(before)
    shutil.rmtree(folder)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md"],
    setup=_enter,
    teardown=_leave,
).pytest()
