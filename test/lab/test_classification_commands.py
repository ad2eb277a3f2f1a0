"""`semhier measure classification` and `transfer` from end to end: odd pictures work, what cannot be used is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from semhier_ros.cli import main
from semhier_ros.lab.baselines import Setting
from semhier_ros.lab.results import installed_hashes
from semhier_ros.lab.studies import transfer
from semhier_ros.lab.studies.classification import MOST_SETTINGS, worth_measuring
from semhier_ros.paths import model_names, models_dir

pytestmark = pytest.mark.skipif("imagenet" not in model_names(), reason="models/imagenet is not there")

Complaint = Callable[..., str]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise on a slope, HxWx3 uint8."""
    noise = np.random.default_rng(seed).integers(0, 60, (height, width, 3))
    return (noise + np.linspace(0, 190, width)[None, :, None]).astype(np.uint8)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that few expect, with labels.csv."""
    folder = tmp_path_factory.mktemp("odd")
    grey = (picture(40, 50)[..., 0].astype(np.uint16) * 257).astype(np.uint16)
    made = {
        "point.png": picture(1, 1),
        "tall.png": picture(4001, 17),
        "wide.png": picture(17, 4001),
        "grey16.png": grey,
        "alpha.png": np.dstack([picture(30, 30), np.full((30, 30), 9, np.uint8)]),
        "photo.jpg": picture(120, 90),
    }
    for name, pixels in made.items():
        assert cv2.imwrite(str(folder / name), pixels)
    rows = [f"{name},{number % 3}" for number, name in enumerate(made)]
    (folder / "labels.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
    return folder


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Complaint:
    """Runs a command that has to be refused, and gives the one line that says why."""

    def run(*words: object) -> str:
        try:
            status: object = main([str(word) for word in words])
        except SystemExit as ended:
            status = ended.code
        assert status == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("semhier")]
        assert len(lines) == 1
        return lines[0]

    return run


def test_odd_pictures_are_measured_like_others(odd: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "out.json", tmp_path / "out.svg"
    words = ["--codecs", "semhier", "answer", "jpeg", "--no-judge", "--jobs", "1", "--probe", "2"]
    words += ["--json", str(out), "--plot", str(plot)]
    labels = odd / "labels.csv"
    assert main(["measure", "classification", "--images", str(odd), "--labels", str(labels), *words]) == 0
    result = json.loads(out.read_text())
    assert result["images"] == 6
    assert (result["model"], result["model_hash"]) == ("imagenet", installed_hashes()["imagenet"])
    ours = result["codecs"]["semhier"]
    assert [row["prefix"] for row in ours] == list(range(len(ours)))
    assert all(0 < row["payload_bytes_mean"] < row["bytes_mean"] for row in ours)
    assert all(set(row["accuracy"]) == {"L0", "L1", "L2"} for row in ours)
    assert ours[-1]["psnr"] > ours[0]["psnr"]
    jpeg = result["codecs"]["jpeg"]
    assert 2 <= len(jpeg) <= MOST_SETTINGS
    assert [row["payload_bytes_mean"] for row in jpeg] == sorted(row["payload_bytes_mean"] for row in jpeg)
    assert all(row["payload_bytes_mean"] + 50 < row["bytes_mean"] for row in jpeg)
    assert len({row["scale"] for row in jpeg}) > 1
    assert all(row["best_at"] in ([], ["psnr"]) for row in jpeg)
    assert "quantiser tables" in result["headers"]["jpeg"]
    assert [row["payload_bytes"] for row in result["at"]["jpeg"]] == [300, 600, 1200, 2400]
    assert set(result["at"]) == {"semhier", "jpeg"}
    assert "<svg" in plot.read_text()


def test_the_control_stands_beside_ours_at_sizes(odd: Path, tmp_path: Path, complaint: Complaint) -> None:
    folder = models_dir() / "imagenet"
    control = f"control:{folder}"
    photos = ("--images", odd, "--labels", odd / "labels.csv", "--no-judge", "--jobs", 1, "--probe", 2)
    words = [*photos, "--codecs", "semhier", control, "--at", 600, 200, "--json", tmp_path / "out.json"]
    assert main(["measure", "classification", *map(str, words)]) == 0
    result = json.loads((tmp_path / "out.json").read_text())
    blocks = result["codecs"][control]
    assert len(blocks) > 2
    ours = [row["payload_bytes_mean"] for row in result["codecs"]["semhier"]]
    for row in blocks:
        assert row["payload_bytes_mean"] == pytest.approx(ours[3 + row["quality"]] - ours[3])
    assert [row["payload_bytes"] for row in result["at"][control]] == [200, 600]
    for own, row in zip(result["at"]["semhier"], result["at"][control], strict=True):
        lead = own["value"]["psnr"] - row["value"]["psnr"]
        assert row["margin_of_semhier"]["psnr"] == pytest.approx(lead)
        assert row["margin_interval"]["psnr"][0] <= lead <= row["margin_interval"]["psnr"][1]
    damaged = Path(shutil.copytree(folder, tmp_path / "damaged"))
    (damaged / "picture_synthesis.onnx").write_bytes(b"nothing")
    said = complaint("measure", "classification", *photos, "--codecs", f"control:{damaged}")
    assert str(damaged) in said


def test_a_damaged_photo_is_named_from_the_process_that_met_it(odd: Path, tmp_path: Path, complaint: Complaint) -> None:
    (tmp_path / "good.jpg").write_bytes((odd / "photo.jpg").read_bytes())
    (tmp_path / "broken.jpg").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\ngood.jpg,1\nbroken.jpg,2\n")
    words = ("--codecs", "semhier", "--blocks", 2, "--no-pictures", "--jobs", 1)
    said = complaint("measure", "classification", "--images", tmp_path, "--labels", labels, *words)
    assert "broken.jpg: no picture, or damaged" in said


def test_what_classification_cannot_use_is_named(odd: Path, tmp_path: Path, complaint: Complaint) -> None:
    labels, bad = odd / "labels.csv", tmp_path / "bad.csv"

    def said(*words: object, images: Path = odd, rows: Path = labels) -> str:
        return complaint("measure", "classification", "--images", images, "--labels", rows, "--no-judge", *words)

    assert "point.png is missing" in said(images=tmp_path)
    for label in ("1000", "-1", "poodle", "", "²"):
        bad.write_text(f"file,label\npoint.png,{label}\n", encoding="utf-8")
        assert f"has label {label!r}, expected 0..999" in said(rows=bad)
    bad.write_text("file,label\npoint.png\n")
    assert "has label ''" in said(rows=bad)
    bad.write_bytes(bytes(range(128, 256)) * 20)
    assert "bad.csv" in said(rows=bad)
    assert "none.txt" in said("--split", tmp_path / "none.txt")
    assert "--groupings" in said("--groupings", tmp_path / "none.csv")
    assert "'bpg' is not one of jpeg," in said("--codecs", "bpg")
    assert "no model 'nosuchmodel'" in said("--model", "nosuchmodel")
    assert "road reads no whole images" in said("--model", "road")
    assert "--blocks 99: outside" in said("--blocks", 99)
    assert "--at: '0', a whole number from 1" in said("--at", 300, 0)
    assert "no model 'nosuchfolder'" in said("--codecs", "control:nosuchfolder")
    assert "--quality 99: outside" in said("--quality", 99)


def test_what_transfer_cannot_use_is_named(odd: Path, tmp_path: Path, complaint: Complaint) -> None:
    labels = tmp_path / "labels.csv"

    def said(*words: object, images: Path = odd) -> str:
        return complaint("measure", "transfer", "--images", images, *words)

    assert "is not a folder" in said(images=tmp_path / "none")
    assert "has no manifest.csv" in said(images=tmp_path)
    assert "labels.csv" in said("--labels", labels)
    labels.write_text("file,class\na.png,3\n")
    assert "columns file,label wanted" in said("--labels", labels)
    labels.write_text("file,label\n")
    assert "names no photo" in said("--labels", labels)
    labels.write_text("file,label,split\npoint.png,,train\n")
    assert "point.png has no label" in said("--labels", labels)
    labels.write_text("file,label,split\npoint.png,a,train\ntall.png,b,train\n")
    assert "set 'labels' has 2 photos of 2 classes to train on and 0 to test" in said("--labels", labels)
    labels.write_text("file,label,split\npoint.png,a,train\nwide.png,b,train\nnone.png,a,test\n")
    assert "none.png" in said("--labels", labels, "--codecs", "answer")
    assert "'bpg' is not one of" in said("--labels", labels, "--codecs", "bpg")


def test_what_transfer_measured_says_of_which_model(odd: Path, tmp_path: Path, monkeypatch) -> None:
    labels, out, folder = tmp_path / "labels.csv", tmp_path / "out.json", tmp_path / "another name"
    labels.write_text("file,label,split\nphoto.jpg,a,train\nalpha.png,b,train\ngrey16.png,a,test\n")
    shutil.copytree(models_dir() / "imagenet", folder)
    monkeypatch.setattr(transfer, "probe", lambda features, labels, test, again=None: np.ones(int(test.sum()), bool))
    words = ["--images", odd, "--labels", labels, "--model", folder, "--codecs", "answer", "--every", 99, "--json", out]
    assert main(["measure", "transfer", *map(str, words)]) == 0
    result = json.loads(out.read_text())
    assert (result["model"], result["model_hash"]) == ("imagenet", installed_hashes()["imagenet"])


def test_settings_worth_measuring_are_few_distinct_and_at_the_frontier() -> None:
    settings = [Setting(scale, quality) for scale in (1.0, 0.5) for quality in range(40)]
    rows = [
        {"payload_bytes": 50 + 10 * s.quality * s.scale, "L0": -5 / (1 + s.quality * s.scale), "psnr": s.quality / 10}
        for s in settings
    ]
    chosen = worth_measuring(settings, [rows, rows])
    assert 2 < len(chosen) == MOST_SETTINGS
    assert chosen[0] in (Setting(1.0, 0), Setting(0.5, 0))
    assert Setting(1.0, 39) in chosen
    same = [{"payload_bytes": 7, "psnr": 20.0}] * len(settings)
    assert worth_measuring(settings, [same]) == settings[:1], "what cannot be told apart is one setting"
