"""Street pictures out of sets that label different things: votes, doubts, words, and what the loss makes of them."""

from __future__ import annotations

import argparse
import json
import re
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import yaml

from semhier_ros.cli import main, parse
from semhier_ros.footage.labels import LabelError
from semhier_ros.scene.detectors.runtime import file_hash
from semhier_ros.taxonomy import Taxonomy

torch = pytest.importorskip("torch", reason="training needs torch")

from safetensors.torch import load_file, save_file

from semhier_ros.torch.detector import Detector, DetectorOutput
from semhier_ros.training import adapt, street_stages
from semhier_ros.training.checkpoint import load_checkpoint, save_checkpoint
from semhier_ros.training.detector import rarity_of, trained_detector
from semhier_ros.training.detector_loss import street_loss, tutor_loss
from semhier_ros.training.errors import TrainingError
from semhier_ros.training.packed import PackedArray
from semhier_ros.training.scene_samples import make_targets
from semhier_ros.training.street import STAGES, settings_of
from semhier_ros.training.street_data import (
    IGNORED,
    READERS,
    Labels,
    Recipe,
    StreetSet,
    boxes_of_mask,
    join_riders,
    merge,
)
from semhier_ros.training.street_scenes import StreetScenes, cut, known_cells, read_catalogue
from semhier_ros.training.street_stages import StreetLoss, Tutor, blended, overtaught, planes_of
from semhier_ros.training.teachers import VIEWS, Notebook, Opinion, Teacher, View, number_alike, vote
from semhier_ros.training.yolo_data import YoloData, ignored_file, label_file

ROOT = Path(__file__).parents[2]
TREE = ROOT / "config/taxonomies/street.yaml"
SOURCES = ROOT / "config/training/street-sources.yaml"
KINDS = ("person", "bicycle", "car", "truck", "kite")
PERSON, BICYCLE, CAR, TRUCK, KITE = range(5)
FAMILIES = np.array([0, 1, 2, 2, -1])


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.load(SOURCES, Taxonomy.load(TREE), Path("data"))


def box(*corners: float) -> np.ndarray:
    return np.array(corners, np.float32)


def seen(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 6)


def opinion(*rows: tuple[int, float, tuple[float, ...]]) -> Opinion:
    kinds, scores, boxes = zip(*rows, strict=True)
    return Opinion(np.array(kinds), np.array(scores, np.float32), np.array(boxes, np.float32))


def labels(*rows: tuple[str, tuple[float, ...]]) -> Labels:
    boxes = np.array([corners for _, corners in rows], np.float32).reshape(-1, 4)
    return Labels(tuple(word for word, _ in rows), boxes, np.zeros((0, 4), np.float32))


def part(recipe: Recipe, name: str):
    return next(own for own in recipe.sets if own.name == name)


def told(rows: np.ndarray, recipe: Recipe) -> list[str]:
    return ["ignored" if word == IGNORED else recipe.words[int(word)] for word in rows[:, 0]]


def test_views_that_agree_make_one_object_of_their_mean_score_and_box():
    views = [seen((PERSON, 0.8, 0, 0, 10, 20)), seen((PERSON, 0.4, 2, 0, 12, 20))]
    found = vote(views, FAMILIES)
    assert found.kinds.tolist() == [PERSON]
    assert found.scores[0] == pytest.approx(0.8)  # the better half of two views is one
    assert found.boxes[0] == pytest.approx([2 / 3, 0, 10 + 2 / 3, 20], abs=1e-4)


def test_what_only_one_of_four_views_sees_counts_for_half():
    views = [seen((PERSON, 0.8, 0, 0, 10, 20)), seen(), seen(), seen()]
    assert vote(views, FAMILIES).scores.tolist() == pytest.approx([0.4])


def test_views_may_disagree_about_the_class_within_a_family_only():
    views = [seen((CAR, 0.6, 0, 0, 20, 20), (PERSON, 0.5, 0, 0, 20, 20)), seen((TRUCK, 0.7, 1, 0, 20, 20))]
    assert sorted(vote(views, FAMILIES).kinds.tolist()) == [PERSON, TRUCK]


def test_classes_outside_every_family_are_dropped():
    assert len(vote([seen((KITE, 0.9, 0, 0, 9, 9))], FAMILIES).kinds) == 0


def test_a_notebook_reads_what_it_wrote(tmp_path: Path):
    book = Notebook(tmp_path / "said" / "view.jsonl")
    book.said["a/b.png"] = seen((PERSON, 0.5, 0, 1, 2, 3))
    book.said["a/c.png"] = seen()
    book.save()
    again = Notebook(book.path).said
    assert again["a/b.png"] == pytest.approx(book.said["a/b.png"])
    assert again["a/c.png"].shape == (0, 6)


def test_teachers_of_different_lists_of_names_mean_what_they_say(tmp_path: Path):
    books = []
    for number, names in enumerate((("person", "bicycle"), ("", "bicycle", "tram", "person"), None)):
        book = Notebook(tmp_path / f"{number}.jsonl", None if names is None else {"names": names})
        book.said["a"] = seen((3 if number == 1 else 0, 0.8, 0, 0, 10, 20))
        book.save()
        books.append(Notebook(book.path, {"names": ["another"]}))
    assert books[2].teacher is None, "it does not say whose it is, and nobody knows"
    names = number_alike(books, ("person", "car"))
    assert names == ("person", "car", "bicycle", "", "tram")
    assert [book.said["a"][0, 0] for book in books] == [0, 0, 0]


def test_the_teacher_adds_what_a_set_does_not_label_and_doubts_are_ignored(recipe: Recipe):
    given = labels(("car", (0, 0, 50, 40)))
    said = opinion(
        (PERSON, 0.7, (100, 0, 110, 30)), (PERSON, 0.3, (200, 0, 210, 30)), (PERSON, 0.05, (300, 0, 310, 30))
    )
    assert told(merge(given, said, part(recipe, "road-vehicles"), recipe, KINDS), recipe) == [
        "car",
        "person",
        "ignored",
    ]


def test_a_label_stands_where_the_teacher_calls_it_something_else(recipe: Recipe):
    given = labels(("suv", (0, 0, 50, 40)))
    rows = merge(given, opinion((TRUCK, 0.9, (1, 0, 50, 40))), part(recipe, "road-vehicles"), recipe, KINDS)
    assert told(rows, recipe) == ["suv"]


def test_a_sure_find_in_a_set_that_labels_the_word_wholly_is_a_doubt(recipe: Recipe):
    rows = merge(
        labels(),
        opinion((CAR, 0.9, (0, 0, 50, 40)), (CAR, 0.3, (80, 0, 120, 40))),
        part(recipe, "road-vehicles"),
        recipe,
        KINDS,
    )
    assert told(rows, recipe) == ["ignored"]


def test_a_person_inside_a_labelled_vehicle_is_a_doubt(recipe: Recipe):
    given = labels(("rickshaw", (0, 0, 60, 60)))
    rows = merge(given, opinion((PERSON, 0.9, (20, 5, 35, 50))), part(recipe, "road-vehicles"), recipe, KINDS)
    assert told(rows, recipe) == ["rickshaw", "ignored"]


def test_boxes_that_are_hints_only_count_where_the_teacher_agrees(recipe: Recipe):
    given = labels(("automobile", (0, 0, 60, 60)), ("automobile", (100, 0, 160, 60)))
    rows = merge(given, opinion((CAR, 0.9, (1, 1, 60, 60))), part(recipe, "camvid"), recipe, KINDS)
    assert told(rows, recipe) == ["automobile", "ignored", "ignored"]
    assert rows[0, 1:].tolist() == [1, 1, 60, 60]


def test_a_person_above_a_bicycle_becomes_one_rider_with_it():
    rows = [("person", box(10, 0, 30, 40)), ("bicycle", box(0, 20, 40, 50)), ("person", box(100, 0, 110, 40))]
    joined = join_riders(rows, keep=())
    assert [word for word, _ in joined] == ["person", "rider"]
    assert joined[1][1].tolist() == [0, 0, 40, 50]


def test_a_person_beside_a_bicycle_does_not_ride_it():
    rows = [("person", box(60, 0, 80, 50)), ("bicycle", box(0, 20, 40, 50))]
    assert [word for word, _ in join_riders(rows, keep=())] == ["person", "bicycle"]


def test_two_wheelers_that_a_set_labels_with_their_riders_stay():
    rows = [("person", box(10, 0, 30, 40)), ("bicycle", box(0, 20, 40, 50))]
    assert [word for word, _ in join_riders(rows, keep=("bicycle",))] == ["person", "bicycle"]


def test_parts_of_a_mask_become_boxes_and_what_may_be_several_is_ignored():
    mask = np.zeros((100, 200), np.uint8)
    mask[10:40, 10:20] = 9  # a person
    mask[10:40, 50:90] = 9  # several, side by side
    mask[60:64, 10:14] = 9  # dust: 16 pixels
    mask[60:66, 30:36] = 9  # too low for a box of its own
    mask[50:90, 100:140] = 8  # a car
    found = boxes_of_mask(mask)
    assert dict(zip(found.words, found.boxes.tolist(), strict=True)) == {
        "person": [10, 10, 20, 40],
        "automobile": [100, 50, 140, 90],
    }
    assert sorted(found.ignored.tolist()) == [[30, 60, 36, 66], [50, 10, 90, 40]]


def test_what_a_crop_cuts_off_becomes_ignored_and_what_lies_outside_goes():
    rows = np.array(
        [[3, 0, 0, 10, 10], [3, 15, 0, 35, 10], [3, 18.5, 0, 30, 10], [IGNORED, 5, 5, 6, 6], [3, 40, 0, 50, 10]]
    )
    found = cut(rows.astype(np.float32), (1, 1), (0, 0), (25, 20))
    assert found[:, 0].tolist() == [3, 3, 3, IGNORED]
    found = cut(rows.astype(np.float32), (1, 1), (0, 0), (20, 20))
    assert found[:, 0].tolist() == [3, IGNORED, IGNORED, IGNORED]
    assert found[1, 1:].tolist() == [15, 0, 20, 10]


def test_every_word_of_the_recipe_stays_within_one_role_but_the_ones_that_may_be_ridden(recipe: Recipe):
    owner = np.asarray(Taxonomy.load(TREE).owner(1))
    split = [word for word, of in zip(recipe.words, recipe.members, strict=True) if len(set(owner[of])) > 1]
    assert split == ["motorcyclist"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": {"lorry": ["tank"]}}, "words.lorry: 'tank' is no leaf of street"),
        ({"doubtful": 0.6}, "doubtful 0.6 and sure 0.45"),
        ({"teacher": {"person": "human"}}, "teacher: 'human' is neither"),
        ({"sets": {"mine": {"reader": "tfrecord", "folder": "x", "share": 1}}}, "sets.mine.reader: 'tfrecord'"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_by_field(tmp_path: Path, change: dict, message: str):
    card = yaml.safe_load(SOURCES.read_text()) | change
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(ValueError, match=message):
        Recipe.load(tmp_path / "mine.yaml", Taxonomy.load(TREE), tmp_path)


def street_set(reader: str, folder: Path, **rename: str) -> StreetSet:
    return StreetSet("mine", reader, folder, rename, None, (), (), (), (), 1.0, 1.0)


def read_one(part: StreetSet, picture: Path, names: tuple[str, ...] = ()) -> Labels:
    """What the set's reader makes of one picture, 100 pixels wide and 50 high."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(picture), np.zeros((50, 100, 3), np.uint8))
    return READERS[part.reader](part, names, {picture})[picture]


def read_yolo(folder: Path, text: str, names: tuple[str, ...], **rename: str) -> Labels:
    (folder / "labels").mkdir(exist_ok=True)
    (folder / "labels/a.txt").write_text(text)
    return read_one(street_set("yolo", folder, **rename), folder / "images/a.png", names)


def test_yolo_labels_are_read_as_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text = (
        "0 0.5 0.5 0.2 0.4\n\n# by hand\n1.0 0.5 0.5 0.2 0.4\n0 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6\n"
        "bus 0.5 0.5 0.2 0.4 0.9\n2 0.5 0.5 0.2 0.4\n0 0.5 0.5 0 0.4\n"
    )
    found = read_yolo(tmp_path, text, ("car", "truck", "crowd"), crowd="doubt", bus="coach")
    assert found.words == ("car", "truck", "car", "coach")
    box = pytest.approx([40, 15, 60, 35])
    assert found.boxes[[0, 1, 3]].tolist() == [box] * 3
    assert found.boxes[2].tolist() == pytest.approx([10, 10, 30, 30]), "the box around a polygon"
    assert found.ignored.tolist() == [box]
    assert "sets.mine: labels: 1 boxes without area, left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3 0.5 0.5 0.2 0.4\n", r"a\.txt:1: class 3 is none of 2 names"),
        ("0 0.5 0.5 0.2\n", r"a\.txt:1: five numbers"),
        ("0 50 25 20 20\n", r"a\.txt:1: box 50 25 20 20 is not in shares"),
    ],
)
def test_yolo_labels_that_are_none_are_named(tmp_path: Path, text: str, said: str):
    with pytest.raises(LabelError, match=said):
        read_yolo(tmp_path, text, ("car", "truck"))


def test_a_crowd_of_coco_is_an_ignored_region(tmp_path: Path):
    card = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "kite"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [10, 5, 20, 30], "iscrowd": 0},
            {"image_id": 7, "category_id": 1, "bbox": [40, 5, 50, 40], "iscrowd": 1},
            {"image_id": 7, "category_id": 2, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        ],
    }
    (tmp_path / "_annotations.coco.json").write_text(json.dumps(card))
    found = read_one(street_set("coco", tmp_path, kite=""), tmp_path / "a.png")
    assert found.words == ("person",)
    assert found.boxes.tolist() == [[10, 5, 30, 35]]
    assert found.ignored.tolist() == [[40, 5, 90, 45]]


VOC = "<annotation><object><name>car</name><bndbox><xmin>1</xmin><ymin>2</ymin>{}</bndbox></object></annotation>"


@pytest.mark.parametrize(
    ("reader", "file", "text"),
    [
        ("coco", "_annotations.coco.json", "[]"),
        ("coco", "_annotations.coco.json", '{"images": [], "categories": [], "annotations": [{"bbox": [1, 2]}]}'),
        ("via", "_annotations.coco.json", '{"a": {"filename": "a.png", "regions": [{"shape_attributes": {}}]}}'),
        ("voc", "Annotations/a.xml", "<annotation>"),
        ("voc", "Annotations/a.xml", VOC.format("<xmax>9</xmax>")),
    ],
)
def test_label_files_of_another_form_are_named(tmp_path: Path, reader: str, file: str, text: str):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    with pytest.raises(TrainingError, match=rf"{Path(file).name}: no labels as .* has them"):
        read_one(street_set(reader, tmp_path), tmp_path / "a.png")


def loss_parts(output: DetectorOutput, rows: np.ndarray, seen_leaves: list[bool], members: list[list[bool]]):
    targets = make_targets(rows[rows[:, 0] >= 0], 64, 64)
    known = known_cells(rows[rows[:, 0] < 0, 1:], 64, 64)
    tensors = [torch.as_tensor(array)[None] for array in (*targets, known, np.array(seen_leaves))]
    return street_loss(output, *tensors, [torch.tensor(members)], torch.ones(len(members)))


def maps(types: np.ndarray) -> DetectorOutput:
    objectness = torch.zeros(1, 1, 8, 8, requires_grad=True)
    logits = torch.tensor(np.broadcast_to(types[:, None, None], (len(types), 8, 8)).copy(), dtype=torch.float32)
    return DetectorOutput(objectness, torch.zeros(1, 4, 8, 8), logits[None].requires_grad_(), torch.zeros(1, 1, 8, 8))


def test_ignored_regions_teach_no_background():
    output = maps(np.array([0.0, 0.0]))
    rows = np.array([[0, 0, 0, 16, 16], [IGNORED, 32, 32, 64, 64]], np.float32)
    loss_parts(output, rows, [True, True], [[True, False], [False, True]])["centre"].backward()
    slope = output.objectness.grad[0, 0]
    assert (slope[4:, 4:] == 0).all()
    assert (slope[:4, 4:] > 0).all()


def test_background_teaches_only_types_that_the_set_labels():
    rows = np.array([[0, 0, 0, 16, 16]], np.float32)
    slopes = []
    for seen_leaves in ([True, True], [True, False]):
        output = maps(np.array([0.0, 3.0]))
        loss_parts(output, rows, seen_leaves, [[True, False], [False, True]])["centre"].backward()
        slopes.append(float(output.objectness.grad[0, 0, 7, 7]))
    share = 1 / (1 + np.exp(3))
    assert slopes[1] == pytest.approx(slopes[0] * share, rel=1e-4)


def test_a_word_of_several_leaves_teaches_their_sum_and_prefers_none():
    output = maps(np.array([0.3, 0.3, 0.0]))
    members = [[True, False, False], [False, True, False], [False, False, True], [True, True, False]]
    rows = np.array([[3, 8, 8, 40, 40]], np.float32)
    loss_parts(output, rows, [True] * 3, members)["type"].backward()
    slope = output.types.grad[0].sum((1, 2))
    assert slope[0] < 0
    assert slope[1] == pytest.approx(float(slope[0]))
    assert slope[2] > 0


def seen_by_a_tutor() -> DetectorOutput:
    """Two types; one sure object of the second, in the middle."""
    objectness = torch.full((1, 1, 8, 8), -8.0)
    objectness[0, 0, 4, 4] = 3.0
    types = torch.zeros(1, 2, 8, 8)
    types[:, 1] = 2.0
    return DetectorOutput(objectness, torch.full((1, 4, 8, 8), 0.4), types, torch.zeros(1, 1, 8, 8))


def test_who_says_what_the_tutor_says_has_nothing_to_learn_of_it():
    tutor = seen_by_a_tutor()
    never = torch.full((1, 1, 8, 8), -30.0)
    own = tutor._replace(types=torch.cat([tutor.types, never], 1))
    parts = tutor_loss(own, tutor, torch.tensor([0, 1]))
    assert {name: round(float(value), 4) for name, value in parts.items()} == {
        "tutor centre": 0.0, "tutor box": 0.0, "tutor type": 0.0
    }  # fmt: skip


def test_a_tutor_teaches_the_types_that_it_knows_and_leaves_others_where_they_are():
    tutor = seen_by_a_tutor()
    types = torch.zeros(1, 3, 8, 8, requires_grad=True)
    objectness = torch.zeros(1, 1, 8, 8, requires_grad=True)
    own = DetectorOutput(objectness, torch.zeros(1, 4, 8, 8), types, torch.zeros(1, 1, 8, 8))
    parts = tutor_loss(own, tutor, torch.tensor([2, 0]))
    (parts["tutor centre"] + parts["tutor type"]).backward()
    rising = -objectness.grad[0, 0]
    assert rising[4, 4] > 0
    assert (rising.flatten().sort().values[:-1] < 0).all()
    assert -types.grad[0, 0, 4, 4] > abs(types.grad[0, 2, 4, 4])  # the tutor's second type is row 0 here
    away = torch.zeros(1, 3, 8, 8)
    away[:, 1] = 9.0  # a person, of whom the tutor has never heard
    parts = tutor_loss(own._replace(types=away), tutor, torch.tensor([2, 0]))
    (slope,) = torch.autograd.grad(parts["tutor centre"], objectness)
    assert abs(float(slope[0, 0, 0, 0])) < 1e-4 * float(rising.abs().max())


def test_a_tutor_has_a_say_in_the_pictures_of_its_own_sets_alone():
    pytest.importorskip("timm", reason="training needs timm")
    tree = Taxonomy.load(TREE)
    leaves = tree.names(len(tree.levels) - 1)
    tutor = Tutor(ROOT / "models/road", leaves, torch.device("cpu"))
    torch.manual_seed(0)
    loss = StreetLoss(Detector(len(leaves)).eval(), [torch.eye(len(leaves)).bool()], torch.ones(len(leaves)), tutor)
    targets = make_targets(np.array([[0, 8, 8, 40, 40]], np.float32), 64, 64)
    pair = [torch.as_tensor(np.stack([array, array])) for array in targets]
    images = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    rest = [torch.ones(2, 8, 8, dtype=torch.bool), torch.ones(2, len(leaves), dtype=torch.bool)]
    none, first, second = (
        loss([images, *pair, *rest, torch.tensor(which)]).shown
        for which in ([False, False], [True, False], [False, True])
    )
    assert set(first) - set(none) == {"tutor centre", "tutor box", "tutor type"}
    assert all(torch.isfinite(torch.as_tensor(value)) for value in first.values())
    assert float(first["tutor centre"]) != float(second["tutor centre"])
    assert all(not parameter.requires_grad or parameter.grad is None for parameter in tutor.network.parameters())


def test_a_tutor_of_types_that_the_tree_lacks_is_refused():
    pytest.importorskip("timm", reason="training needs timm")
    with pytest.raises(TrainingError, match=r"names .*, which is no leaf of the tree"):
        Tutor(ROOT / "models/road", ("car", "truck"), torch.device("cpu"))


def test_a_teacher_that_looks_in_a_mirror_says_where_things_are_in_the_picture(tmp_path: Path):
    sys_path = Path(__file__).parents[1] / "scene"
    tiny = runpy.run_path(str(sys_path / "tiny_onnx.py"))
    outputs = {
        "labels": np.array([[1, 0]]),
        "boxes": np.array([[[16.0, 8, 48, 40], [16, 8, 48, 40]]]),
        "scores": np.array([[0.8, 0.001]]),
    }
    path = tiny["write_detector"](tmp_path / "one.onnx", outputs, extra={"orig_target_sizes": (1, 2)})
    teacher = Teacher(path, KINDS, "detr-labels", threads=1)
    picture = np.zeros((128, 192, 3), np.uint8)
    plain, mirrored = (teacher.detect(picture, View(96, 64, flip)) for flip in (False, True))
    assert plain[0, :2] == pytest.approx([BICYCLE, 0.8])
    width = plain[0, 4] - plain[0, 2]
    assert mirrored[0, 2:] == pytest.approx([192 - plain[0, 4], plain[0, 3], 192 - plain[0, 2], plain[0, 5]])
    assert width > 1


RECIPE = """
words: {machine: [car, truck]}
teacher: {person: person, car: machine, train: doubt}
sure: 0.45
doubtful: 0.12
sets:
  mine: {reader: yolo, folder: mine, names: classes.txt, whole: [car, machine], share: 0.7}
  bare: {reader: bare, folder: bare, unseen: [truck], share: 0.3, scale: 0.8}
reporting:
  kept: {reader: yolo, folder: kept, names: classes.txt, rename: {truck: doubt}}
"""
TINY_TREE = {
    "format": 1,
    "name": "tiny",
    "description": "a person, a car, a truck",
    "levels": ["any", "role", "group", "type"],
    "leaves": ["car", "truck", "person"],
    "tree": {"thing": {"vehicle": {"small": ["car"], "large": ["truck"]}, "vulnerable": {"on foot": ["person"]}}},
}

LEAVES = TINY_TREE["leaves"]


def draw_set(folder: Path, images: str, count: int, labelled: bool) -> list[str]:
    """Grey pictures with one bright car each, of which half is told; their keys."""
    random = np.random.default_rng(len(folder.name))
    (folder / images).mkdir(parents=True)
    (folder / "labels").mkdir(exist_ok=True)
    (folder / "classes.txt").write_text("car\ntruck\nperson\n")
    keys = []
    for number in range(count):
        picture = random.integers(90, 120, (192, 320, 3)).astype(np.uint8)
        picture[100:150, 40:120] = (30, 60, 220)
        file = folder / images / f"{number:03d}.png"
        cv2.imwrite(str(file), picture)
        if labelled:
            (folder / "labels" / f"{number:03d}.txt").write_text("0 0.25 0.651 0.25 0.26\n")
        keys.append(f"{folder.name}/{file.relative_to(folder)}")
    return keys


class Tiny(NamedTuple):
    """A folder of tiny sets: the keys of their pictures, and the options of `semhier train street` for them."""

    folder: Path
    mine: list[str]
    bare: list[str]
    options: list[str]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def run(self, *words: str | Path) -> int:
        """The command's exit status; `words` come last, but for a stage's name, which comes first."""
        return main(["train", "street", *map(str, words[:1]), *self.options, *map(str, words[1:])])

    def settings(self, **others: Any) -> argparse.Namespace:
        """Those that its stages run with."""
        given = vars(parse(["train", "street", *self.options])) | others
        return settings_of("gather", {}, given)


def write_teacher(path: Path, kind: int) -> Path:
    """A teacher that sees a thing of COCO's class `kind` where a car is, and a person elsewhere."""
    outputs = {  # in pixels of the view
        "labels": np.array([[kind, 0]]),
        "boxes": np.array([[[87.0, 217, 260, 325], [500, 100, 540, 220]]]),
        "scores": np.array([[0.8, 0.6]]),
    }
    tiny = runpy.run_path(str(Path(__file__).parents[1] / "scene" / "tiny_onnx.py"))
    path.parent.mkdir(exist_ok=True)
    shape = (1, 3, VIEWS[0].height, VIEWS[0].width)
    return tiny["write_detector"](path, outputs, shape=shape, extra={"orig_target_sizes": (1, 2)})


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    mine, bare = draw_set(tmp_path / "mine", "images", 4, True), draw_set(tmp_path / "bare", "pictures", 2, False)
    kept = draw_set(tmp_path / "kept", "images", 1, True)
    with (tmp_path / "kept/labels/000.txt").open("a") as file:
        file.write("1 0.7 0.5 0.2 0.2\n")
    splits = tmp_path / "splits"
    splits.mkdir()
    for split, keys in (("train", [*mine[:3], bare[0]]), ("choose", [mine[3], bare[1]]), ("report", kept)):
        (splits / f"{split}.txt").write_text("\n".join(keys) + "\n")
    (tmp_path / "sources.yaml").write_text(RECIPE)
    (tmp_path / "tree.yaml").write_text(yaml.safe_dump(TINY_TREE))
    teacher = write_teacher(tmp_path / "teacher.onnx", 2)
    options = [
        "--data", tmp_path, "--sources", tmp_path / "sources.yaml", "--taxonomy", tmp_path / "tree.yaml",
        "--start", ROOT / "models/road", "--kept", 1, 0.5,
        "--splits", splits, "--out", tmp_path / "out", "--teacher", teacher, "--layout", "detr-labels",
        "--views", 1, "--looks", 4, "--steps", 2, "--rounds", 1, "--detector-steps", 1, "--batch", 2,
        "--workers", 0, "--crop", 128, 96, "--settled", 4, "--threads", 1, "--device", "cpu",
    ]  # fmt: skip
    return Tiny(tmp_path, mine, bare, [str(word) for word in options])


def test_from_sets_to_scenes_that_a_model_folder_is_made_of(tiny: Tiny):
    pytest.importorskip("timm", reason="training needs timm")
    out, mine, bare = tiny.out, tiny.mine, tiny.bare
    assert main(["train", "street", *tiny.options]) == 0

    catalogue = read_catalogue(out / "catalogue.jsonl")
    assert sorted(catalogue) == sorted([*mine, *bare])
    assert catalogue[mine[0]].labels.words == ("car",)
    assert len(list((out / "said" / "teacher").glob("*.jsonl"))) == 1
    adapted = torch.load(out / "adapted.pt", weights_only=True)
    start = load_file(ROOT / "models/road/weights.safetensors")
    names = [key for key in adapted["average"] if key.startswith("trunk.") and key.endswith(".weight")]
    assert names
    assert all(torch.equal(adapted["average"][key], start[f"detector.detector.{key}"].float()) for key in names)
    assert adapted["average"]["types.weight"].shape[0] == 3
    assert not torch.equal(adapted["average"]["tower.1.2.weight"], start["detector.detector.tower.1.2.weight"].float())
    trained = torch.load(out / "detector.pt", weights_only=True)
    assert trained["step"] == 1
    assert trained["classes"] == ["car", "truck", "person"]
    mixed = trained_detector(out, LEAVES)
    assert all(torch.equal(mixed[key], start[f"detector.detector.{key}"].float()) for key in names)
    assert torch.equal(trained_detector(out, LEAVES, mixed=False)["types.bias"], trained["average"]["types.bias"])

    data = YoloData.open(out / "settled" / "data.yaml", Path("unused"))
    assert data.classes == ("car", "truck", "person")
    assert {split: len(files) for split, files in data.images.items()} == {"train": 4, "choose": 2}
    for file in data.images["train"]:
        rows = [line.split()[0] for line in label_file(file).read_text().splitlines()]
        assert "0" in rows or "1" in rows
        assert "2" in rows  # the teacher's person, whom no set labels
        assert ignored_file(file).read_text() == ""
    painted = torch.load(out / "painted.pt", weights_only=True)
    assert painted["planes"] == {"scenes": (0, 3)}
    report = out / "report" / "kept"
    assert (report / "labels" / "000.txt").read_text().split() == ["0", "0.250000", "0.651000", "0.250000", "0.260000"]
    assert (report / "ignored" / "000.txt").read_text().split() == ["0", "0.700000", "0.500000", "0.200000", "0.200000"]
    assert (report / "images" / "000.png").is_file()
    assert tiny.run("gather", "--data", tiny.folder / "nowhere") == 2


def other_model(folder: Path) -> Path:
    """A model folder of other weights than road's."""
    folder.mkdir()
    shutil.copy(ROOT / "models/road/taxonomy.yaml", folder)
    weights = load_file(ROOT / "models/road/weights.safetensors")
    weights["detector.detector.types.bias"] += 1
    save_file(weights, folder / "weights.safetensors")
    return folder


def test_what_one_folder_began_is_not_gone_on_with_as_if_another_had(tiny: Tiny, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("timm", reason="training needs timm")
    other = other_model(tiny.folder / "other")
    assert all(tiny.run(stage) == 0 for stage in ("gather", "teach", "adapt"))
    stored = torch.load(tiny.out / "adapted.pt", weights_only=True)
    before = (tiny.out / "adapted.pt").read_bytes()
    capsys.readouterr()
    for stage in ("adapt", "detector"):
        assert tiny.run(stage, "--start", other) == 2
        assert re.search(r"adapted\.pt was trained with start road21 \w+, not road21 \w+", capsys.readouterr().err)
    assert not (tiny.out / "detector.pt").exists()
    assert (tiny.out / "adapted.pt").read_bytes() == before
    assert tiny.run("detector") == 0
    assert torch.load(tiny.out / "detector.pt", weights_only=True)["start"] == stored["start"]
    (tiny.out / "adapted.pt").unlink()
    capsys.readouterr()
    for stage in ("detector", "blend"):
        assert tiny.run(stage, "--start", other) == 2
        assert "detector.pt was trained with start road21" in capsys.readouterr().err
    assert not (tiny.out / "blended.pt").exists()


def test_a_trunk_is_made_thinner_once_and_trained_on_as_it_is(tiny: Tiny, capsys: pytest.CaptureFixture[str]):
    for stage in ("gather", "teach"):
        assert tiny.run(stage) == 0
    assert tiny.run("thin") == 0
    assert not (tiny.out / "thinned.pt").exists()
    assert tiny.run("thin", "--widths", "1.0=64") == 0
    capsys.readouterr()
    assert tiny.run("thin", "--widths", "1.0=48") != 0
    assert "was trained with widths ['1.0=64'], not ['1.0=48']" in capsys.readouterr().err
    assert tiny.run("thin", "--widths", "9.0=4") != 0
    assert "no block 9.0" in capsys.readouterr().err
    assert tiny.run("detector", "--detector-steps", "1") == 0
    trained = load_checkpoint(tiny.out / "detector.pt")
    assert trained is not None
    assert len(trained["average"]["trunk.blocks.1.0.conv_dw.weight"]) == 64


def test_checkpoints_of_before_starts_were_told_go_on_and_still_do_not_tell(tiny: Tiny):
    pytest.importorskip("timm", reason="training needs timm")
    assert all(tiny.run(stage) == 0 for stage in ("gather", "teach", "adapt"))
    adapted = torch.load(tiny.out / "adapted.pt", weights_only=True)
    torch.save({key: value for key, value in adapted.items() if key != "start"}, tiny.out / "adapted.pt")
    assert tiny.run("detector") == 0
    trained = torch.load(tiny.out / "detector.pt", weights_only=True)
    torch.save({key: value for key, value in trained.items() if key != "start"}, tiny.out / "detector.pt")
    assert tiny.run("detector", "--detector-steps", "2", "--start", other_model(tiny.folder / "other")) == 0
    trained = torch.load(tiny.out / "detector.pt", weights_only=True)
    assert trained["step"] == 2
    assert "start" not in trained


def test_another_teacher_of_the_same_file_name_is_asked_too(tiny: Tiny):
    pytest.importorskip("timm", reason="training needs timm")
    second = write_teacher(tiny.folder / "b" / "teacher.onnx", 7)
    assert tiny.run("gather") == 0
    for words in ([], ["--teacher", second], ["--teacher", second, "--names", "coco91"], ["--teacher", second], []):
        assert tiny.run("teach", *words) == 0
    files = sorted((tiny.out / "said").rglob("*.jsonl"))
    assert len(files) == 3
    books = [Notebook(file) for file in files]
    assert {book.teacher["sha256"] for book in books} == {file_hash(tiny.folder / "teacher.onnx"), file_hash(second)}
    assert all(book.said.keys() == {*tiny.mine, *tiny.bare} for book in books)
    number_alike(books, ())
    scenes = street_stages.Street(tiny.settings()).scenes("train")
    assert len(scenes) == 4


def test_a_notebook_that_does_not_say_whose_it_is_is_gone_on_with(tiny: Tiny):
    pytest.importorskip("timm", reason="training needs timm")
    assert all(tiny.run(stage) == 0 for stage in ("gather", "teach"))
    (file,) = (tiny.out / "said").rglob("*.jsonl")
    lines = file.read_text().splitlines()
    assert json.loads(lines[0])["teacher"]["names"][2] == "car"
    file.write_text("\n".join(lines[1:3]) + "\n")
    assert tiny.run("teach") == 0
    assert len(list((tiny.out / "said").rglob("*.jsonl"))) == 1
    assert Notebook(file).teacher is None
    assert sorted(file.read_text().splitlines()) == sorted(lines[1:])


def test_pictures_that_are_settled_no_more_go_and_what_is_stopped_changes_nothing(tiny: Tiny, monkeypatch):
    pytest.importorskip("timm", reason="training needs timm")
    assert all(tiny.run(stage) == 0 for stage in ("gather", "teach"))
    save_checkpoint(tiny.out / "detector.pt", {"average": Detector(3).state_dict(), "step": 1})
    assert tiny.run("settle") == 0
    images = tiny.out / "settled/images/train"
    assert len(list(images.iterdir())) == 4
    catalogue = (tiny.out / "catalogue.jsonl").read_bytes()

    def stopped(*arguments: object):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(street_stages, "settle_rows", stopped)
        patch.setitem(street_stages.READERS, "bare", stopped)
        assert tiny.run("settle", "--settled", 2) == 130
        assert tiny.run("gather") == 130
    assert len(list(images.iterdir())) == len(list((tiny.out / "settled/labels/train").iterdir())) == 4
    assert (tiny.out / "catalogue.jsonl").read_bytes() == catalogue
    assert tiny.run("settle", "--settled", 2) == 0
    assert len(list(images.iterdir())) == len(list((tiny.out / "settled/labels/train").iterdir())) == 2


BAD = [
    ("detector", ["--crop", "500", "300"], "crop: 500 300: multiples of 32 wanted"),
    ("blend", ["--kept", "1.2", "0"], "--kept: 1.2: a number of at least 0 and at most 1 wanted"),
    ("teach", ["--teacher", "{tmp}/none.onnx"], "none.onnx"),
    ("teach", ["--teacher", "{tmp}/tree.yaml"], "tree.yaml"),
    ("teach", ["--layout", "yolov99"], "layout 'yolov99'"),
    ("gather", ["--names", "coco81"], "names coco81: not one of coco80, coco91"),
    ("gather", ["--taxonomy", "{tmp}/sources.yaml"], "sources.yaml"),
    ("gather", ["--sources", "{tmp}/none.yaml"], "sources: "),
    ("gather", ["--sources", "{tmp}/tree.yaml"], "teacher is missing"),
    ("adapt", ["--start", "{tmp}"], "start: "),
    ("detector", ["--tutor", "{tmp}"], "tutor: "),
    ("detector", ["--tutor", "{road}", "--tutored", "theirs"], "tutored: 'theirs' is none of the recipe's sets"),
    ("settle", ["--splits", "{tmp}"], "splits: "),
    ("pictures", ["--picture-start", "{tmp}"], "model.json is missing"),
]


@pytest.mark.parametrize("whole", [False, True], ids=["alone", "all"])
@pytest.mark.parametrize(("stage", "words", "said"), BAD)
def test_what_no_stage_can_run_with_is_one_line_before_any_runs(
    stage: str, words: list[str], said: str, whole: bool, tiny: Tiny, monkeypatch, capsys
):
    pytest.importorskip("timm", reason="training needs timm")
    for name in STAGES:
        monkeypatch.setattr(street_stages, name, lambda options: pytest.fail("a stage ran"))
    given = [word.format(tmp=tiny.folder, road=ROOT / "models/road") for word in words]
    assert main(["train", "street", *([] if whole else [stage]), *tiny.options, *given]) == 2
    error = capsys.readouterr().err
    assert error.startswith("semhier: ")
    assert error.count("\n") == 1
    assert said in error


def test_a_split_of_which_no_teacher_said_anything_is_one_line(tiny: Tiny, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("timm", reason="training needs timm")
    assert tiny.run("gather") == 0
    assert tiny.run("adapt") == 2
    assert "split train: no picture of" in capsys.readouterr().err


def test_maps_are_looked_at_anew_when_what_looks_or_what_is_seen_changes(tmp_path: Path):
    class Fixed:
        calls = 0

        def infer(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
            self.calls += 1
            return [np.zeros((1, adapt.ROWS, adapt.COLUMNS, adapt.CHANNELS), np.float32)]

    def scenes_at(path: Path) -> SimpleNamespace:
        np.save(path, np.zeros(60 * 40 * 3, np.uint8))
        return SimpleNamespace(
            pixels=PackedArray(path), sizes=np.array([[60, 40]]), boxes=[np.zeros((0, 5), np.float32)],
            picture=lambda row: np.zeros((40, 60, 3), np.uint8),
        )  # fmt: skip

    scenes, fixed = scenes_at(tmp_path / "street-1.npy"), Fixed()
    looks, path = [(0, 1.0, False)], tmp_path / "looks" / "maps.npy"
    for _ in range(2):
        adapt.look(scenes, looks, fixed, path, of="road21 1")
    assert fixed.calls == 1
    adapt.look(scenes, looks, fixed, path, of="road21 2")
    assert fixed.calls == 2
    adapt.look(scenes_at(tmp_path / "street-2.npy"), looks, fixed, path, of="road21 2")
    assert fixed.calls == 3


def test_a_blend_of_an_older_detector_is_not_taken_for_that_of_the_newer_one(tiny: Tiny):
    pytest.importorskip("timm", reason="training needs timm")
    tiny.out.mkdir()
    weights = Detector(3).state_dict()
    save_checkpoint(tiny.out / "detector.pt", {"average": weights, "step": 1})
    assert tiny.run("blend", "--kept", "0", "0") == 0
    assert torch.equal(trained_detector(tiny.out, LEAVES)["types.bias"], weights["types.bias"])
    newer = {key: value + 1 if key == "types.bias" else value for key, value in weights.items()}
    save_checkpoint(tiny.out / "detector.pt", {"average": newer, "step": 1})
    with pytest.raises(TrainingError, match=r"blended\.pt: not of the detector\.pt beside it.*run the stage blend"):
        trained_detector(tiny.out, LEAVES)
    assert torch.equal(trained_detector(tiny.out, LEAVES, mixed=False)["types.bias"], newer["types.bias"])
    save_checkpoint(tiny.out / "blended.pt", {"average": weights})  # as they were before they told of what they are
    assert torch.equal(trained_detector(tiny.out, LEAVES)["types.bias"], weights["types.bias"])


@pytest.mark.parametrize("counts", [[0, 500, 0, 80, 0], [0, 0, 0]])
def test_classes_without_examples_leave_the_others_something_to_learn(counts: list[int]):
    weights = rarity_of(np.array(counts))
    assert (weights > 0).all()
    assert weights[1] <= weights[-2]


def test_a_blend_lies_between_start_and_training_and_leaves_what_the_start_cannot_name():
    shapes = {"trunk.conv": (2, 2), "lateral.0": (2,), "tower.0": (3,), "types.weight": (3, 2), "types.bias": (3,)}
    start = {key: torch.zeros(shape) for key, shape in shapes.items()} | {"trunk.count": torch.tensor(7)}
    trained = {key: torch.ones(shape) for key, shape in shapes.items()} | {"trunk.count": torch.tensor(9)}
    mixed = blended(start, trained, (0.25, 0.5), known=[0, 2])
    assert torch.equal(mixed["trunk.conv"], torch.full((2, 2), 0.75))
    assert torch.equal(mixed["lateral.0"], torch.full((2,), 0.75))
    assert torch.equal(mixed["tower.0"], torch.full((3,), 0.5))
    assert torch.equal(mixed["types.bias"], torch.tensor([0.5, 1.0, 0.5]))
    assert torch.equal(mixed["types.weight"], torch.tensor([[0.5, 0.5], [1.0, 1.0], [0.5, 0.5]]))
    assert mixed["trunk.count"] == 9
    assert torch.equal(trained["types.bias"], torch.ones(3))


def test_planes_of_new_groups_begin_as_those_that_held_their_leaves():
    old, new = Taxonomy.load(ROOT / "config/taxonomies/road21.yaml"), Taxonomy.load(TREE)
    held = dict(zip(new.names(1), planes_of(old, new), strict=True))
    counts = np.bincount(np.asarray(old.owner(1)))
    assert counts[held["vehicle"]] == counts.max()
    assert held["vulnerable"] == held["animal"] == held["traffic control"] == -1


def test_rare_types_are_given_back_among_their_group_alone() -> None:
    names = ("car", "taxi", "person", "dog")
    members = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0]], bool)
    recipe = Recipe((*names, "automobile"), members, {}, 0.5, 0.1, (), (), names)
    boxes = [np.array([[word, 0, 0, 9, 9]] * count, np.float32) for word, count in ((0, 40), (1, 1), (2, 20), (4, 9))]
    boxes += [boxes[0]] * 50
    scenes = StreetScenes(
        pixels=None,
        starts=np.zeros(len(boxes), int),
        sizes=np.ones((len(boxes), 2), int),
        boxes=boxes,
        known=np.ones((len(boxes), 4), bool),
        draw=np.full(len(boxes), 1 / len(boxes)),
        scales=np.ones(len(boxes), np.float32),
        sets=np.zeros(len(boxes), int),
    )
    ratio = overtaught(scenes, recipe, np.array([0, 0, 1, 2]))
    assert ratio[1] > 1  # taxis were drawn more often and weigh more
    assert -0.2 < ratio[0] < 0
    assert ratio[2] == ratio[3] == 0  # alone in its group; never met
