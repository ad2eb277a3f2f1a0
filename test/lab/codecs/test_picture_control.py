"""The control `control:FOLDER`: the very bytes of a model's picture blocks, decoded with nothing told of meaning."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from semhier_ros.api import Codec
from semhier_ros.codec.entropy import BlockError
from semhier_ros.codec.packet import Block, Packet
from semhier_ros.lab.baselines import Setting, make, send
from semhier_ros.lab.baselines.picture_control import PictureBlocksAlone
from semhier_ros.paths import model_names, models_dir
from semhier_ros.whole_image.view import square_view

pytestmark = pytest.mark.skipif("imagenet" not in model_names(), reason="models/imagenet is not there")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A smooth scene with an edge, of which the model's view is the middle as it is (256x256 to 224x224)."""
    y, x = np.mgrid[:256, :256]
    shade = np.stack([x, y, 128 + 60 * np.sin(x / 9) * np.cos(y / 7)], axis=2)
    shade[70:150, 90:180] = (200, 40, 30)
    return shade.astype(np.uint8)


@pytest.fixture(scope="module")
def view(picture: np.ndarray) -> np.ndarray:
    return square_view(picture, 224)


@pytest.fixture(scope="module")
def control() -> PictureBlocksAlone:
    codec = make(f"control:{models_dir() / 'imagenet'}")
    assert isinstance(codec, PictureBlocksAlone)
    return codec


def decibels(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def test_its_bytes_are_the_picture_blocks_of_an_encode(
    picture: np.ndarray, view: np.ndarray, control: PictureBlocksAlone
) -> None:
    codec = Codec.load("imagenet", "cpu", threads=1)
    blocks = codec.encode(picture)[codec.semantic_blocks :]
    assert control.qualities == tuple(range(1, len(blocks) + 1))
    for count in control.qualities:
        data = control.encode(view, count)
        assert Packet.parse(data).blocks == tuple(blocks[:count])
        assert len(data) - control.header_bytes(data) == sum(len(block.data) for block in blocks[:count])
        assert control.header_bytes(data) < 20


def test_its_pictures_come_from_the_bytes_alone_and_rise(view: np.ndarray, control: PictureBlocksAlone) -> None:
    other = make(control.name)
    settings = control.settings()
    assert settings == [Setting(1.0, quality) for quality in control.qualities]
    shown = []
    for setting, arrived in send(control, view, settings):
        assert arrived.picture.shape == view.shape
        assert (other.decode(control.encode(view, setting.quality)) == arrived.picture).all()
        shown.append((arrived.payload_bytes, decibels(arrived.picture, view)))
    assert shown == sorted(shown)
    assert shown[-1][1] > shown[0][1] + 3
    assert shown[-1][1] > 28


def test_it_is_told_nothing_of_meaning(
    view: np.ndarray, control: PictureBlocksAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    backend = control._model.backend
    before = backend.synthesise
    monkeypatch.setattr(backend, "synthesise", lambda *values: told.append(values) or before(*values))
    control.decode(control.encode(view, 2))
    ((_, present, meaning),) = told
    assert present.tolist() == [1, 1, 0, 0, 0]
    assert meaning.shape == (32, 14, 14)
    assert not meaning.any()


def test_a_picture_of_another_shape_is_squeezed_into_the_view(control: PictureBlocksAlone) -> None:
    wide = np.linspace(0, 255, 60 * 301 * 3).reshape(60, 301, 3).astype(np.uint8)
    ((_, arrived),) = send(control, wide, [Setting(1.0, 3)])
    assert arrived.picture.shape == wide.shape
    assert decibels(arrived.picture, wide) > 20


def test_what_no_encoder_made_is_refused(view: np.ndarray, control: PictureBlocksAlone) -> None:
    packet = Packet.parse(control.encode(view, 2))
    with pytest.raises(ValueError, match="CRC-32"):
        control.decode(packet.to_bytes()[:-5] + b"nope!")
    stranger = [Block(packet.stream ^ 1, 0, block.index, block.data) for block in packet.blocks]
    for blocks in (stranger, packet.blocks[1:], [Block(packet.stream, 0, 0, b"")]):
        with pytest.raises(ValueError, match=r"blocks from \d of stream \w{4} are not of control:"):
            control.decode(Packet.pack(blocks))
    with pytest.raises(BlockError):
        control.decode(Packet.pack([Block(packet.stream, 0, 4, b"")]))
    for quality in (0, 6, 1.5):
        with pytest.raises(ValueError, match="is not one of 1, 2, 3, 4, 5"):
            control.encode(view, quality)


def test_a_folder_that_is_of_no_use_is_named(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models_dir() / "imagenet", tmp_path / "damaged"))
    stream = folder / "stream.safetensors"
    stream.write_bytes(stream.read_bytes()[:-7])
    with pytest.raises(ValueError, match="damaged"):
        make(f"control:{folder}")
    stream.unlink()
    with pytest.raises(ValueError, match=r"stream\.safetensors is missing"):
        make(f"control:{folder}")
    (folder / "model.json").write_text("{")
    with pytest.raises(ValueError, match=r"model\.json"):
        make(f"control:{folder}")
    with pytest.raises(FileNotFoundError, match="no model"):
        make(f"control:{tmp_path / 'none'}")
    with pytest.raises(ValueError, match="is not one of"):
        make("control:")
    if "road" in model_names():
        with pytest.raises(ValueError, match="control: road is a model of scenes"):
            make("control:road")
