"""Labelled scenes as they are found: labels that are not where they should be, pictures that change, targets."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from semhier_ros.codec.canvas import Canvas
from semhier_ros.training import packed as packed_module
from semhier_ros.training.errors import MissingFile, TrainingError
from semhier_ros.training.packed import PackedArray, fingerprint, last_packed, packed, states
from semhier_ros.training.road_data import CANVAS, Scenes, as_picture, load_scenes, shown
from semhier_ros.training.scene_samples import STRIDE, make_targets
from semhier_ros.training.yolo_data import YoloData


def make_data(root: Path, labels: str = "labels", images: str = "images", box: str = "0 0.3 0.4 0.2 0.2\n") -> YoloData:
    """Four pictures a split with labels under `labels`."""
    for split in ("train", "val"):
        for place in (images, labels):
            (root / place / split).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            cv2.imwrite(str(root / images / split / f"{number}.png"), np.full((90, 160, 3), 40 * number, np.uint8))
            (root / labels / split / f"{number}.txt").write_text(box)
    (root / "data.yaml").write_text(f"train: {images}/train\nval: {images}/val\nnames: [car]\n")
    return YoloData.open(root / "data.yaml", root)


def test_a_split_whose_labels_are_not_found_is_an_error(tmp_path: Path) -> None:
    data = make_data(tmp_path, labels="Annotations", images="JPEGImages")
    with pytest.raises(
        TrainingError, match=r"split train: none of 4 images has a label file; the first should be .*0\.txt"
    ):
        load_scenes(data, "train", tmp_path / "cache")


def test_a_split_without_any_object_is_an_error(tmp_path: Path) -> None:
    data = make_data(tmp_path, box="\n")
    with pytest.raises(TrainingError, match="split choose: no object in any of 4 label files"):
        load_scenes(data, "choose", tmp_path / "cache")


def test_missing_labels_are_told_with_their_share_and_empty_files_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path)
    (tmp_path / "labels" / "train" / "2.txt").write_text("")
    assert len(load_scenes(data, "train", tmp_path / "cache").boxes[2]) == 0
    assert capsys.readouterr().err == ""
    (tmp_path / "labels" / "train" / "1.txt").unlink()
    scenes = load_scenes(data, "train", tmp_path / "cache")
    assert [len(boxes) for boxes in scenes.boxes] == [1, 0, 0, 1]
    assert "split train: 1 of 4 images (25%) have no label file and count as empty" in capsys.readouterr().err


def test_a_split_may_be_a_list_of_places(tmp_path: Path) -> None:
    make_data(tmp_path)
    (tmp_path / "list.txt").write_text("\ufeffimages/val/3.png\n\n", encoding="utf-8")
    (tmp_path / "own.yaml").write_text("train: [images/train, list.txt]\nval: images/val\nnames: {0: car}\n")
    data = YoloData.open(tmp_path / "own.yaml", tmp_path)
    assert [file.name for file in data.images["train"]] == ["0.png", "1.png", "2.png", "3.png", "3.png"]


def test_a_folder_or_list_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for data, splits in ((tmp_path / "none", tmp_path), (tmp_path, tmp_path / "none"), (tmp_path, tmp_path)):
        with pytest.raises(MissingFile, match=r"no such (folder|file)") as caught:
            YoloData.open(data, splits)
        assert "\n" not in str(caught.value)


def test_a_picture_that_was_put_right_is_decoded_anew(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    first = load_scenes(data, "train", tmp_path / "cache")
    assert int(first.pixels[3, 0, 0, 0]) == 120
    again = load_scenes(data, "train", tmp_path / "cache")
    assert again.key == first.key
    file = tmp_path / "images" / "train" / "3.png"
    about = file.stat()
    cv2.imwrite(str(file), np.full((90, 160, 3), 121, np.uint8))
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    changed = load_scenes(data, "train", tmp_path / "cache")
    assert int(changed.pixels[3, 0, 0, 0]) == 121
    assert changed.key != first.key
    assert len(list((tmp_path / "cache").glob("pixels-*.npy"))) == 1


def test_an_array_that_was_cut_short_is_never_taken_for_whole(tmp_path: Path) -> None:
    def cut(path: Path) -> dict[str, int]:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packed(tmp_path, "rows", {"of": 1}, cut)
    assert list(tmp_path.iterdir()) == []
    assert last_packed(tmp_path, "rows") is None

    def whole(path: Path) -> dict[str, int]:
        with path.open("wb") as file:
            np.save(file, np.arange(3))
        return {"count": 3}

    array, notes = packed(tmp_path, "rows", {"of": 1}, whole)
    assert (array[:].tolist(), notes) == ([0, 1, 2], {"count": 3})
    with pytest.raises(KeyboardInterrupt):
        packed(tmp_path, "rows", {"of": 2}, cut)
    assert packed(tmp_path, "rows", {"of": 1}, cut)[1] == {"count": 3}, "the old one stays until a new one is whole"
    (tmp_path / "rows.json").write_text("{")
    assert packed(tmp_path, "rows", {"of": 1}, whole)[1] == {"count": 3}


def test_a_packed_array_travels_as_its_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(1_000_000))
    sent = pickle.dumps(PackedArray(tmp_path / "a.npy"))
    assert len(sent) < 1000
    assert pickle.loads(sent).shape == (1_000_000,)


def test_a_fingerprint_changes_with_every_part(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("1")
    parts = [
        {"a": 1},
        {"a": 2},
        {"b": 1},
        {"a": [1]},
        {"a": "1"},
        states([tmp_path / "f"]),
        states([tmp_path / "none"]),
    ]
    assert len({fingerprint(part) for part in parts}) == len(parts)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert packed_module.states([tmp_path / "none"])[0][1:] == (-1, -1)


@st.composite
def some_boxes(draw: st.DrawFn) -> np.ndarray:
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 3), st.floats(0, 120), st.floats(0, 90), st.floats(3, 128), st.floats(3, 96)),
            max_size=6,
        )
    )
    return np.array([(k, x, y, min(x + w, 128), min(y + h, 96)) for k, x, y, w, h in rows], np.float32).reshape(-1, 5)


@settings(max_examples=60)
@given(some_boxes())
def test_targets_are_the_gaussians_of_the_papers(boxes: np.ndarray) -> None:
    """The whole-grid formula of TTFNet, object by object, from large to small. Boxes and types are taught more widely
    than the heat, but for cells that are nearer to another's middle."""
    found = make_targets(boxes, 128, 96)
    heat, weight, near = np.zeros((12, 16)), np.zeros((12, 16)), np.zeros((12, 16))
    box_map, types = np.zeros((4, 12, 16)), np.zeros((12, 16))
    y, x = np.mgrid[:12, :16].astype(np.float64)
    areas = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])
    for kind, x0, y0, x1, y1 in boxes[np.argsort(-areas)].astype(np.float64):
        middle_x, middle_y = (x0 + x1) / 2 / STRIDE, (y0 + y1) / 2 / STRIDE
        sides = [0.54 * side / STRIDE / 6 for side in (x1 - x0, y1 - y0)]
        bumps = []
        for at_x, at_y, least in (
            (min(int(middle_x), 15), min(int(middle_y), 11), 0.35),
            (middle_x - 0.5, middle_y - 0.5, 0.6),
        ):
            sigma_x, sigma_y = (max(side, least) for side in sides)
            bump = np.exp(-((x - at_x) ** 2) / (2 * sigma_x**2) - (y - at_y) ** 2 / (2 * sigma_y**2))
            assume(np.abs(bump[..., None] - (0.02, 0.05)).min() > 1e-4)  # float32 may see the edge otherwise
            bumps.append(bump)
        peak, bump = bumps
        assume(np.abs(bump - near)[(near > 0) & (peak <= 0.05)].min(initial=1.0) > 1e-5)
        heat = np.maximum(heat, np.where(peak >= 0.02, peak, 0))
        bump[bump <= 0.05] = 0
        teach = (bump > 0) & ((peak > 0.05) | (bump > near))
        weight[teach], near[teach] = (bump / bump.sum())[teach], bump[teach]
        box_map[:, teach] = np.array([x0, y0, x1, y1])[:, None] / STRIDE
        types[teach] = kind
    np.testing.assert_allclose(found.heat[0], heat, atol=1e-5)
    np.testing.assert_allclose(found.weight, weight, atol=1e-5)
    np.testing.assert_allclose(found.box, box_map, atol=1e-5)
    np.testing.assert_array_equal(found.types, types)


def test_a_small_object_teaches_the_cells_around_it_and_none_of_another() -> None:
    """As many as `find_objects` takes the mean of; the middles of two neighbours teach each its own."""
    rows = np.array([[0, 20, 20, 36, 60], [1, 40, 22, 54, 58]], np.float32)
    targets = make_targets(rows, 80, 80)
    assert (targets.heat[0] == 1).sum() == 2
    for kind, row in enumerate(rows):
        cell = int((row[2] + row[4]) / 16), int((row[1] + row[3]) / 16)
        assert targets.types[cell] == kind
        taught = (targets.weight > 0) & (targets.box == row[1:, None, None] / STRIDE).all(axis=0)
        assert taught.sum() >= 4, "more than the middle's cell"
        assert (np.abs(np.argwhere(taught) - cell) <= 1).all()


def test_targets_have_the_cells_of_the_detector() -> None:
    detector = pytest.importorskip("semhier_ros.torch.detector", reason="torch is not installed (extra `train`)")
    assert STRIDE == detector.STRIDE


@pytest.mark.parametrize(("scale", "flip"), [(1.0, False), (1.0, True), (0.75, False)])
def test_a_scene_as_a_picture_has_its_objects_where_the_canvas_shows_them(scale: float, flip: bool) -> None:
    pixels = np.zeros((1, 360, 640, 3), np.uint8)
    pixels[0, 100:140, 60:160] = 255
    scenes = Scenes(["one"], pixels, np.array([[480, 360]]), [np.array([[3, 60, 100, 160, 140]], np.float32)])
    picture, labels = as_picture(scenes, 0, scale, flip)
    canvas = Canvas(*CANVAS, source=(picture.shape[1], picture.shape[0])).place(picture)
    rows, columns = np.nonzero(canvas[..., 0] > 200)
    assert labels[0, 0] == 3
    np.testing.assert_allclose(labels[0, 1:], (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), atol=1.5)
    assert (labels[0, 3] - labels[0, 1]) == pytest.approx(100 * scale * CANVAS[1] / 360, rel=0.01)
    assert scenes.boxes[0][0, 1] == 60


@pytest.mark.parametrize("scale", [(2.0, 2.0), (1.5, 1.3), (1.0, 1.0), (0.7, 0.8)])
def test_a_crop_shows_objects_where_its_boxes_say(scale: tuple[float, float]) -> None:
    """The middle of a bright patch is that of its box, moved and scaled, to a tenth of a pixel at every scale."""
    picture = np.zeros((80, 120), np.float32)
    picture[30:46, 50:80] = 255.0
    crop = cv2.warpAffine(picture, shown(scale, (11.0, 7.0)), (240, 160), flags=cv2.INTER_LINEAR)
    rows, columns = np.mgrid[: crop.shape[0], : crop.shape[1]] + 0.5
    middle = (columns * crop).sum() / crop.sum(), (rows * crop).sum() / crop.sum()
    assert middle == pytest.approx((65 * scale[0] - 11, 38 * scale[1] - 7), abs=0.1)
