"""Trainings that begin with what a model folder ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch (extra train) is not installed")

from semhier_ros.api import Codec
from semhier_ros.torch.detector import Detector
from semhier_ros.torch.picture import GROUPS, PictureModel
from semhier_ros.training.detector import start_from
from semhier_ros.training.errors import TrainingError
from semhier_ros.training.imagenet import settings_of
from semhier_ros.training.integer_form import float_context, integer_context, scale_table
from semhier_ros.training.picture_form import SCENES, WHOLE_IMAGES, analyse, shipped_picture, start_picture

MODELS = Path(__file__).resolve().parents[2] / "models"


def test_detector_of_other_types_takes_all_but_the_naming_layer() -> None:
    whole, other = Detector(21), Detector(3)
    start_from(whole, MODELS / "road")
    before = other.types.weight.clone()
    start_from(other, MODELS / "road")
    assert torch.equal(other.types.weight, before)
    assert torch.equal(other.tower[0][0].weight, whole.tower[0][0].weight)
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors is missing"):
        start_from(whole, MODELS)


def test_picture_codec_that_starts_from_folders_paints_what_they_paint() -> None:
    planes = {SCENES: (0, 5), WHOLE_IMAGES: (5, 37)}
    model = PictureModel(37).eval().requires_grad_(False)
    start_picture(model, planes, [MODELS / "imagenet", MODELS / "road"])
    backend = Codec.load("imagenet", "torch").model.backend
    random = np.random.default_rng(0)
    latents = random.normal(size=(160, 14, 14)).astype(np.float32)
    present = np.ones(len(GROUPS), np.float32)
    meaning = random.normal(size=(32, 14, 14)).astype(np.float32)
    wanted = backend.synthesise(latents, present, meaning)
    told = torch.zeros(1, 37, 14, 14)
    told[0, 5:] = torch.from_numpy(meaning)
    found = model.synthesis(torch.from_numpy(latents)[None], torch.from_numpy(present)[None], told)[0]
    pixels = found.add(1).mul(127.5).clamp(0, 255).round().permute(1, 2, 0).numpy()
    assert np.abs(pixels - wanted).max() <= 1
    with pytest.raises(ValueError, match="start: none of"):
        start_picture(model, planes, [MODELS / "road"])


def test_picture_codec_that_stays_as_a_folder_ships_it_codes_and_paints_the_same() -> None:
    codec = Codec.load("street", "torch")
    layout, backend = codec.model.stream.layout, codec.model.backend
    planes = 1 + len(layout.parents[0])
    parts = shipped_picture(MODELS / "street", planes, 3)
    assert parts.networks.keys() == {name for name in codec.model.stream.networks if name.startswith("picture_")}
    assert parts.tables["picture"] is not None
    random = np.random.default_rng(0)
    canvas = random.integers(0, 256, (96, 160, 3), np.uint8)
    latents = analyse(parts.model, canvas)
    assert np.abs(latents - backend.analyse(canvas)).max() < 1e-3 * np.abs(latents).max()
    present = np.array([1, 1, 0], np.float32)
    meaning = random.random((planes, *latents.shape[1:]), np.float32)
    told = (torch.from_numpy(part)[None] for part in (latents, present, meaning))
    pixels = parts.model.synthesis(*told)[0].add(1).mul(127.5).clamp(0, 255).round().permute(1, 2, 0).numpy()
    assert np.abs(pixels - backend.synthesise(latents, present, meaning)).max() <= 1
    blocks = parts.blocks()
    assert np.array_equal(blocks.tables.frequencies, codec.model.stream.pictures.tables.frequencies)
    with pytest.raises(TrainingError, match=r"pictures: .*street paints \d planes out of 3 picture blocks, not 9"):
        shipped_picture(MODELS / "street", 9, 3)


def test_context_comes_back_from_its_integers() -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(20, 16), torch.nn.Linear(16, 8)]
    scales = scale_table(0.1, 64.0, 64, 127)[1]
    other = [torch.nn.Linear(20, 16), torch.nn.Linear(16, 8)]
    float_context(integer_context(layers, scales), other, scales)
    for one, two in zip(layers, other, strict=True):
        assert torch.allclose(one.weight, two.weight, atol=2e-4)
        assert torch.allclose(one.bias, two.bias, atol=2e-4)


def test_what_a_config_names_to_start_from_are_folders_and_what_it_leaves_out_is_a_word() -> None:
    config = {"data": "photos", "validation": "v", "picture": {"start": ["models/imagenet"], "painting_steps": 0}}
    settings = settings_of("picture", config, {})
    assert settings.start == [Path("models/imagenet")]
    assert settings.painting_steps == 0
    assert settings_of("model", config | {"model": {"without": "search"}}, {}).without == "search"
