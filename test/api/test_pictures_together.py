"""Pictures of several cameras made at once: the same as one by one, on the torch path that CUDA uses too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from street import street_frames

pytest.importorskip("torch", reason="torch is not installed (extra `cuda`)")

from semhier_ros import Codec
from semhier_ros.torch.scene_backend import TorchBackend


@pytest.fixture(scope="module")
def torch_codec() -> Codec:
    return Codec.load("road", "torch")


def decoders(codec: Codec) -> list[tuple[Any, int]]:
    """Three cameras of different sizes, each with a frame at another prefix."""
    found = []
    for number, (picture, last) in enumerate(zip(street_frames()[:3], (7, 5, 4), strict=True)):
        shown = np.ascontiguousarray(picture[: 272 - 16 * number, : 640 - 32 * number])
        decoder = codec.decoder((shown.shape[1], shown.shape[0]))
        for block in codec.encode(shown, frame=number, blocks=last):
            decoder.push(block)
        found.append((decoder, number))
    return found


def test_together_they_are_what_they_are_alone(torch_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = decoders(torch_codec)
    alone = [decoder.picture(frame) for decoder, frame in wanted]
    calls = []
    run = TorchBackend._run_batch
    monkeypatch.setattr(
        TorchBackend, "_run_batch", lambda self, name, *a: calls.append(len(a[0])) or run(self, name, *a)
    )
    assert torch_codec.batches
    together = torch_codec.pictures([decoder.picture_request(frame) for decoder, frame in wanted])
    assert calls == [3], "one pass of the network for all"
    assert wanted[0][0].picture_request(77) is None, "a frame that nobody keeps"
    for one, other in zip(alone, together, strict=True):
        assert one is not None
        assert one.shape == other.shape
        assert int(np.abs(one.astype(int) - other).max()) <= 2


def test_on_openvino_they_are_made_one_after_another(codec: Codec) -> None:
    wanted = decoders(codec)
    assert not codec.batches
    made = codec.pictures([decoder.picture_request(frame) for decoder, frame in wanted])
    for one, (decoder, frame) in zip(made, wanted, strict=True):
        assert np.array_equal(one, decoder.picture(frame))


def test_half_precision_paints_nearly_the_same(torch_codec: Codec) -> None:
    half = Codec.load("road", "torch", precision="bf16")
    picture = street_frames()[0]
    shown = []
    for codec in (torch_codec, half):
        decoder = codec.decoder(picture.shape[1::-1])
        for block in torch_codec.encode(picture):
            decoder.push(block)
        shown.append(decoder.picture(0))
    difference = np.abs(shown[0].astype(int) - shown[1])
    assert 0 < difference.mean() < 1.0, "another arithmetic, the same picture"
    with pytest.raises(ValueError, match="precision: 'f8' is not one of"):
        Codec.load("road", "torch", precision="f8")
