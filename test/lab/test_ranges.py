"""`semhier ranges`: a model folder learns to paint in integers, and says what that costs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest

from semhier_ros.cli import main
from semhier_ros.codec.painting import RANGES
from semhier_ros.footage.video import default_video, read_video
from semhier_ros.paths import find_model


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of the demo's street."""
    folder = tmp_path_factory.mktemp("images")
    for number, frame in zip(range(4), read_video(default_video()), strict=False):
        cv2.imwrite(str(folder / f"{number}.png"), frame.image[:, :, ::-1])
    return folder


def test_a_folder_gets_ranges_and_the_command_says_what_they_cost(tmp_path: Path, images: Path) -> None:
    model, out = tmp_path / "road", tmp_path / "out.json"
    shutil.copytree(find_model("road"), model)
    shipped = json.loads((model / RANGES).read_text(encoding="utf-8"))
    (model / RANGES).unlink()
    assert main(["ranges", "--model", str(model), "--images", str(images), "--json", str(out)]) == 0
    made = json.loads((model / RANGES).read_text(encoding="utf-8"))
    assert made["graph"] == shipped["graph"]
    assert made["ranges"].keys() == shipped["ranges"].keys()
    told = json.loads(out.read_text(encoding="utf-8"))
    assert told["checked_with"] == 2
    assert [row["picture_blocks"] for row in told["psnr"]] == [0, 1, 2, 3]
    assert all(row["psnr_floats"] > 10 for row in told["psnr"])


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
