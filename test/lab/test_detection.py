"""`semhier measure detection`: COCO's figures, the result file, and what it says of inputs that are wrong."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.cli import main
from semhier_ros.codec.reading import Detection
from semhier_ros.footage.labels import read_labels
from semhier_ros.footage.video import default_video, read_video
from semhier_ros.lab.baselines import NAMES
from semhier_ros.lab.scoring.coco import Truth, rows_of
from semhier_ros.lab.scoring.frontier import mark_frontier
from semhier_ros.lab.studies.tables import TABLES, bytes_needed

OWNERS = [np.zeros(3, np.intp), np.array([0, 0, 1])]
WORDS = [("thing",), ("round", "square")]


def made_up(seed: int, scenes: int = 12) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """Labels of made-up scenes, and detections near them, wrong now and then, at both levels."""
    rng = np.random.default_rng(seed)
    labels, found = [], []
    for _ in range(scenes):
        count = int(rng.integers(0, 6))
        kinds = rng.integers(0, 3, count)
        boxes = np.concatenate([rng.uniform(0, 500, (count, 2)), rng.uniform(8, 200, (count, 2))], axis=1)
        labels.append(np.concatenate([kinds[:, None], boxes], axis=1))
        shaken = boxes + rng.normal(0, 8, boxes.shape)
        shaken = np.concatenate([shaken, np.stack([rng.uniform(0, 500, 4)] * 2 + [rng.uniform(9, 90, 4)] * 2, 1)])
        score = rng.uniform(0.05, 1, len(shaken))
        corners = np.concatenate([shaken[:, :2], shaken[:, :2] + shaken[:, 2:]], axis=1)
        nodes = np.concatenate([kinds, rng.integers(0, 3, 4)])
        found.append(
            [
                np.concatenate([owner[nodes][:, None], score[:, None], corners], axis=1).astype(np.float32)
                for owner in OWNERS
            ]
        )
    return labels, found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_figures_are_those_of_pycocotools(seed: int) -> None:
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    labels, found = made_up(seed)
    truth = Truth(labels, OWNERS, WORDS)
    for level in range(2):
        score = truth.score(level, [rows[level] for rows in found])
        with contextlib.redirect_stdout(io.StringIO()):
            reference = coco.COCO()
            reference.dataset = truth._truth[level].dataset
            reference.createIndex()
            listed = [
                {
                    "image_id": scene + 1,
                    "category_id": int(node) + 1,
                    "score": float(chance),
                    "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
                }
                for scene, rows in enumerate(found)
                for node, chance, x0, y0, x1, y1 in rows[level]
            ]
            judged = cocoeval.COCOeval(reference, reference.loadRes(listed), "bbox")
            judged.evaluate()
            judged.accumulate()
            judged.summarize()
        assert score.ap == pytest.approx(judged.stats[0], abs=1e-9)
        assert score.ap50 == pytest.approx(judged.stats[1], abs=1e-9)
        assert 0.2 < score.ap50 < 1
        assert set(score.nodes) == set(WORDS[level])


def test_perfect_detections_score_one_and_none_score_nothing() -> None:
    labels, _ = made_up(5)
    truth = Truth(labels, OWNERS, WORDS)
    exact = [
        np.stack(
            [OWNERS[1][rows[:, 0].astype(int)], np.ones(len(rows)), *rows[:, 1:3].T, *(rows[:, 1:3] + rows[:, 3:]).T], 1
        )
        for rows in labels
    ]
    score = truth.score(1, exact)
    assert score.ap50 == pytest.approx(1)
    assert score.ap == pytest.approx(1)
    nothing = truth.score(1, [np.empty((0, 6), np.float32)] * len(labels))
    assert nothing.ap50 == 0
    assert [size is None for size in nothing.sizes.values()] == [size is None for size in score.sizes.values()]
    small = Truth([np.array([[0, 10, 10, 20, 20.0]])], OWNERS, WORDS).score(0, [np.empty((0, 6), np.float32)])
    assert small.sizes == {"small": 0.0, "medium": None, "large": None}


def test_nodes_that_do_not_count_pull_nothing_down() -> None:
    labels = [np.array([[leaf, 50.0 * leaf, 10, 20, 20] for leaf in range(len(OWNERS[-1]))])]
    node = int(OWNERS[1][0])
    own = np.array([[node, 0.9, row[1], row[2], row[1] + row[3], row[2] + row[4]] for row in labels[0]], np.float32)
    truth = Truth(labels, OWNERS, WORDS)
    found = [own[[OWNERS[1][int(row[0])] == node for row in labels[0]]]]
    assert truth.score(1, found).ap50 < 0.6
    score = truth.score(1, found, {node})
    assert score.ap50 == pytest.approx(1)
    assert score.sizes["small"] == pytest.approx(1)
    assert score.nodes == {WORDS[1][node]: pytest.approx(1)}
    assert truth.score(1, [np.empty((0, 6), np.float32)], {node}).nodes == {WORDS[1][node]: 0.0}


def test_what_is_found_in_an_ignored_region_counts_neither_way() -> None:
    labels = [np.array([[0, 10, 10, 20, 20.0]])]
    right, wrong = (0, 0.5, 10, 10, 30, 30), (0, 0.9, 60, 60, 80, 80)
    found = [np.array([right, wrong], np.float32)]
    assert Truth(labels, OWNERS, WORDS).score(0, found).ap50 == pytest.approx(0.5, abs=0.01)
    inside = [np.array([[50, 50, 50, 50.0]])]
    truth = Truth(labels, OWNERS, WORDS, inside)
    assert truth.score(0, found).ap50 == pytest.approx(1)
    assert truth.score(0, found).nodes.keys() == {WORDS[0][0]}
    beside = [np.array([[75, 75, 50, 50.0]])]
    assert Truth(labels, OWNERS, WORDS, beside).score(0, found).ap50 == pytest.approx(0.5, abs=0.01)


def test_rows_carry_the_path_and_what_else_an_object_may_be() -> None:
    one = Detection(0, (1, 2, 3, 4), (0, 1), ("thing", "square"), (0.9, 0.6), ((), ((0, 0.3),)))
    short = Detection(1, (5, 6, 7, 8), (0,), ("thing",), (0.5,))
    level_0, level_1 = rows_of([one, short], 2)
    assert level_0.tolist() == [[0, pytest.approx(0.9), 1, 2, 3, 4], [0, 0.5, 5, 6, 7, 8]]
    assert level_1[:, 0].tolist() == [1, 0]
    assert level_1[:, 1] == pytest.approx([0.6, 0.3])


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 10)), min_size=1, max_size=12))
def test_every_level_has_a_best_row_that_nothing_beats(values: list[tuple[int, int]]) -> None:
    rows = [{"payload_bytes_mean": float(size), "ap50": {"L0": worth / 10}} for size, worth in values]
    mark_frontier(rows, lambda row: row["ap50"])
    best = [row for row in rows if "L0" in row["best_at"]]
    assert max(row["ap50"]["L0"] for row in rows) == max(row["ap50"]["L0"] for row in best)
    for row in rows:
        needed = bytes_needed(best, "L0", row["ap50"]["L0"])
        assert needed is not None
        assert needed <= row["payload_bytes_mean"]
    assert bytes_needed(rows, "L0", 2.0) is None


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("0 .5 .5 .1", "five numbers"),
        ("car .5 .5 .1 .1", "five numbers"),
        ("21 .5 .5 .1 .1", r"class 21 is outside 0\.\.20"),
        ("-1 .5 .5 .1 .1", "class -1 is outside"),
        ("1.5 .5 .5 .1 .1", r"class 1\.5 is outside"),
        ("1 320 180 20 20", "not in shares"),
        ("1 .5 .5 -.1 .1", "not in shares"),
        ("1 .5 .5 .1 inf", "not in shares"),
        ("1 .1 .1 .2 .1 .2 .2 .3", "five numbers"),
        ("1 nan .5 .1 .1", "not in shares"),
    ],
)
def test_a_wrong_label_is_named_by_file_and_line(tmp_path: Path, line: str, complaint: str) -> None:
    file = tmp_path / "a.txt"
    file.write_text(f"3 .5 .5 .1 .1\n\n{line}\n")
    with pytest.raises(ValueError, match=rf"a\.txt:3: .*{complaint}"):
        read_labels(file, 640, 360, 21)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three street pictures with labels where there are cars, roughly; the third is empty and has no label file."""
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    frames = [frame.image for number, frame in zip(range(156), read_video(default_video()), strict=False)][150::3]
    for number, rgb in enumerate([*frames, np.full((90, 160, 3), 90, np.uint8)]):
        cv2.imwrite(str(folder / "images" / f"{number}.jpg"), rgb[..., ::-1])
    (folder / "labels" / "0.txt").write_text("8 .5 .6 .2 .2\n0 .2 .6 .1 .3\n")
    (folder / "labels" / "1.txt").write_text("8 .5 .6 .2 .2\n")
    return folder


def evaluate(folder: Path, *more: str) -> int:
    return main(["measure", "detection", "--images", str(folder / "images"), "--labels", str(folder / "labels"), *more])


def test_the_result_file_says_what_every_system_needs(scenes: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "out.json", tmp_path / "out.svg"
    status = evaluate(
        scenes, "--codecs", "semhier,answer,webp", "--max-bytes", "40", "--threshold", ".2", "--pictures",
        "--json", str(out), "--plot", str(plot), "--jobs", "1",
    )  # fmt: skip
    assert status == 0
    result = json.loads(out.read_text())
    assert result["scenes"] == 3
    assert result["boxes"] == 3
    assert result["looks"] == ["800x480"]
    assert set(result["uncompressed"]["ap50"]) == {"L0", "L1", "L2"}
    ours = result["codecs"]["semhier"]
    assert [row["prefix"] for row in ours] == [*range(7), *range(4)]
    assert [set(row["ap50"]) for row in ours[:3]] == [{"L0"}, {"L0", "L1"}, {"L0", "L1", "L2"}]
    assert all(0 <= value <= 1 for row in ours for value in row["ap50"].values())
    sizes = [row["payload_bytes_mean"] for row in ours[:7]]
    assert sizes == sorted(sizes)
    assert all(row["payload_bytes_mean"] < row["bytes_mean"] for row in ours)
    assert ours[-1]["operating_point"] == {"threshold": 0.2, "max_bytes": 40}
    assert ours[-1]["payload_bytes_mean"] <= 40
    assert ours[6]["psnr"] > ours[3]["psnr"]
    answer = result["codecs"]["answer"]
    assert [row["operating_point"]["levels"] for row in answer] == [1, 2, 3]
    assert answer[2]["payload_bytes_mean"] < ours[2]["payload_bytes_mean"]
    webp = result["codecs"]["webp"]
    assert webp[0]["payload_bytes_mean"] > 100
    assert {row["scale"] for row in webp} == {1.0, 0.65, 0.4}
    assert "<svg" in plot.read_text()
    assert "webp" in plot.read_text()


def test_ignored_regions_are_read_and_told(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "ignored").mkdir()
    (tmp_path / "ignored" / "1.txt").write_text("0 .5 .5 1 1\n")
    out = tmp_path / "out.json"
    words = ("--codecs", "answer", "--threshold", ".3", "--jobs", "1", "--json", str(out))
    assert evaluate(scenes, *words) == 0
    plain = json.loads(out.read_text())
    assert evaluate(scenes, *words, "--ignored", str(tmp_path / "ignored")) == 0
    result = json.loads(out.read_text())
    assert (plain["ignored_boxes"], result["ignored_boxes"]) == (0, 1)
    assert result["uncompressed"]["ap50"]["L0"] >= plain["uncompressed"]["ap50"]["L0"]


def test_the_detector_may_look_otherwise_than_its_model_says(scenes: Path, tmp_path: Path) -> None:
    out, lists = tmp_path / "out.json", []
    for looks in (["160x96"], ["800x480:0-100@0.2", "480x288:50-"]):
        words = ("--codecs", "answer", "--threshold", ".3", "--max-bytes", "0", "--jobs", "1", "--json", str(out))
        assert evaluate(scenes, *words, "--looks", *looks) == 0
        result = json.loads(out.read_text())
        assert result["looks"] == looks
        lists.append(result["codecs"]["answer"][0]["objects_mean"])
    assert lists[0] < lists[1], "fewer objects are found in fewer pixels"


def test_a_detector_of_others_is_judged_by_the_same_labels(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = runpy.run_path(str(Path(__file__).parents[1] / "scene" / "tiny_onnx.py"))
    box = np.array([[[0.4, 0.5, 0.6, 0.7]]]) * [*tiny["SIZE"], *tiny["SIZE"]]
    outputs = {"labels": np.array([[5]]), "boxes": box, "scores": np.array([[0.8]])}
    file = tiny["write_detector"](tmp_path / "bus.onnx", outputs, extra={"orig_target_sizes": (1, 2)})
    out = tmp_path / "out.json"

    def beside(*more: str) -> int:
        folders = ["--images", str(scenes / "images"), "--labels", str(scenes / "labels"), "--json", str(out)]
        return main(["measure", "beside", *folders, "--detector", str(file), "--layout", "detr-labels", *more])

    assert beside("--as", "bus=vehicle", "--alone") == 0
    result = json.loads(out.read_text())
    assert result["detector"]["ap50_by_class"] == {"vehicle": pytest.approx(0.5, abs=0.2)}
    assert "model" not in result
    assert beside("--as", "bus=heavy") == 0
    result = json.loads(out.read_text())
    assert result["level"] == 1
    assert result["model"] == "road"
    assert set(result["own"]["ap50_by_class"]) == set(result["detector"]["ap50_by_class"]) == {"heavy"}
    (table,) = TABLES["beside"](result)
    assert [row[0] for row in table.rows] == ["road", f"bus.onnx, {tiny['SIZE'][0]}x{tiny['SIZE'][1]}"]
    for words, complaint in (
        (("bus=lorry",), "'lorry' is no node of road21"),
        (("tram=vehicle",), "'tram' is no class"),
        (("bus=vehicle", "car=car-like"), "one level wanted"),
    ):
        assert beside("--as", *words) == 2
        assert complaint in capsys.readouterr().err


def test_inputs_that_cannot_be_used_are_named(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def complaint(images: Path, labels: Path, *more: str) -> str:
        words = ["measure", "detection", "--images", str(images), "--labels", str(labels), "--jobs", "1", *more]
        try:
            status: object = main(words)
        except SystemExit as ended:
            status = ended.code
        assert status == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("semhier")]
        assert len(lines) == 1
        return lines[0]

    images, labels, empty = scenes / "images", scenes / "labels", tmp_path / "empty"
    empty.mkdir()
    assert "--labels" in complaint(images, tmp_path / "none")
    assert "--images" in complaint(tmp_path / "none", labels)
    assert "no pictures" in complaint(empty, labels)
    assert "0.txt would" in complaint(images, empty)
    names = tmp_path / "names.txt"
    names.write_text("0.jpg\nmissing.jpg\n")
    assert "missing.jpg does not exist" in complaint(images, labels, "--split", str(names))
    assert f"not one of semhier, answer, {NAMES[0]}" in complaint(images, labels, "--codecs", "bpg")
    assert "look '800x481': sides of" in complaint(images, labels, "--looks", "800x481")
    assert "--threshold: '1.5', a number from" in complaint(images, labels, "--threshold", "1.5")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "0.jpg").write_bytes(b"\xff\xd8 no picture")
    assert "0.jpg: no picture, or damaged" in complaint(broken, labels)
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "0.txt").write_text("77 .5 .5 .1 .1\n")
    assert "0.txt:1: class 77 is outside 0..20" in complaint(images, wrong)
