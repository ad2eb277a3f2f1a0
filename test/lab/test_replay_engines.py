"""Both engines of a replay on the demo's street: virtual time says what real processes over real datagrams do.

Stated bounds: share of frames with a coarse reading within 0.2 of each other, medians of the coarse delay within 100 ms
or half of the real one, whichever is more (the real run pays for ROS hops and a busy machine, which virtual time knows
only through the costs measured before). Both follow the link by its reports; the real run's see a busy processor's
delays too, and in six seconds it sends fewer picture blocks, so its bytes a second lie between 0.3 and 1.3 times
virtual time's.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from semhier_ros.lab.footage.video import FootageError, default_video
from semhier_ros.paths import model_names


def missing() -> str:
    if importlib.util.find_spec("rclpy") is None:
        return "rclpy is not installed: run `make`"
    if "road" not in model_names():
        return "models/road is not there"
    try:
        default_video()
    except FootageError as error:
        return str(error)
    return ""


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing() or "all is there")
def test_both_engines_agree_on_the_demo(tmp_path: Path) -> None:
    from semhier_ros.lab.replay.real import run_real
    from semhier_ros.lab.replay.task import Task
    from semhier_ros.lab.replay.work import replay

    task = Task(
        (default_video(),),
        "64kbit,50ms,5%,seed7",
        ("semhier",),
        seconds=6.0,
        frame_rate=2.0,
        cache=tmp_path / "replay.sqlite",
    )
    real = run_real(task, tmp_path / "real", lambda stage, share: None).summary
    virtual = replay(replace(task, bags=(tmp_path / "real" / "street",), frame_rate=None)).summary
    assert real["engine"] == "real"
    assert virtual["engine"] == "virtual"
    ours, theirs = real["codecs"]["semhier"], virtual["codecs"]["semhier"]
    assert real["cameras"][0]["frames"] == virtual["cameras"][0]["frames"]
    shown = {key: (ours[key], theirs[key]) for key in ("delivered", "coarse_ms", "wire_bytes_per_s", "streaming_ap50")}
    print(shown)
    assert ours["delivered"] == pytest.approx(theirs["delivered"], abs=0.2), shown
    slack = max(100.0, 0.5 * ours["coarse_ms"]["p50"])
    assert ours["coarse_ms"]["p50"] == pytest.approx(theirs["coarse_ms"]["p50"], abs=slack), shown
    assert 0.3 < ours["wire_bytes_per_s"] / theirs["wire_bytes_per_s"] < 1.3, shown
