"""Pictures painted on a CPU: the network put together anew says what its graph says, and in integers nearly that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from street import street_frames

from semhier_ros import Codec
from semhier_ros.codec import painting
from semhier_ros.codec.graphs import openvino_core
from semhier_ros.codec.integers import multiplies_bytes
from semhier_ros.codec.model_folder import ModelError
from semhier_ros.codec.painting import (
    RANGES,
    Design,
    measure_ranges,
    painting_model,
    pixels,
    read_design,
    read_ranges,
    write_ranges,
)
from semhier_ros.lab.scoring.figures import psnr
from semhier_ros.paths import find_model

BLOCKS = ("coarse.0", "coarse.1", "middle.2", "fine.1", "fine.2")
# as `codec.graphs` compiles it: left to itself, OpenVINO takes bfloat16 where a CPU has it
ONE_THREAD = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the synthesis of `road` and its ranges, to be changed."""
    for name in ("picture_synthesis.onnx", RANGES):
        shutil.copy(find_model("road") / name, tmp_path)
    return tmp_path


def design_of(folder: Path) -> Design:
    found = read_design(openvino_core().read_model(folder / "picture_synthesis.onnx"))
    assert found is not None
    return found


def parts_of(design: Design, seed: int) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    places = (design.rows, design.columns)
    latents = draw.normal(0, 4, (1, design.latents, *places)) * (draw.random((1, design.latents, 1, 1)) < 0.4)
    present = np.arange(design.groups)[None] < draw.integers(0, design.groups + 1)
    meaning = draw.random((1, design.planes, *places))
    return [part.astype(np.float32) for part in (latents, present, meaning)]


@pytest.mark.parametrize("name", ["road", "imagenet"])
def test_put_together_anew_it_paints_what_the_graph_paints(name: str) -> None:
    core, own = openvino_core(), find_model(name)
    design = design_of(own)
    graph = core.compile_model(core.read_model(own / "picture_synthesis.onnx"), "CPU", ONE_THREAD)
    ours = core.compile_model(painting_model(core, own, integers=False), "CPU", ONE_THREAD)
    for seed in range(3):
        parts = parts_of(design, seed)
        wanted, found = graph(parts)[0][0], pixels(ours(parts)[0][0])
        assert found.shape == wanted.shape == (design.rows * 16, design.columns * 16, 3)
        differences = np.abs(found.astype(int) - wanted)
        assert differences.max() <= 1, "rounding of a sum in another order"
        assert (differences > 0).mean() < 1e-4


def test_pixels_of_a_position_lie_row_by_row() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    positions = [picture[row : row + 4, column : column + 4].ravel() for row in (0, 4, 8) for column in range(0, 20, 4)]
    assert np.array_equal(pixels(np.stack(positions).reshape(3, 5, 48)), picture)
    assert pixels(picture) is picture


def test_channels_in_parts_of_their_ranges_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is rounded, ranges change nothing."""
    core, own = openvino_core(), find_model("road")
    monkeypatch.setattr(painting, "stepped", lambda values, low, high: values)
    monkeypatch.setattr(painting, "coarse", painting.constant)
    monkeypatch.setattr(painting, "multiplies_bytes", lambda core: True)
    models = [painting_model(core, own, integers=integers) for integers in (False, True)]
    graphs = [core.compile_model(model, "CPU", ONE_THREAD) for model in models]
    parts = parts_of(design_of(own), 5)
    wanted, found = (graph(parts)[0][0].astype(int) for graph in graphs)
    assert np.abs(found - wanted).max() <= 1, "rounding of a sum in another order"
    assert (found != wanted).mean() < 1e-4


@pytest.mark.parametrize(("name", "floats"), [("road", 2), ("street", 2), ("imagenet", 3)])
def test_nearly_all_layers_multiply_bytes(name: str, floats: int) -> None:
    core, own = openvino_core(), find_model(name)
    if not multiplies_bytes(core):
        pytest.skip("OpenVINO runs no 8-bit convolutions on this CPU")
    painted = core.compile_model(painting_model(core, own, integers=True), "CPU", ONE_THREAD)
    kinds = [
        node.input(0).get_element_type().get_type_name()
        for node in painted.get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    ]
    assert len(kinds) == 22
    assert [kind for kind in kinds if kind not in ("u8", "i8")] == ["f32"] * floats, "the first, what mends latents"


def test_ranges_without_those_of_channels_are_used_as_far_as_they_go(folder: Path) -> None:
    core, design = openvino_core(), design_of(folder)
    values = json.loads((folder / RANGES).read_text())
    kept = {name: ends for name, ends in values["ranges"].items() if "/" not in name}
    (folder / RANGES).write_text(json.dumps(values | {"ranges": kept}))
    parts = parts_of(design, 1)
    pictures = [
        core.compile_model(painting_model(core, own, integers=integers), "CPU", ONE_THREAD)(parts)[0][0].astype(int)
        for own, integers in ((folder, False), (folder, True), (find_model("road"), True))
    ]
    if multiplies_bytes(core):
        assert (pictures[1] != pictures[0]).any()
        assert (pictures[1] != pictures[2]).any()
    assert psnr(pictures[1].astype(np.uint8), pictures[0].astype(np.uint8)) > 25


def test_integers_cost_less_than_a_tenth_of_a_decibel(codec: Codec) -> None:
    integers = Codec.load("road", "cpu", threads=1)
    lost, changed = [], False
    for image in street_frames()[::6]:
        size = (image.shape[1], image.shape[0])
        blocks = codec.encode(image)
        decoders = [own.decoder(size) for own in (codec, integers)]
        for block in blocks:
            for decoder in decoders:
                decoder.push(block)
        one, other = (decoder.picture(0) for decoder in decoders)
        assert one is not None
        assert other is not None
        changed |= bool((one != other).any())
        lost.append(psnr(one, image) - psnr(other, image))
    assert changed == ("INT8" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    assert np.mean(lost) < 0.1


def test_ranges_are_measured_written_and_read(folder: Path) -> None:
    (folder / RANGES).unlink()
    design = design_of(folder)
    assert read_ranges(folder, design) is None
    samples = [tuple(part[0] for part in parts_of(design, seed)) for seed in range(2)]
    found = measure_ranges(openvino_core(), folder, samples)  # type: ignore[arg-type]
    channels = {name for names in design.channels.values() for name in names}
    assert channels < set(found)
    assert set(found) - channels == {f"{block}.body.{layer}" for block in BLOCKS for layer in (1, 3)}
    write_ranges(folder, found, "drawn numbers")
    read = read_ranges(folder, design)
    assert read is not None
    for name, (low, high) in found.items():
        assert low <= 0 < high
        assert read[name] == pytest.approx((low, high), rel=1e-5)
    with pytest.raises(ValueError, match="samples: none"):
        measure_ranges(openvino_core(), folder, [])


def test_ranges_of_another_synthesis_are_left_aside(folder: Path) -> None:
    design = design_of(folder)
    assert read_ranges(folder, design) is not None
    values = json.loads((folder / RANGES).read_text())
    (folder / RANGES).write_text(json.dumps(values | {"graph": "0" * 16}))
    assert read_ranges(folder, design) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ranges": {"fine.9": [-1, 1]}}, "layers fine.9, which picture_synthesis does not have"),
        ({"ranges": {"fine.3": [0.5, 1]}}, "range 0.5..1.0 of layer fine.3"),
        ({"ranges": {"fine.3": [-1, float("inf")]}}, "range -1.0..inf of layer fine.3"),
        ({"ranges": {"fine.3": [-1]}}, "ValueError"),
        ({"ranges": 5}, "AttributeError"),
    ],
)
def test_a_ranges_file_that_is_none_is_refused_by_name(folder: Path, change: dict[str, Any], message: str) -> None:
    values = json.loads((folder / RANGES).read_text()) | change
    (folder / RANGES).write_text(json.dumps(values))
    with pytest.raises(ModelError, match=RANGES) as refused:
        read_ranges(folder, design_of(folder))
    assert message in str(refused.value)


def test_a_graph_of_another_design_is_run_as_it_is() -> None:
    core = openvino_core()
    other = core.read_model(find_model("road") / "picture_analysis.onnx")
    assert read_design(other) is None
