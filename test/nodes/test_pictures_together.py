"""The decoding worker makes pictures that are due for several cameras in one pass where the device gains by it."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from semhier_ros.camera.decoder_end import DecoderEnd, Output
from semhier_ros.camera.worker import DecodeWorker
from semhier_ros.codec.model import PictureRequest
from semhier_ros.codec.reading import Reading
from semhier_ros.codec.stream_info import StreamInfo

pytest.importorskip("rclpy", reason="the nodes need ROS 2")


class Painted:
    """A codec whose pictures are grey of the frame's number; `passes` notes how many were made at once."""

    def __init__(self, batches: bool, fails: bool = False) -> None:
        self.batches, self.fails, self.passes = batches, fails, []
        self.stream_hash = self.model_hash = "1234" + "0" * 12
        self.name = "painted"

    def decoder(self, image_size: tuple[int, int], keep_frames: int, follow: bool = False) -> Any:
        request = lambda frame: PictureRequest(None, frame, image_size)  # noqa: E731
        return SimpleNamespace(picture_request=request, counters={})

    def pictures(self, requests: list[PictureRequest]) -> list[np.ndarray]:
        if self.fails and len(requests) > 1:
            raise ValueError("a bad frame")
        self.passes.append(len(requests))
        return [np.full((height, width, 3), frame, np.uint8) for _, frame, (width, height) in requests]


@pytest.mark.parametrize(
    ("batches", "fails", "passes"), [(True, False, [2]), (False, False, [1, 1]), (True, True, [1, 1])]
)
def test_pictures_that_are_due(batches: bool, fails: bool, passes: list[int]) -> None:
    codec = Painted(batches, fails)
    streams = {}
    for number, name in enumerate(("front", "rear")):
        streams[name] = DecoderEnd(name, {codec.stream_hash: codec}, 4, lambda kind, text: None)
        streams[name].describe(
            StreamInfo(name, "lens", 64 + number, 48, "painted", codec.stream_hash, codec.model_hash, 0), 0.0
        )
    got: dict[str, np.ndarray] = {}
    both = threading.Event()

    def on_picture(camera: str, rgb: np.ndarray, output: Output) -> None:
        got[camera] = rgb
        if len(got) == 2:
            both.set()

    worker = DecodeWorker(
        streams,
        8,
        on_reading=lambda camera, output: None,
        on_picture=on_picture,
        wants_picture=lambda stream, output: True,
        on_error=lambda error: pytest.fail(str(error)),
    )
    with worker._lock:
        for number, name in enumerate(streams):
            worker._pictures[name] = Output(Reading(10 + number, 6, 2, (), 9, True), 0, "lens")
    worker._easel.ring()
    assert both.wait(10)
    worker.close()
    assert codec.passes == passes
    assert [int(got[name][0, 0, 0]) for name in streams] == [10, 11]
    assert [got[name].shape[1] for name in streams] == [64, 65]
    assert [stream.counters["pictures"] for stream in streams.values()] == [1, 1]
