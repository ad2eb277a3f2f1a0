"""`semhier ranges`: a model folder learns to paint in integers, and says what that costs."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import cv2
import pytest

from semhier_ros.cli import main
from semhier_ros.codec.painting import RANGES
from semhier_ros.footage.video import default_video, read_video
from semhier_ros.paths import find_model
from semhier_ros.scene.backend import DETECTOR_RANGES


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of the demo's street."""
    folder = tmp_path_factory.mktemp("images")
    for number, frame in enumerate(islice(read_video(default_video()), 130, 250, 30)):
        cv2.imwrite(str(folder / f"{number}.png"), frame.image[:, :, ::-1])
    return folder


def test_a_folder_gets_ranges_and_the_command_says_what_they_cost(tmp_path: Path, images: Path) -> None:
    model, out = tmp_path / "street", tmp_path / "out.json"
    shutil.copytree(find_model("street"), model)
    shipped = {name: json.loads((model / name).read_text(encoding="utf-8")) for name in (RANGES, DETECTOR_RANGES)}
    for name in shipped:
        (model / name).unlink()
    assert main(["ranges", "--model", str(model), "--images", str(images), "--json", str(out)]) == 0
    for name, before in shipped.items():
        made = json.loads((model / name).read_text(encoding="utf-8"))
        assert made["graph"] == before["graph"]
        assert made["ranges"].keys() == before["ranges"].keys()
    told = json.loads(out.read_text(encoding="utf-8"))
    assert told["checked_with"] == 2
    assert [row["picture_blocks"] for row in told["pictures"]["psnr"]] == [0, 1, 2, 3]
    assert all(row["psnr_floats"] > 10 for row in told["pictures"]["psnr"])
    looks = told["detector"]
    assert looks["objects_floats"] > 4
    assert looks["kept"] > 0.6
    assert looks["overlap"] > 0.8


def test_layers_that_are_named_stay_in_floats(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "road"
    shutil.copytree(find_model("road"), model)
    shipped = json.loads((model / RANGES).read_text(encoding="utf-8"))["ranges"]
    command = ["ranges", "--model", str(model), "--images", str(images), "--part", "pictures", "--floats"]
    assert main([*command, "linear", "fine.1.body.3"]) == 0
    made = json.loads((model / RANGES).read_text(encoding="utf-8"))["ranges"]
    assert made.keys() == {name for name in shipped if not name.startswith("linear/") and name != "fine.1.body.3"}
    assert main([*command, "nosuch"]) == 2
    assert "--floats nosuch: not one of " in capsys.readouterr().err


def test_a_model_without_a_detector_of_its_own_is_told(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ranges", "--model", "imagenet", "--images", str(images), "--part", "detector"]) == 2
    assert "--part detector: model imagenet has no detector of its own" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "said"), [("nosuch", "no model 'nosuch'"), ("coco80", "detector: model coco80 has none")]
)
def test_a_model_that_cannot_be_taken_is_named_in_a_line(
    model: str, said: str, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ranges", "--model", model, "--images", str(images)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("semhier: ")
    assert said in error
    assert error.count("\n") == 1
