"""CompressAI's networks as reference codecs: untrained ones of few channels make real bytes that decode."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("compressai", reason="CompressAI is not installed (extra `train`, up to Python 3.12)")

import torch
from compressai import models

from semhier_ros.lab.baselines import Setting, make, send

pytestmark = pytest.mark.torch

ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "factorized": lambda: models.FactorizedPrior(8, 12),
    "hyperprior": lambda: models.ScaleHyperprior(8, 12),
    "mean-scale": lambda: models.MeanScaleHyperprior(8, 12),
    "autoregressive": lambda: models.JointAutoregressiveHierarchicalPriors(8, 12),
    "cheng2020-anchor": lambda: models.Cheng2020Anchor(8),
    "cheng2020-attn": lambda: models.Cheng2020Attention(8),
}


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A small scene whose sides are no multiples of what the networks halve."""
    y, x = np.mgrid[:70, :90]
    return np.stack([x * 2, y * 3, 128 + 60 * np.sin(x / 9)], axis=2).astype(np.uint8)


def saved(path: Path, name: str, wrapped: bool = False) -> Any:
    """An untrained network of that architecture, its state dict at `path`."""
    torch.manual_seed(3)
    network = ARCHITECTURES[name]().eval()
    state = network.state_dict()
    torch.save({"epoch": 1, "state_dict": state} if wrapped else state, path)
    return network


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_bytes_decode_to_what_the_network_itself_reconstructs(name: str, picture: np.ndarray, tmp_path: Path) -> None:
    network = saved(tmp_path / "one.pth", name, wrapped=name == "hyperprior")
    codec = make(f"compressai:{tmp_path / 'one.pth'}")
    assert type(codec.networks[0]) is type(network)
    data = codec.encode(picture, 0)
    shown = codec.decode(data)
    assert shown.shape == picture.shape
    network.update(force=True)
    padded = np.pad(picture, ((0, 58), (0, 38), (0, 0)), mode="edge").astype(np.float32) / 255
    with torch.inference_mode():
        planes = torch.from_numpy(padded).permute(2, 0, 1)[None]
        packed = network.compress(planes)
        expected = network.decompress(packed["strings"], packed["shape"])["x_hat"][0].permute(1, 2, 0).numpy()
    assert np.abs(shown / 255 - expected[:70, :90].clip(0, 1)).max() <= 0.51 / 255
    written = sum(len(one[0]) for one in packed["strings"])
    assert len(data) - codec.header_bytes(data) == written


def test_a_folder_is_a_codec_of_several_qualities(picture: np.ndarray, tmp_path: Path) -> None:
    saved(tmp_path / "a.pth.tar", "hyperprior")
    saved(tmp_path / "b.pth", "factorized")
    (tmp_path / "notes.txt").write_text("no checkpoint")
    codec = make(f"compressai:{tmp_path}")
    assert codec.qualities == (0, 1)
    assert len(codec.settings()) == 2 * len(codec.scales)
    for _, arrived in send(codec, picture, [Setting(1.0, 0), Setting(0.5, 1)]):
        assert arrived.picture.shape == picture.shape
        assert arrived.payload_bytes == arrived.total_bytes - 9 > 0


class _Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


def test_what_is_no_checkpoint_is_refused_and_never_executed(
    tmp_path: Path, picture: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="is no checkpoint and no folder of them"):
        make(f"compressai:{tmp_path / 'none.pth'}")
    path = tmp_path / "bad.pth"
    for data in (b"", b"nonsense", pickle.dumps(_Harm(), protocol=2)):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"bad\.pth is no checkpoint"):
            make(f"compressai:{path}")
    assert "executed" not in capsys.readouterr().out
    torch.save({"g_a.0.weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="fits none of the architectures"):
        make(f"compressai:{path}")
    saved(path, "factorized")
    with pytest.raises(ValueError, match="none of the 1 networks made them"):
        make(f"compressai:{path}").decode(b"\7" + bytes(9))
