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
from semhier_ros.codec.graphs import openvino_core
from semhier_ros.codec.model_folder import ModelError
from semhier_ros.codec.painting import (
    KEPT,
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

ONE_THREAD = {"INFERENCE_NUM_THREADS": 1}


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
    assert set(found) == set(design.layers)
    assert not set(found) & set(KEPT)
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
