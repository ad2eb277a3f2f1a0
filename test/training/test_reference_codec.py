"""`semhier train reference`: weights that `compressai:PATH` loads and codes with, from a run that may be cut in two."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra `train`)")
pytest.importorskip("compressai", reason="CompressAI is not installed (extra `train`, up to Python 3.12)")

from semhier_ros.cli import main
from semhier_ros.lab.baselines import Setting, make, send
from semhier_ros.training.checkpoint import load_checkpoint
from semhier_ros.training.device import in_float32
from semhier_ros.training.photos import STORED, cache_pixels
from semhier_ros.training.reference_codec import ARCHITECTURES, make_network

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photos in a tar with their manifest, in the folder that keeps them decoded as well."""
    folder = tmp_path_factory.mktemp("cache")
    y, x = np.mgrid[:STORED, :STORED]
    waves = [np.stack([np.sin(x / n + y / 13), np.cos(x / 5 - y / 31), np.sin(y / n)], -1) for n in (5, 7, 11, 17)]
    rows = ["shard,key,label,source"]
    with tarfile.open(folder / "photos-00.tar", "w") as tar:
        for number, picture in enumerate((127 + 90 * np.stack(waves)).astype(np.uint8)):
            data = cv2.imencode(".png", picture)[1].tobytes()
            about = tarfile.TarInfo(f"{number}.png")
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
            rows.append(f"photos-00.tar,{number}.png,wave,waves")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def words(cache: Path, out: Path, architecture: str, *more: object) -> list[str]:
    places = ["--photos", cache, "--cache", cache, "--out", out, "--threads", 1, "--device", "cpu"]
    size = ["--batch", 2, "--crop", 64, "--workers", 0]
    return [str(word) for word in ("train", "reference", "--architecture", architecture, *places, *size, *more)]


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_what_a_few_steps_leave_codes_pictures(architecture: str, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.pth.tar"
    precision = ["--bf16"] if architecture.startswith("bmshj") else []  # emulated, so slow, on many a processor
    assert main(words(cache, out, architecture, "--steps", 4, *precision)) == 0
    first = load_checkpoint(out)
    assert first is not None
    assert first["training"]["step"] == 4
    assert main(words(cache, out, architecture, "--steps", 6)) == 0
    saved = load_checkpoint(out)
    assert saved is not None
    assert saved["training"]["step"] == 6
    assert saved["training"]["minutes"] > first["training"]["minutes"]
    moved = {name: value for name, value in saved["training"]["network"].items() if name.endswith("weight")}
    assert all(not torch.equal(value, first["training"]["network"][name]) for name, value in moved.items())
    codec = make(f"compressai:{out}")
    assert type(codec.networks[0]) is type(make_network(architecture))
    picture = np.asarray(cache_pixels(cache, cache)[0][0])
    ((_, arrived),) = send(codec, picture, [Setting(0.5, 0)])
    assert arrived.picture.shape == picture.shape
    assert arrived.payload_bytes > 20


def test_likelihoods_stay_in_float32() -> None:
    network = make_network("bmshj2018-hyperprior")
    for module in (network.entropy_bottleneck, network.gaussian_conditional):
        in_float32(module)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        out = network(torch.rand(1, 3, 64, 64))
    assert out["x_hat"].dtype == torch.bfloat16
    assert {value.dtype for value in out["likelihoods"].values()} == {torch.float32}


def test_what_cannot_be_used_is_one_line(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "one.pth.tar"

    def said(*more: object, photos: Path = cache, kept: Path = cache) -> str:
        line = [*words(cache, out, "bmshj2018-hyperprior", "--steps", 1), "--photos", str(photos), "--cache", str(kept)]
        assert main([*line, *map(str, more)]) == 2
        (found,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("semhier: "))
        return found

    assert "--crop 100: 64, 128 or 192 wanted" in said("--crop", 100)
    assert "--lambda 0.0: above 0 wanted" in said("--lambda", 0)
    assert "is not a folder" in said(photos=tmp_path / "none")
    assert "manifest.csv" in said(photos=tmp_path, kept=tmp_path)
    assert "device: 'tpu'" in said("--device", "tpu")
    assert main(words(cache, out, "bmshj2018-hyperprior", "--steps", 1)) == 0
    assert "was trained with lambda 0.0018, not 0.5" in said("--lambda", 0.5)
    for data in (b"", b"nonsense"):
        out.write_bytes(data)
        assert "no checkpoint of this command" in said()
