"""Both engines of a replay on the demo's street: virtual time says what real processes over real datagrams do.

Stated bounds: streaming AP50 differs by 0.03 at every level, bytes a second by a sixth, and every frame has a coarse
reading. Of the medians of the coarse delay, neither is more than half as long again and 50 ms more than the other: the
real run pays for ROS hops, and both pay for what computing took on this machine, each at its own moment. Nothing is
lost on the link: the same datagrams by number are, in both engines, but which blocks they carry depends on
milliseconds, and of a level with some ten objects one block is 0.04.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from needs import missing

from semhier_ros.footage.video import default_video


def real_and_task(link: str, tmp_path: Path, seconds: float) -> tuple[dict[str, Any], Any]:
    """Summary of the real replay of some of the street, and what was to be replayed."""
    from semhier_ros.lab.replay.real import run_real
    from semhier_ros.lab.replay.task import Task

    task = Task(
        (default_video(),),
        link,
        ("semhier",),
        seconds=seconds,
        frame_rate=2.0,
        cache=tmp_path / "replay.sqlite",
    )
    return run_real(task, tmp_path / "real", lambda stage, share: None).summary, task


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing() or "all is there")
def test_both_engines_agree_on_the_demo(tmp_path: Path) -> None:
    from semhier_ros.lab.replay.work import replay

    real, task = real_and_task("64kbit,50ms", tmp_path, 6.0)
    virtual = replay(replace(task, bags=(tmp_path / "real" / "street",), frame_rate=None)).summary
    assert real["engine"] == "real"
    assert virtual["engine"] == "virtual"
    ours, theirs = real["codecs"]["semhier"], virtual["codecs"]["semhier"]
    assert real["cameras"][0]["frames"] == virtual["cameras"][0]["frames"]
    shown = {key: (ours[key], theirs[key]) for key in ("delivered", "coarse_ms", "wire_bytes_per_s", "streaming_ap50")}
    print(shown)
    assert ours["delivered"] == theirs["delivered"] == 1.0, shown
    for level, imagined in theirs["streaming_ap50"].items():
        assert ours["streaming_ap50"][level] == pytest.approx(imagined, abs=0.03), shown
    shorter, longer = sorted((ours["coarse_ms"]["p50"], theirs["coarse_ms"]["p50"]))
    assert longer < 1.5 * shorter + 50, shown
    assert ours["wire_bytes_per_s"] == pytest.approx(theirs["wire_bytes_per_s"], rel=1 / 6), shown


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing() or "all is there")
@pytest.mark.parametrize("link", ["udp64,loss0%", "mavlink57600"])
def test_real_nodes_speak_udp_and_mavlink(link: str, tmp_path: Path) -> None:
    """The nodes' own transports: datagrams of UDP through the emulator of such links; TUNNEL messages on a line on
    which an autopilot streams. Most frames come, however busy the machine is."""
    if link.startswith("mavlink"):
        pytest.importorskip("pymavlink", reason="pymavlink is not installed: requirements/mavlink.txt")
        pytest.importorskip("serial", reason="pyserial is not installed: requirements/radio.txt")
    real, _ = real_and_task(link, tmp_path, 4.0)
    ours = real["codecs"]["semhier"]
    shown = {key: ours[key] for key in ("delivered", "coarse_ms", "wire_bytes_per_s", "link")}
    assert ours["delivered"] >= 0.6, shown
    assert (ours["link"].get("messages of others", 0) > 100) == link.startswith("mavlink"), shown
    assert "Traceback" not in (tmp_path / "real" / "logs" / "encoder.log").read_text(encoding="utf-8")
