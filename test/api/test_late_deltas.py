"""Deltas that come before what they refer to: their readings are given out once that is there."""

from __future__ import annotations

import numpy as np
import pytest
from street import street_frame

from semhier_ros import Codec, StreamInfo
from semhier_ros.camera.decoder_end import DecoderEnd
from semhier_ros.codec import Packet
from semhier_ros.scene import remembering

FRAMES, HELD_BACK = 7, 3


def test_readings_of_deltas_that_waited_come_with_what_they_waited_for(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembering, "LEAST_OBJECTS", 0)
    memory, kinds = codec.memory(), []
    ends = [
        DecoderEnd("front", codec.streams(), 32, lambda kind, text: kinds.append(kind), memory=True) for _ in range(2)
    ]
    packets = []
    for end in ends:
        end.describe(StreamInfo("front", "lens", 640, 272, codec.name, codec.stream_hash, codec.model_hash, 1), 0.0)
    straight, late = ends
    read = {}
    for frame in range(FRAMES):
        stamp = 1_000_000_000 + frame * 80_000_000
        image = np.ascontiguousarray(np.roll(street_frame(), 2 * frame, axis=1))
        blocks = codec.encode(image, blocks=4, frame=frame, stamp_ns=stamp, memory=memory)
        packets.append(Packet.pack(blocks, stamp_ns=stamp))
        for output in straight.datagram(packets[-1], frame * 0.08):
            read[frame] = output.reading.detections
        if (known := straight.acknowledgement) is not None and frame < HELD_BACK:
            memory.heard(known)
    assert straight.all_counters()["decoder_deltas"] == FRAMES - 1
    for frame in range(FRAMES):
        if frame != HELD_BACK:
            assert bool(late.datagram(packets[frame], frame * 0.08)) == (frame < HELD_BACK)
    assert kinds == ["refused_deltas"] * (FRAMES - 1 - HELD_BACK)
    found = late.datagram(packets[HELD_BACK], 0.6)
    assert {output.reading.frame for output in found} == set(range(HELD_BACK, FRAMES))
    assert {output.reading.frame: output.reading.detections for output in found} == {
        frame: read[frame] for frame in range(HELD_BACK, FRAMES)
    }
    assert late.datagram(packets[FRAMES - 1], 0.7) == []  # a repeat says nothing new
