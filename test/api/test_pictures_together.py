"""Pictures of several cameras made at once: the same as one by one, on the torch path that CUDA uses too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from street import street_frames

torch = pytest.importorskip("torch", reason="torch is not installed (extra `cuda`)")

from semhier_ros import Codec
from semhier_ros.codec.canvas import Lift
from semhier_ros.torch.scene_backend import _lifted


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


def test_together_they_are_what_they_are_alone(torch_codec: Codec) -> None:
    wanted = decoders(torch_codec)
    alone = [decoder.picture(frame) for decoder, frame in wanted]
    calls: list[int] = []
    graph = torch_codec.model.backend._graphs["picture_synthesis"]  # type: ignore[attr-defined]
    watch = graph.register_forward_hook(lambda _, given, made: calls.append(len(made)))
    assert torch_codec.batches
    together = torch_codec.pictures([decoder.picture_request(frame) for decoder, frame in wanted])
    watch.remove()
    assert calls == [3], "one pass of the network for all"
    assert wanted[0][0].picture_request(77) is None, "a frame that nobody keeps"
    for one, other in zip(alone, together, strict=True):
        assert one is not None
        assert one.shape == other.shape
        assert int(np.abs(one.astype(int) - other).max()) <= 2


def test_what_a_device_decoded_is_painted_there(torch_codec: Codec) -> None:
    """From what the device kept, and it is the picture of the CPU's path, scaled by another implementation."""
    floats, shown = Codec.load("road", "cpu", threads=1, precision="f32"), np.repeat(street_frames()[0], 2, axis=1)
    size = shown.shape[1::-1]
    blocks, pictures = torch_codec.encode(shown, frame=3), []
    for codec in (floats, torch_codec):
        decoder = codec.decoder(size, pictures_later=True)
        for block in blocks:
            decoder.push(block)
        work = decoder.picture_work(3)
        assert work is not None
        (found,) = codec.decode_pictures([work])
        decoder.take_pictures(3, work, found)
        if codec is torch_codec:
            latents = found.code.picture[-1].latents
            np.testing.assert_array_equal(latents.there.numpy(), latents)
        pictures.append(decoder.picture(3))
    assert pictures[0].shape == pictures[1].shape == shown.shape
    assert int(np.abs(pictures[0].astype(int) - pictures[1]).max()) <= 2, "a rounding of the canvas, one of the scaling"
    latents.there = torch.zeros_like(latents.there)
    assert (decoder.picture(3) != pictures[1]).any(), "no latent goes up again"


@settings(max_examples=40)
@given(st.integers(1, 64), st.integers(1, 48), st.integers(1, 200), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_a_canvas_is_lifted_as_on_the_host(used_width: int, used_height: int, width: int, height: int, seed: int):
    canvases = np.random.default_rng(seed).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    lift = Lift((used_width, used_height), (width, height))
    one, canvas, other = _lifted(torch.from_numpy(canvases), [lift, None, lift])
    np.testing.assert_array_equal(canvas.numpy(), canvases[1])
    for found, given_canvas in ((one, canvases[0]), (other, canvases[2])):
        wanted = lift(given_canvas)
        assert found.shape == wanted.shape
        assert int(np.abs(found.numpy().astype(int) - wanted).max()) <= 1


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
