"""What is found in labelled scenes, where something unlabelled may be."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (extra `train`)")

from semhier_ros.scene.objects import Objects
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.training.road_data import load_scenes
from semhier_ros.training.road_model import make_layout
from semhier_ros.training.road_objects import collect
from semhier_ros.training.yolo_data import YoloData

TREE = Taxonomy.from_parents("tiny", [["thing"], ["car", "bus"]], [[0, 0]], level_names=["any", "type"])
FOUND = [[100, 100, 40, 40], [300, 100, 40, 40], [500, 100, 40, 40]]  # cx, cy, w, h of the canvas, 800 wide


class Finder:
    """Three objects, wherever one looks."""

    def look(self, picture: np.ndarray) -> np.ndarray:
        return picture

    def objects(self, picture: np.ndarray, size: tuple[int, int], least: float, most: int) -> Objects:
        boxes = np.array(FOUND, np.float32) / 8
        cells = (boxes[:, 1].astype(int) * 100 + boxes[:, 0].astype(int)).astype(np.int64)
        scores, leaves, features = (np.zeros(shape, np.float32) for shape in ((3,), (3, 2), (3, 96)))
        return Objects(cells, boxes, scores + 0.5, leaves, features)


@pytest.mark.parametrize(("flip", "kept"), [(False, [True, False, True]), (True, [True, True, False])])
def test_what_has_no_label_in_an_ignored_region_is_neither_right_nor_wrong(
    tmp_path: Path, flip: bool, kept: list[bool]
) -> None:
    for split in ("train", "val"):
        for kind in ("images", "labels", "ignored"):
            (tmp_path / kind / split).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "images" / split / "0.png"), np.zeros((480, 800, 3), np.uint8))
        (tmp_path / "labels" / split / "0.txt").write_text(f"0 {100 / 800} {100 / 480} {40 / 800} {40 / 480}\n")
    (tmp_path / "ignored/val/0.txt").write_text("0 0.25 0.25 0.5 0.5\n")  # the upper left quarter
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [car, bus]\n")
    data = YoloData.open(tmp_path / "data.yaml", tmp_path)
    layout = make_layout(TREE, 0.2, 0.12, (0.1, 0.5), 9)
    without, within = (load_scenes(data, split, tmp_path / "cache") for split in ("train", "choose"))
    (plain,) = collect(Finder(), without, layout, ((1.0, False),), 0.1)
    assert plain.truth.tolist() == [0, -1, -1]
    (found,) = collect(Finder(), within, layout, ((1.0, flip),), 0.1)
    assert found.objects.boxes.tolist() == plain.objects.boxes[np.array(kept)].tolist()
    assert len(found.truth) == len(found.wanted) == sum(kept)


def test_labels_beside_their_pictures_are_no_ignored_regions(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((48, 80, 3), np.uint8))
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "list.txt").write_text("a.png\n")
    (tmp_path / "data.yaml").write_text("train: list.txt\nval: list.txt\nnames: [car]\n")
    scenes = load_scenes(YoloData.open(tmp_path / "data.yaml", tmp_path), "train", tmp_path / "cache")
    assert [len(rows) for rows in (scenes.boxes[0], scenes.ignored[0])] == [1, 0]
