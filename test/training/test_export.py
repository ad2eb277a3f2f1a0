"""`semhier export`: graphs anew from weights, and all else of the folder as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from semhier_ros.cli import main

pytest.importorskip("torch", reason="torch is not installed (extra `train`)")
pytest.importorskip("timm", reason="timm is not installed (extra `train`)")

MODELS = Path(__file__).resolve().parents[2] / "models"
HASHES = ("stream_hash", "model_hash")


def test_a_folder_whose_graphs_are_made_anew_keeps_all_that_its_card_says(tmp_path: Path) -> None:
    folder = tmp_path / "street"
    shutil.copytree(MODELS / "street", folder)
    assert main(["export", str(folder)]) == 0
    before, after = (json.loads((place / "model.json").read_text()) for place in (MODELS / "street", folder))
    assert {key: value for key, value in after.items() if key not in HASHES} == {
        key: value for key, value in before.items() if key not in HASHES
    }
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in (MODELS / "street").iterdir())
    assert (folder / "README.md").read_bytes() == (MODELS / "street" / "README.md").read_bytes()


@pytest.mark.parametrize(
    ("model", "said"),
    [("coco80", "model coco80: a detector of others"), ("imagenet", "model imagenet: kind whole-image")],
)
def test_a_folder_of_other_networks_is_refused_in_one_line(
    model: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", model]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"semhier: {said}")
    assert error.count("\n") == 1
