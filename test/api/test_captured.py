"""Networks captured for fixed batch sizes: the same answers, and the plain network where capturing fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from street import street_frames

torch = pytest.importorskip("torch", reason="torch is not installed (extra `cuda`)")

from semhier_ros import Codec
from semhier_ros.torch.captured import SIZES, Captured, CudaCapture


class Bytes(torch.nn.Module):
    """Bytes of two inputs of which each row's are its own, in whole numbers: the same in any batch. It notes the
    batches that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, one: Any, other: Any) -> Any:
        self.batches.append(len(one))
        return (one.sum(dim=(1, 2))[:, None] * 7 + other * 13).remainder(256).to(torch.uint8)


def again(network: Any, inputs: Any) -> tuple[Callable[[], None], Any]:
    """What a device's graph does, on the CPU: the network runs anew on what lies in the inputs."""
    output = network(*inputs)
    return lambda: output.copy_(network(*inputs)), output


class Counted:
    """`again`, noting the sizes that it captures."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, network: Any, inputs: Any) -> Any:
        self.sizes.append(len(inputs[0]))
        return again(network, inputs)


def batch(rows: int, seed: int = 0, wide: int = 5) -> tuple[Any, Any]:
    draw = np.random.default_rng(1000 * seed + rows)
    parts = draw.integers(1, 99, (rows, 3, wide)), draw.integers(1, 99, (rows, 4))
    return tuple(torch.from_numpy(part).float() for part in parts)  # type: ignore[return-value]


def test_it_gives_what_the_network_gives_at_every_size() -> None:
    plain, capture = Bytes(), Counted()
    captured = Captured(Bytes(), capture)
    for seed in range(3):
        for rows in (*range(1, 20), *range(17, 0, -1)):
            inputs = batch(rows, seed)
            found = captured(*inputs)
            assert torch.equal(found, plain(*inputs)), f"{rows} rows"
    assert sorted(capture.sizes) == sorted(SIZES), "each size once"


def test_a_size_is_captured_when_it_is_asked_for_again_and_what_is_larger_never() -> None:
    network, capture = Bytes(), Counted()
    captured = Captured(network, capture)
    captured(*batch(7))
    assert network.batches == [7], "as it is, without padding"
    assert capture.sizes == []
    captured(*batch(8))
    assert capture.sizes == [8], "7 and 8 rows are one size"
    network.batches.clear()
    found = captured(*batch(7, 1))
    assert network.batches == [8], "a replay on the padded batch, and nothing beside"
    assert torch.equal(found, Bytes()(*batch(7, 1)))
    for _ in range(3):
        captured(*batch(SIZES[-1] + 1))
    assert capture.sizes == [8]
    for _ in range(2):
        captured(*batch(8, wide=6))
    assert capture.sizes == [8, 8], "another shape is captured by itself"
    assert torch.equal(captured(*batch(8)), Bytes()(*batch(8)))


def broken(network: Any, inputs: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore lines")


def silent(network: Any, inputs: Any) -> Any:
    return lambda: None, network(*inputs)


def stale(network: Any, inputs: Any) -> Any:
    """It answers what it was captured with."""
    output = network(*inputs)
    kept = output.clone()
    return lambda: output.copy_(kept), output


def unlaunched(network: Any, inputs: Any) -> Any:
    def replay() -> None:
        raise RuntimeError("CUDA error: the graph cannot be launched")

    return replay, network(*inputs)


@pytest.mark.parametrize(
    ("capture", "why"),
    [
        (broken, "CUDA out of memory. Tried to allocate 2.00 GiB"),
        (silent, "a captured picture differs from the network's by"),
        (stale, "a captured picture differs from the network's by"),
        (unlaunched, "CUDA error: the graph cannot be launched"),
    ],
)
def test_where_capturing_fails_the_network_runs_plainly_and_it_is_said_once(capture, why, caplog) -> None:
    tried: list[int] = []

    def at_last(network: Any, inputs: Any) -> Any:
        """A first size that goes well, and then one that does not."""
        tried.append(len(inputs[0]))
        return (again if len(tried) == 1 else capture)(network, inputs)

    network = Bytes()
    captured = Captured(network, at_last)
    with caplog.at_level(logging.WARNING):
        for seed in range(4):
            for rows in (2, 4):
                assert torch.equal(captured(*batch(rows, seed)), Bytes()(*batch(rows, seed)))
    assert tried == [2, 4]
    (line,) = caplog.messages
    assert line.startswith("CUDA graphs are given up, networks are launched kernel by kernel (batch of 4): " + why)
    assert "\n" not in line
    network.batches.clear()
    captured(*batch(1))
    captured(*batch(2))
    captured(*batch(3))
    assert network.batches == [1, 2, 3], "no batch is padded any more"


def test_an_answer_a_rounding_apart_is_taken_and_two_are_not(caplog) -> None:
    class Middle(Bytes):
        def forward(self, one: Any, other: Any) -> Any:
            return super().forward(one, other).clamp(9, 200)

    def off(by: int) -> Any:
        def capture(network: Any, inputs: Any) -> Any:
            output = network(*inputs)
            return lambda: output.copy_(network(*inputs) + by), output

        return capture

    for by, kept in ((1, True), (2, False)):
        captured, inputs = Captured(Middle(), off(by)), batch(3)
        captured(*inputs)
        assert torch.equal(captured(*inputs), Middle()(*inputs) + (by if kept else 0))
        assert len(caplog.messages) == (0 if kept else 1)


@pytest.mark.parametrize("where", ["replay", "plain"])
def test_a_device_that_fails_later_is_told_to_the_caller(where) -> None:
    """By what the network's own failure raises, from which a fleet goes on on the CPU."""
    failing = False

    class Network(Bytes):
        def forward(self, one: Any, other: Any) -> Any:
            if failing:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(one, other)

    captured = Captured(Network(), again)
    for _ in range(3):
        captured(*batch(2))
    failing = True
    with pytest.raises(torch.OutOfMemoryError):
        captured(*batch(2 if where == "replay" else 5))


def test_a_device_lost_in_capture_is_told_by_the_network_itself() -> None:
    class Network(Bytes):
        def forward(self, one: Any, other: Any) -> Any:
            if len(self.batches) == 1:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return super().forward(one, other)

    captured = Captured(Network(), again)
    captured(*batch(2))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        captured(*batch(2))


def requests_of(codec: Codec) -> list[Any]:
    """Three cameras' pictures, at three prefixes, in two sizes."""
    found = []
    for number, (picture, last) in enumerate(zip(street_frames()[:3], (7, 5, 4), strict=True)):
        shown = np.ascontiguousarray(picture[: 272 - 16 * (number // 2)])
        decoder = codec.decoder((shown.shape[1], shown.shape[0]))
        for block in codec.encode(shown, frame=number, blocks=last):
            decoder.push(block)
        found.append(decoder.picture_request(number))
    return found


def apart(some: list[Any], others: list[Any]) -> int:
    return max(int(np.abs(one.astype(int) - other).max()) for one, other in zip(some, others, strict=True))


def test_a_codec_paints_the_same_and_no_picture_lies_where_the_next_is_painted(monkeypatch) -> None:
    codec, capture = Codec.load("road", "torch"), Counted()
    wanted = requests_of(codec)
    backend: Any = codec.model.backend
    assert backend._paint is backend._graphs["picture_synthesis"], "on a CPU nothing is captured"
    turned = wanted[1:] + wanted[:1]
    plain, plain_turned, plain_two = codec.pictures(wanted), codec.pictures(turned), codec.pictures(wanted[:2])
    monkeypatch.setattr(backend, "_paint", Captured(backend._graphs["picture_synthesis"], capture))
    codec.pictures(wanted)
    found = codec.pictures(wanted)
    assert capture.sizes == [3]
    copies = [picture.copy() for picture in found]
    assert apart(codec.pictures(turned), plain_turned) == 0
    for picture, copy in zip(found, copies, strict=True):
        np.testing.assert_array_equal(picture, copy)
    assert apart(found, plain) == 0
    codec.pictures(wanted[:2])
    assert apart(codec.pictures(wanted[:2]), plain_two) == 0
    assert capture.sizes == [3, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_on_a_card_graphs_paint_what_the_network_paints(monkeypatch, caplog) -> None:
    codec = Codec.load("road", "cuda")
    backend: Any = codec.model.backend
    assert isinstance(backend._paint, Captured)
    wanted = (requests_of(codec) * 6)[: SIZES[-1] + 1]
    for rows in (*SIZES, 5, 7, 13, SIZES[-1] + 1):
        with monkeypatch.context() as patch:
            patch.setattr(backend, "_paint", backend._graphs["picture_synthesis"])
            plain = codec.pictures(wanted[-rows:])
        for _ in range(3):
            found = codec.pictures(wanted[-rows:])
            assert apart(found, plain) <= 2, f"{rows} pictures"
    assert not caplog.messages
    assert len(backend._paint._sizes) == len(SIZES)
    assert isinstance(backend._paint._capture, CudaCapture)
