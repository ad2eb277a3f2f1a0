"""Labels as people have them: what is right is read, what is left out is told, and the rest is one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from semhier_ros.footage.bags import open_footage
from semhier_ros.footage.labels import (
    LabelError,
    Names,
    Notes,
    check_scenes,
    find_scenes,
    labelled_world,
    labelled_worlds,
    read_grouping,
    read_labels,
    read_leaves,
    read_photos,
)
from semhier_ros.footage.messages import BagWriter, camera_messages, write_camera
from semhier_ros.footage.video import FootageError, VideoCamera, picture_files, read_picture, write_picture
from semhier_ros.paths import config_dir
from semhier_ros.taxonomy import Taxonomy

TREE = Taxonomy.load(config_dir() / "taxonomies" / "road21.yaml")
CAR = TREE.names(2).index("car")
ROW = "0 0.5 0.5 0.2 0.2\n"
BOX = [0.0, 256.0, 108.8, 128.0, 54.4]


@pytest.mark.parametrize(
    "text",
    [
        ROW.encode(),
        b"0 0.5 0.5 0.2 0.2\r\n\r\n",
        b"\xef\xbb\xbf0 0.5 0.5 0.2 0.2\n",
        b"0 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6\n",
        b"0 0.5 0.5 0.2 0.2 0.91\n",
        b"0.0 0.5 0.5 0.2 0.2",
        b"0\t0.5\t0.5\t0.2\t0.2",
        b"# made by hand\n0 0.5 0.5 0.2 0.2 # here\n",
    ],
)
def test_what_yolo_tools_write_is_read(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(text)
    assert read_labels(file, 640, 272).tolist() == [pytest.approx(BOX)]


def test_boxes_without_area_are_left_out_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("0 0.5 0.5 0 0.2\n" + ROW)
    notes = Notes()
    assert len(read_labels(file, 640, 272, notes=notes)) == 1
    assert notes.lines() == ["labels: 1 boxes without area, left out"]


@pytest.mark.parametrize("text", [ROW.encode("utf-16"), b"0 0.5 0.5 0.2 0.2 # caf\xe9\n", b"0 0,5 0,5 0,2 0,2\n"])
def test_other_texts_are_one_line_that_names_the_file(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(text)
    with pytest.raises(LabelError, match=r"a\.txt"):
        read_labels(file, 640, 272)


def pictures(folder: Path, *names: str) -> None:
    folder.mkdir()
    for name in names:
        cv2.imwrite(str(folder / name), np.full((8, 8, 3), 90, np.uint8))


def test_names_are_counted_and_lists_may_hold_spaces_and_marks(tmp_path: Path) -> None:
    pictures(tmp_path / "pics", *(f"shot{number}.png" for number in range(1, 13)), "street corner (1).png")
    order = [path.stem for path in picture_files(tmp_path / "pics")]
    assert order == [*(f"shot{number}" for number in range(1, 13)), "street corner (1)"]
    split = tmp_path / "list.txt"
    split.write_bytes(b"\xef\xbb\xbfstreet corner (1).png\r\n./pics/shot2.png\r\n\r\n")
    assert [scene.picture.name for scene in find_scenes(tmp_path / "pics", None, split)] == [
        "street corner (1).png",
        "shot2.png",
    ]
    split.write_text("nothing.png\n")
    with pytest.raises(FootageError, match=r"nothing\.png does not exist \(1 of 1\)"):
        find_scenes(tmp_path / "pics", None, split)


def test_pictures_under_any_name_are_read_and_half_ones_refused(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for kind in ("jpg", "png"):
        data = cv2.imencode(f".{kind}", image)[1].tobytes()
        whole = Path(str(tmp_path).encode().decode() + "/caf\udce9." + kind)
        whole.write_bytes(data)
        assert read_picture(whole).shape == (64, 64, 3)
        whole.write_bytes(data[: len(data) // 2])
        with pytest.raises(FootageError, match="no picture, or damaged"):
            read_picture(whole)


def test_pictures_are_written_under_any_name(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (16, 24, 3), np.uint8)
    path = Path(str(tmp_path) + "/caf\udce9.png")
    write_picture(path, image)
    assert np.array_equal(read_picture(path), image)
    for name, line in (("a", "does not write files without ending"), ("none/a.png", "No such file or directory")):
        with pytest.raises(FootageError, match=line):
            write_picture(tmp_path / name, image)


def test_pictures_of_12_bits_are_told_of_once_a_folder_and_floats_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dim = np.full((8, 8), 4000, np.uint16)
    for name in ("a.png", "b.png", "c.tiff"):
        cv2.imwrite(str(tmp_path / name), dim)
        assert int(read_picture(tmp_path / name).max()) == 4000 >> 8
    assert capsys.readouterr().err.count("nearly black") == 1
    cv2.imwrite(str(tmp_path / "f.tiff"), dim.astype(np.float32) / 4096)
    with pytest.raises(FootageError, match=r"f\.tiff: values of float32"):
        read_picture(tmp_path / "f.tiff")


def camera(count: int = 8, size: tuple[int, int] = (640, 272), taken: range | None = None, **more: Any) -> Any:
    """A camera of ten frames a second, of which those that are `taken` are replayed."""

    class Frames(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.times_ns)

    taken = range(count) if taken is None else taken
    stamps = [n + 10**18 for n in taken]
    told = {"name": "camera", "frame_id": "optical", "frame_numbers": taken, "frame_count": count}
    return Frames(**(told | more), size=size, times_ns=[n * 100_000_000 for n in taken], stamps_ns=stamps)


def yolo(folder: Path, *names: str) -> Path:
    """A folder of YOLO files, each with a car: the n-th's middle lies at n twentieths of the width, and two more."""
    folder.mkdir(exist_ok=True)
    for place, name in enumerate(names):
        (folder / f"{name}.txt").write_text(f"{CAR} {0.1 + place / 20} 0.5 0.1 0.1\n")
    return folder


def judged(world: Any) -> dict[float, int]:
    """Which file of `yolo` is the truth at each instant."""
    boxes = [round((found[0].box[0] / 640 - 0.05) * 20) for found in world.truths]
    return dict(zip([round(float(at), 3) for at in world.instants], boxes, strict=True))


def coco(file: Path, **changes: Any) -> Path:
    whole = {
        "images": [{"id": n, "file_name": f"images/drive/frame_{n:06}.png"} for n in range(8)],
        "categories": [{"id": 3, "name": "Car"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 3, "bbox": [100, 100, 80, 60], "iscrowd": 0} for n in range(8)
        ],
    }
    file.write_text(json.dumps(whole | changes))
    return file


def test_coco_files_are_matched_by_the_numbers_of_their_names(tmp_path: Path) -> None:
    world = labelled_world(coco(tmp_path / "a.json"), camera(), TREE)
    assert [len(found) for found in world.truths] == [1] * 8
    assert world.truths[0][0].box == (100, 100, 180, 160)
    assert world.truths[0][0].path[-1] == CAR


def test_coco_pixels_of_another_size_are_scaled(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"{n}.png", "width": 1280, "height": 544} for n in range(8)]
    world = labelled_world(coco(tmp_path / "a.json", images=images), camera(), TREE)
    assert world.truths[3][0].box == (50, 50, 90, 80)


def test_what_coco_says_of_others_is_counted(tmp_path: Path) -> None:
    def note(**changes: Any) -> dict[str, Any]:
        return {"id": 1, "image_id": 0, "category_id": 3, "bbox": [1, 1, 9, 9]} | changes

    notes = Notes()
    annotations = [note(), note(image_id=999), note(iscrowd=1), note(category_id=77), note(bbox=[1, 1, 0, 9])]
    world = labelled_world(coco(tmp_path / "a.json", annotations=annotations), camera(), TREE, notes)
    assert sum(map(len, world.truths)) == 1
    assert sorted(notes.values()) == [1, 1, 1, 1]
    for bad in ({"bbox": []}, {"bbox": None}, {"bbox": "here"}):
        with pytest.raises(LabelError, match="annotation 1: bbox of four numbers"):
            labelled_world(coco(tmp_path / "a.json", annotations=[note(**bad)]), camera(), TREE)
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(LabelError, match="no COCO file"):
        labelled_world(tmp_path / "list.json", camera(), TREE)
    with pytest.raises(LabelError, match=r"none\.json: No such file"):
        labelled_world(tmp_path / "none.json", camera(), TREE)


RING = np.zeros((272, 640), np.uint8)
RING[100:160, 100:104], RING[120:140, 101:103] = 1, 0


def run_lengths(mask: np.ndarray) -> list[int]:
    """A mask's runs down its columns, what is not of the object first."""
    down = np.concatenate([[0], mask.T.reshape(-1), [2]])
    steps = np.flatnonzero(np.diff(down))
    return np.diff(np.concatenate([[0], steps])).tolist()


@pytest.mark.parametrize(
    "segmentation",
    [
        [[100, 100, 104, 100, 104, 160, 100, 160]],
        [[100, 100, 102, 100, 102, 160, 100, 160], [102, 100, 104, 100, 104, 160]],
        {"size": [272, 640], "counts": run_lengths(RING)},
        {"size": [272, 640], "counts": "Tej0l1d6hNPJ0P60PJ0P6X1lX^4"},  # by COCO's mask API
    ],
    ids=["polygon", "two polygons", "runs", "letters"],
)
def test_coco_masks_without_a_box_have_the_box_around_them(tmp_path: Path, segmentation: Any) -> None:
    note = {"id": 1, "image_id": 0, "category_id": 3, "segmentation": segmentation}
    world = labelled_world(coco(tmp_path / "a.json", annotations=[note]), camera(), TREE)
    assert world.truths[0][0].box == (100, 100, 104, 160)


@pytest.mark.parametrize(
    "segmentation", [[], [[]], {"size": [4, 4], "counts": [16]}, {"size": [4, 4], "counts": [3, 99]}, {"counts": "é"}]
)
def test_masks_that_show_nothing_are_one_line(tmp_path: Path, segmentation: Any) -> None:
    note = {"id": 1, "image_id": 0, "category_id": 3, "segmentation": segmentation}
    with pytest.raises(LabelError, match="annotation 1: bbox of four numbers"):
        labelled_world(coco(tmp_path / "a.json", annotations=[note]), camera(), TREE)


def test_boxes_that_cannot_be_seen_are_counted_and_strange_ones_told(tmp_path: Path) -> None:
    boxes = [[1, 1, 9, 9], [math.nan, 1, 9, 9], [1, 1, math.inf, 9], [700, 1, 9, 9], [600, 100, 700, 160]]
    annotations = [{"id": n, "image_id": 0, "category_id": 3, "bbox": box} for n, box in enumerate(boxes)]
    notes = Notes()
    world = labelled_world(coco(tmp_path / "a.json", annotations=annotations), camera(), TREE, notes)
    assert [found.box[0] for found in world.truths[0]] == [1, 600]
    assert sorted(notes.values()) == [1, 1, 2]
    assert any("are they x, y, width, height?" in line for line in notes.lines())


def test_crowd_regions_are_handed_on_and_told_of(tmp_path: Path) -> None:
    annotations = [
        {"id": n, "image_id": n // 2, "category_id": 3, "bbox": [10, 10, 200, 100], "iscrowd": n % 2} for n in range(4)
    ]
    notes = Notes()
    world = labelled_world(coco(tmp_path / "a.json", annotations=annotations), camera(), TREE, notes)
    assert [(len(truth), len(crowd)) for truth, crowd in zip(world.truths, world.crowds, strict=True)] == [
        *[(1, 1)] * 2,
        *[(0, 0)] * 6,
    ]
    assert notes.lines() == ["labels: 2 crowd regions, left out: what is found in them counts neither way"]
    crowds = [one | {"iscrowd": 1} for one in annotations]
    with pytest.raises(LabelError, match="no label is left: labels: 4 crowd regions"):
        labelled_world(coco(tmp_path / "a.json", annotations=crowds), camera(), TREE)


def test_labels_of_two_cameras_are_not_mixed(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"{side}/{n // 2:04}.png"} for n, side in enumerate(["left", "right"] * 4)]
    with pytest.raises(LabelError, match=r"left/0000\.png and right/0000\.png have one name"):
        labelled_world(coco(tmp_path / "a.json", images=images), camera(), TREE)
    for name in ("left_3", "right_3"):
        (tmp_path / f"{name}.txt").write_text(f"{CAR} 0.5 0.5 0.1 0.1\n")
    with pytest.raises(LabelError, match="left_3 and right_3 are both of frame 3"):
        labelled_world(tmp_path, camera(), TREE)


def test_what_systems_write_beside_files_is_not_read(tmp_path: Path) -> None:
    pictures(tmp_path / "pics", "1.png", "01.png")
    (tmp_path / "pics" / "._1.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "pics" / "folder.png").mkdir()
    assert [path.name for path in picture_files(tmp_path / "pics")] == ["01.png", "1.png"]
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.txt").write_text(f"{CAR} 0.5 0.5 0.1 0.1\n")
    (tmp_path / "labels" / "._1.txt").write_bytes(b"\0\5\x16\7")
    assert sum(map(len, labelled_world(tmp_path / "labels", camera(), TREE).truths)) == 1


@pytest.mark.parametrize("name", ["CAR", " car ", "Straßenbahn", "STRASSENBAHN", "Cafe\u0301-Wagen", "Caf\u00e9-wagen"])
def test_names_are_compared_as_people_do(name: str) -> None:
    tree = Taxonomy.from_parents("t", [["thing"], ["Car", "Straßenbahn", "Café-Wagen"]], [[0, 0, 0]])
    assert Names(tree).detection(0, (0, 0, 1, 1), name) is not None


def test_tables_of_photos_may_begin_with_a_mark(tmp_path: Path) -> None:
    pictures(tmp_path / "pics", "a.png")
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbffile,label\r\na.png,3\r\n")
    assert [photo.label for photo in read_photos(tmp_path / "pics", tmp_path / "labels.csv", 5)] == [3]
    (tmp_path / "groups.csv").write_bytes(b"\xef\xbb\xbflabel,cluster\r\n0,1\r\n1,0\r\n")
    assert read_grouping(tmp_path / "groups.csv", 2).tolist() == [1, 0]


def test_of_scenes_too_what_is_left_out_is_counted_and_nothing_left_an_error(tmp_path: Path) -> None:
    pictures(tmp_path / "pics", "a.png", "b.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0 0.2\n")
    with pytest.raises(LabelError, match="no label is left: labels: 1 boxes without area"):
        check_scenes(find_scenes(tmp_path / "pics", tmp_path / "labels", None))
    (tmp_path / "labels" / "b.txt").write_text(ROW)
    notes = check_scenes(find_scenes(tmp_path / "pics", tmp_path / "labels", None))
    assert notes.lines() == ["labels: 1 boxes without area, left out"]
    (tmp_path / "labels" / "a.txt").write_text("")
    assert not check_scenes(find_scenes(tmp_path / "pics", tmp_path / "labels", None))


def test_of_scenes_too_classes_are_found_by_the_names_that_stand_beside(tmp_path: Path) -> None:
    pictures(tmp_path / "pics", "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("1 0.5 0.5 0.2 0.2\n0 0.3 0.3 0.1 0.1\n")
    (scene,) = find_scenes(tmp_path / "pics", tmp_path / "labels", None)
    leaves = list(TREE.names(2))
    assert scene.read(TREE)[1][:, 0].tolist() == [1, 0], "by number"
    (tmp_path / "classes.txt").write_text(f"{leaves[7].upper()}\n {leaves[3]}\n")
    assert scene.read(TREE)[1][:, 0].tolist() == [3, 7]
    assert scene.read()[1][:, 0].tolist() == [1, 0]
    (tmp_path / "labels" / "classes.txt").write_text(f"{leaves[7]}\nunicorn\n")
    with pytest.raises(LabelError, match=r"class 1 'unicorn' of its classes.txt is no leaf of the taxonomy"):
        scene.read(TREE)
    (tmp_path / "labels" / "classes.txt").write_text(f"{leaves[7]}\n")
    with pytest.raises(LabelError, match=r"class 1, which its classes.txt does not name, is no leaf"):
        scene.read(TREE)
    rows = read_leaves(tmp_path / "labels" / "a.txt", 10, 10, leaves, strict=False)
    assert rows[:, 0].tolist() == [7]
    notes = check_scenes([scene], leaves)
    assert notes.lines() == ["labels: 1 objects of class 1, not named in classes.txt, left out"]
    (tmp_path / "labels" / "classes.txt").write_text("unicorn\nmotorbike\n")
    rows = read_leaves(tmp_path / "labels" / "a.txt", 10, 10, ["car", "Motorcycle"], strict=False)
    assert rows[:, 0].tolist() == [1], "by the name that others have for it"
    with pytest.raises(LabelError, match="no label is left: labels: 1 objects of class 'motorbike', no leaf of"):
        check_scenes([scene], ["car"])


def test_labels_of_which_nothing_is_left_are_an_error(tmp_path: Path) -> None:
    file = coco(tmp_path / "a.json", categories=[{"id": 3, "name": "automobile"}])
    with pytest.raises(LabelError, match="no label is left: labels: 8 objects of class 'automobile'"):
        labelled_world(file, camera(), TREE)


@pytest.mark.parametrize(
    "names", [range(8), range(1, 9), [f"{n:06}" for n in range(1, 9)], [f"frame_{n}" for n in range(8)]]
)
def test_yolo_files_may_be_numbered_from_nought_or_one(tmp_path: Path, names: Any) -> None:
    world = labelled_world(yolo(tmp_path, *map(str, names)), camera(), TREE)
    assert judged(world) == {n / 10: n for n in range(8)}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("taken", [range(8), range(3), range(0, 8, 3)], ids=["whole", "cut", "thinned"])
def test_numbers_count_the_frames_of_the_whole_footage(tmp_path: Path, taken: range, first: int) -> None:
    notes = Notes()
    world = labelled_world(yolo(tmp_path, *(f"{n + first:04}" for n in range(8))), camera(taken=taken), TREE, notes)
    assert judged(world) == {n / 10: n for n in taken}
    assert notes["files numbered from 1, taken so"] == 8 * first
    assert notes["files of frames that are not taken"] == 8 - len(taken)
    assert not notes["files that belong to no frame, left out"]


def test_numbers_from_one_that_do_not_reach_the_last_frame_are_told_of(tmp_path: Path) -> None:
    notes = Notes()
    assert judged(labelled_world(yolo(tmp_path, "1", "2"), camera(), TREE, notes)) == {0.1: 0, 0.2: 1}
    assert notes.lines() == ["labels: 2 files from number 1 to less than 8, the footage's frames: taken as from 0"]


def test_a_stamp_outside_the_footage_is_no_frame_number(tmp_path: Path) -> None:
    notes = Notes()
    names = (str(10**18 + 2), str(3 * 10**18), "6000000000", "0000000005", "left_0000000006")
    world = labelled_world(yolo(tmp_path, *names), camera(), TREE, notes)
    assert judged(world) == {0.2: 0, 0.5: 3, 0.6: 4}
    assert notes["files that belong to no frame, left out"] == 2


def test_footage_numbers_its_frames_as_they_are_in_the_file(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (64, 48))
    for shade in range(10):
        writer.write(np.full((48, 64, 3), 20 * shade, np.uint8))
    writer.release()
    ((thinned,), _), ((cut,), _) = (open_footage(tmp_path / "a.avi", **how) for how in ({"rate": 5}, {"seconds": 0.2}))
    assert (list(thinned.frame_numbers), thinned.frame_count) == ([0, 5], 10)
    assert (list(cut.frame_numbers), cut.frame_count) == ([0, 1, 2, 3, 4], 10)
    write_camera(VideoCamera(tmp_path / "a.avi"), tmp_path / "bag")
    ((cut,), _) = open_footage(tmp_path / "bag", seconds=0.2)
    assert (list(cut.frame_numbers), cut.frame_count) == ([0, 1, 2, 3, 4], 10)
    labels = yolo(tmp_path / "labels", *(f"{n:04}" for n in range(1, 11)))
    assert list(labelled_world(labels, cut, TREE).instants) == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert list(labelled_world(labels, thinned, TREE).instants) == pytest.approx([0, 0.2])


def test_a_damaged_frame_shifts_no_label_of_those_after_it(tmp_path: Path) -> None:
    """Frames 0 and 4 of eight are cut off; labels are numbered as the bag's frames are."""
    with BagWriter(tmp_path / "bag") as bag:
        for number in range(8):
            image = np.random.default_rng(number).integers(0, 256, (272, 640, 3)).astype(np.uint8)
            stamp = 10**18 + number * 100_000_000
            (topic, message), _ = camera_messages(bag.store, image, stamp, "camera", "optical")
            if number in (0, 4):
                message.data = message.data[: len(message.data) // 2]
            bag.write(topic, message, stamp)
    ((found,), problems) = open_footage(tmp_path / "bag")
    assert (list(found.frame_numbers), found.frame_count) == ([1, 2, 3, 5, 6, 7], 8)
    assert any("left out" in text for text in problems)
    notes = Notes()
    world = labelled_world(yolo(tmp_path / "labels", *(f"{number:06}" for number in range(8))), found, TREE, notes)
    assert judged(world) == {0.0: 1, 0.1: 2, 0.2: 3, 0.4: 5, 0.5: 6, 0.6: 7}
    assert notes["files of frames that are not taken"] == 2


def test_labels_of_one_camera_are_no_truth_of_another(tmp_path: Path) -> None:
    left, right = camera(name="left"), camera(name="right", frame_id="right")
    with pytest.raises(LabelError, match=r"0003 is a frame's number, and there are 2 cameras; .* \(--topics\)"):
        labelled_worlds(yolo(tmp_path / "numbers", "0003"), [left, right], TREE)
    stamps = yolo(tmp_path / "stamps", str(10**18 + 2), str(10**18 + 3))
    with pytest.raises(LabelError, match="left and right both have a frame of stamp 1000000000000000002"):
        labelled_worlds(stamps, [left, right], TREE)
    bag = SimpleNamespace(path=tmp_path)
    raw, compressed = camera(bag=bag), camera(bag=bag)
    assert [judged(one) for one in labelled_worlds(stamps, [raw, compressed], TREE)] == [{0.2: 0, 0.3: 1}] * 2
    right.stamps_ns = [stamp + 1 for stamp in right.stamps_ns[:2]] + [n + 10**17 for n in range(6)]
    (stamps / f"{10**18 + 2}.txt").unlink()
    (stamps / f"{10**17}.txt").write_text(f"{CAR} 0.5 0.5 0.1 0.1\n")
    assert [list(one.instants) for one in labelled_worlds(stamps, [left, right], TREE)] == [[0.3], [0.2]]
