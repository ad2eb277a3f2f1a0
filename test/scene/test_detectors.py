"""Any detector's tensors are read as boxes and scores; what does not fit is said in one line."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_onnx import SIZE, grid_rows, write_detector

from semhier_ros.codec.canvas import Canvas
from semhier_ros.paths import config_dir
from semhier_ros.scene.detectors.layouts import LAYOUTS, DetectorError, Layout, find_layout
from semhier_ros.scene.detectors.names import COCO80, COCO91, LeafIndex, check_names, read_names
from semhier_ros.scene.detectors.objects import objects_of, place
from semhier_ros.scene.detectors.runtime import Detector, DetectorSpec, Found
from semhier_ros.scene.layout import SceneLayout, quantise_boxes, restore_boxes
from semhier_ros.scene.objects import name as name_path
from semhier_ros.taxonomy import Taxonomy

pytest.importorskip("onnx", reason="the files that these tests read are made with onnx (extra `train`)")

LEAVES = ("person", "car", "dog")
PICTURE = np.full((128, 192, 3), 90, np.uint8)  # twice SIZE, so boxes come out doubled
BOX = np.array([16.0, 8.0, 48.0, 40.0])  # corners in pixels of the input
DOUBLED = 2 * BOX
CENTRED = np.array([32.0, 24.0, 32.0, 32.0])


def far_logit(score: float) -> float:
    return float(np.log(score / (1 - score)))


def outputs_of(name: str) -> dict[str, np.ndarray]:
    """The outputs of a file of that layout that finds one car of score 0.8 in BOX."""
    rows = grid_rows()
    share = CENTRED / np.array([*SIZE, *SIZE])
    if name == "yolox":
        out = np.zeros((1, rows, 8))
        cell = 3 * (SIZE[0] // 8) + 4  # of the first grid: column 4, row 3
        out[0, cell] = [0.0, 0.0, np.log(4.0), np.log(4.0), 0.9, 0.0, 0.8 / 0.9, 0.0]
        return {"output": out}
    if name in ("yolox-decoded", "yolov5"):
        out = np.zeros((1, rows if name == "yolox-decoded" else 3 * rows, 8))
        out[0, 7] = [*CENTRED, 0.9, 0.0, 0.8 / 0.9, 0.0]
        return {"output": out}
    if name == "ultralytics":
        out = np.zeros((1, 7, rows))
        out[0, :, 7] = [*CENTRED, 0.0, 0.8, 0.0]
        return {"output0": out}
    if name == "ultralytics-end2end":
        out = np.zeros((1, 30, 6))
        out[0, 0] = [*BOX, 0.8, 1]
        return {"output0": out}
    if name in ("detr", "rf-detr", "detr-softmax"):
        classes = 4 if name == "detr-softmax" else 3
        logits, boxes = np.full((1, 10, classes), -9.0), np.full((1, 10, 4), 0.1)
        boxes[0, 3] = share
        if name == "detr-softmax":
            logits[0, :, 3] = 9.0
            logits[0, 3] = [-20, far_logit(0.8), -20, 0]
        else:
            logits[0, 3, 1] = far_logit(0.8)
        return {
            "dets" if name == "rf-detr" else "pred_boxes": boxes,
            "labels" if name == "rf-detr" else "logits": logits,
        }
    if name == "detr-labels":
        return {"labels": np.array([[1, 0]]), "boxes": np.array([[BOX, BOX]]), "scores": np.array([[0.8, 0.001]])}
    if name == "nms":
        return {"boxes": np.array([BOX, BOX]), "scores": np.array([0.8, 0.001]), "labels": np.array([1, 0])}
    if name == "tensorflow":
        shared = (BOX / np.array([*SIZE, *SIZE]))[[1, 0, 3, 2]]
        return {
            "detection_boxes": np.array([[shared, shared]]),
            "detection_classes": np.array([[2.0, 1.0]]),
            "detection_scores": np.array([[0.8, 0.0]]),
            "num_detections": np.array([2.0]),
        }
    if name == "detection-output":
        return {"out": np.array([[[[0, 2, 0.8, *(BOX / np.array([*SIZE, *SIZE]))], [-1, 0, 0, 0, 0, 0, 0]]]])}
    assert name == "nanodet"
    made = {}
    for stride in (8, 16, 32):
        cells = grid_rows(strides=(stride,))
        scores, sides = np.zeros((1, cells, 3)), np.zeros((1, cells, 4, 8))
        if stride == 8:
            cell = 2 * (SIZE[0] // 8) + 3  # its middle pixel is 27.5, 19.5
            scores[0, cell, 1] = 0.8
            for side, reach in enumerate((11.5, 11.5, 20.5, 20.5)):  # to BOX, as a mean of two distances
                low = int(reach // 8)
                part = reach / 8 - low
                sides[0, cell, side] = -40
                sides[0, cell, side, low], sides[0, cell, side, low + 1] = np.log(1 - part), np.log(part)
        made |= {f"cls_{stride}": scores, f"reg_{stride}": sides.reshape(1, cells, 32)}
    return made


def detector_of(tmp_path: Path, name: str, **options: object) -> Detector:
    extra = {"orig_target_sizes": (1, 2)} if name == "detr-labels" else None
    path = write_detector(tmp_path / f"{name}.onnx", outputs_of(name), extra=extra)
    names = ("", *LEAVES) if name == "nms" else LEAVES
    if name == "nms":
        path = write_detector(path, outputs_of(name) | {"labels": np.array([2, 1])})
    return Detector.open(path, LEAVES, layout=LAYOUTS[name], names=names, threads=1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_reads_the_box_that_its_tensors_say(tmp_path: Path, name: str) -> None:
    found = detector_of(tmp_path, name).detect(PICTURE, least=0.3)
    assert len(found) == 1
    assert np.allclose(found.boxes[0], DOUBLED, atol=0.2)
    assert found.scores[0].argmax() == 1
    assert found.scores[0, 1] == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_reads_a_picture_in_which_nothing_is_found(tmp_path: Path, name: str) -> None:
    found = detector_of(tmp_path, name).detect(PICTURE, least=0.9)
    assert (found.boxes.shape, found.scores.shape) == ((0, 4), (0, len(LEAVES)))


@pytest.mark.parametrize(
    "name",
    ["yolox", "yolov5", "ultralytics", "ultralytics-end2end", "detr", "rf-detr", "detr-labels", "nms", "nanodet"],
)
def test_a_layout_that_is_not_named_is_guessed_from_the_tensors(tmp_path: Path, name: str) -> None:
    path = detector_of(tmp_path, name).path
    names = ("", *LEAVES) if name == "nms" else LEAVES
    guessed = Detector.open(path, LEAVES, names=names, threads=1).spec.layout.name
    assert guessed == name


def test_a_wrong_layout_is_told_in_one_line_with_the_tensor_what_is_wanted_and_what_fits(tmp_path: Path) -> None:
    path = detector_of(tmp_path, "ultralytics").path
    with pytest.raises(DetectorError) as told:
        Detector.open(path, LEAVES, layout=LAYOUTS["yolox"], threads=1)
    line = str(told.value)
    assert "\n" not in line
    assert f"`output0` 1,7,{grid_rows()} at 96x64: layout yolox wants one output 1,N,5+C" in line
    assert "ultralytics would fit" in line


def test_a_letterbox_and_a_stretched_picture_give_boxes_in_source_pixels(tmp_path: Path) -> None:
    tall = np.zeros((400, 200, 3), np.uint8)  # scaled by 0.16 onto 96x64: 32 pixels wide
    placed = detector_of(tmp_path, "yolox").detect(tall, 0.3).boxes[0]
    assert np.allclose(placed, np.clip(BOX / 0.16, 0, [200, 400, 200, 400]), atol=0.5)
    centred = detector_of(tmp_path, "ultralytics").detect(tall, 0.3).boxes[0]
    assert np.allclose(centred, np.clip((BOX - [32, 0, 32, 0]) / 0.16, 0, [200, 400, 200, 400]), atol=0.5)
    stretched = detector_of(tmp_path, "detr").detect(tall, 0.3).boxes[0]
    assert np.allclose(stretched, BOX * np.array([200 / 96, 400 / 64] * 2), atol=0.5)


def test_names_that_do_not_fit_are_told_with_the_tensor(tmp_path: Path) -> None:
    path = detector_of(tmp_path, "yolox").path
    with pytest.raises(DetectorError, match=r"names: 2 given, but output `output` 1,\d+,8 of layout yolox has 3"):
        Detector.open(path, LEAVES, layout=LAYOUTS["yolox"], names=LEAVES[:2], threads=1)
    with pytest.raises(DetectorError, match=r"'Dog' \(index 1\) and 'dog' \(index 0\) are alike"):
        check_names(["dog", "Dog"])
    with pytest.raises(DetectorError, match=r"'unicorn' \(index 2\) is no leaf of the tree"):
        Detector.open(path, LEAVES, layout=LAYOUTS["yolox"], names=(*LEAVES[:2], "unicorn"), threads=1)
    kept = Detector.open(
        path, LEAVES, layout=LAYOUTS["yolox"], names=(*LEAVES[:2], "unicorn"), ignore=("unicorn",), threads=1
    )
    assert kept.leaf_of == (0, 1, -1)


def test_a_label_without_a_name_is_told(tmp_path: Path) -> None:
    boxes = {"boxes": np.array([BOX, BOX]), "scores": np.array([0.8, 0.7]), "labels": np.array([7, 1])}
    path = write_detector(tmp_path / "nms.onnx", boxes)
    detector = Detector.open(path, LEAVES, layout=LAYOUTS["nms"], threads=1)
    with pytest.raises(DetectorError, match="label 7, but 3 names"):
        detector.detect(PICTURE)


def test_tensorflows_labels_count_from_one_or_as_names_do_that_begin_with_nothing(tmp_path: Path) -> None:
    raw = {"raw_detection_boxes": np.zeros((1, 9, 4)), "raw_detection_scores": np.zeros((1, 9, 3))}
    more = {"detection_anchor_indices": np.array([[4.0, 5.0]]), "detection_multiclass_scores": np.zeros((1, 2, 4))}
    path = write_detector(tmp_path / "t.onnx", outputs_of("tensorflow") | raw | more)
    for names in (LEAVES, ("", *LEAVES), ("__background__", *LEAVES)):
        found = Detector.open(path, LEAVES, layout=LAYOUTS["tensorflow"], names=names, threads=1).detect(PICTURE, 0.3)
        assert [LEAVES[leaf] for leaf in found.scores.argmax(axis=1)] == ["car"], "label 2"


def test_boxes_in_pixels_are_not_read_as_logarithms(tmp_path: Path) -> None:
    rows = np.zeros((1, grid_rows(), 8))
    rows[0, 7] = [*CENTRED, 0.9, 0.0, 0.8 / 0.9, 0.0]
    path = write_detector(tmp_path / "decoded.onnx", {"output": rows})
    guessed = Detector.open(path, LEAVES, threads=1)
    assert guessed.spec.layout.name == "yolox", "the tensors alone do not tell"
    with pytest.raises(DetectorError, match="in pixels already: layout yolox-decoded would fit"):
        guessed.detect(PICTURE, 0.3)
    odd = outputs_of("yolox")
    odd["output"][0, 20] = [0, 0, 30, 1, 0.9, 0, 0.9, 0]
    odd["output"][0, 22] = [0.5, 0.5, 1.0, 1.0, 0.9, 0.7, 0.0, 0.0]
    found = Detector.open(write_detector(tmp_path / "odd.onnx", odd), LEAVES, threads=1).detect(PICTURE, 0.3)
    assert len(found) == 2, "one cell's nonsense is left out"


def test_an_input_that_nobody_can_fill_is_told_by_name(tmp_path: Path) -> None:
    for name, sides in (("iou_threshold", (1,)), ("im_info", (1, 3))):
        path = write_detector(tmp_path / "d.onnx", outputs_of("nms"), extra={name: sides})
        with pytest.raises(DetectorError, match=f"input `{name}` .*beside the picture only its width and height"):
            Detector.open(path, LEAVES, layout=LAYOUTS["nms"], threads=1)


@pytest.mark.parametrize("name", ["nms", "detr-labels", "ultralytics-end2end", "detection-output"])
def test_rows_of_features_need_a_file_that_says_which_row_a_box_came_from(tmp_path: Path, name: str) -> None:
    extra = {"orig_target_sizes": (1, 2)} if name == "detr-labels" else None
    outputs = outputs_of(name) | {"told": np.zeros((1, 30, 4))}
    path = write_detector(tmp_path / "d.onnx", outputs, extra=extra)
    detector = Detector.open(path, ("", *LEAVES), layout=LAYOUTS[name], features="told", threads=1)
    with pytest.raises(DetectorError, match=r"features `told`: rows 1,30,4, but layout .* a map 1,F,h,w is wanted"):
        detector.detect(PICTURE, 0.3)


def test_a_truncated_file_and_a_missing_one_are_told_in_one_line(tmp_path: Path) -> None:
    path = detector_of(tmp_path, "yolox").path
    path.write_bytes(path.read_bytes()[:700])
    for bad in (path, tmp_path / "none.onnx"):
        with pytest.raises(DetectorError) as told:
            Detector.open(bad, LEAVES, threads=1)
        assert str(bad) in str(told.value)
        assert "\n" not in str(told.value)


def test_numbers_that_are_not_finite_are_told(tmp_path: Path) -> None:
    bad = outputs_of("yolox")
    bad["output"][0, 3, 4] = np.nan
    path = write_detector(tmp_path / "nan.onnx", bad)
    with pytest.raises(DetectorError, match=r"output `output`: 1 of \d+ values are no finite numbers"):
        Detector.open(path, LEAVES, threads=1).detect(PICTURE)


def test_a_size_that_the_file_cannot_take_is_told(tmp_path: Path) -> None:
    path = detector_of(tmp_path, "yolox").path
    with pytest.raises(DetectorError, match="layout yolox wants"):
        Detector.open(path, LEAVES, layout=LAYOUTS["yolox"], size=(128, 128), threads=1)
    with pytest.raises(DetectorError, match="size: 4x128"):
        Detector.open(path, LEAVES, size=(4, 128), threads=1)


def test_a_feature_map_is_pooled_in_the_boxes_and_a_missing_one_told(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(24.0), (16, 1))[None, None]  # as wide as the picture, in steps of 4 pixels
    path = write_detector(tmp_path / "f.onnx", outputs_of("yolox") | {"map": ramp})
    detector = Detector.open(path, LEAVES, layout=LAYOUTS["yolox"], features="map", threads=1)
    found = detector.detect(PICTURE, 0.3)
    assert found.features.shape == (1, 1)
    assert found.features[0, 0] == pytest.approx(BOX[[0, 2]].mean() / 4 - 0.5, abs=0.1)
    with pytest.raises(DetectorError, match="no tensor 'nowhere'"):
        Detector.open(path, LEAVES, layout=LAYOUTS["yolox"], features="nowhere", threads=1)


def test_a_layout_by_hand_keeps_what_it_is_like(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("like: yolox\nchannels: rgb\nmean: [1, 2, 3]\n")
    made = find_layout(str(file))
    assert (made.decode, made.channels, made.mean) == ("grid", "rgb", (1.0, 2.0, 3.0))
    assert Layout.from_dict(made.to_dict()) == made
    for text, said in (
        ("like: yolo9000", "not one of yolox"),
        ("like: yolox\nresize: squash", "resize 'squash'"),
        ("like: yolox\ncolour: red", "'colour' is no field"),
        ("resize: stretch", "decode is missing"),
        ("- a", "a mapping"),
        ("like: yolox\nmean: [a]", "mean"),
        ("like: yolox\npadding: .inf", "padding inf is not int"),
        ("like: yolox\ndeviation: [.nan, .nan, .nan]", "three finite numbers each wanted"),
        ("like: yolox\ndeviation: [1, 1, 0]", "is not above 0"),
    ):
        file.write_text(text)
        with pytest.raises(DetectorError, match=said):
            find_layout(str(file))
    with pytest.raises(DetectorError, match="not one of"):
        find_layout("nothing")


def test_a_card_brings_its_detector_back_and_refuses_another_form() -> None:
    spec = DetectorSpec("a.onnx", "0" * 64, LAYOUTS["detr"], LEAVES, ("dog",), (640, 480), "f")
    assert DetectorSpec.from_dict(spec.to_dict(), "card") == spec
    for change in ({"names": "abc"}, {"size": [3]}, {"layout": 7}, {"file": None}, {"more": 1}):
        with pytest.raises(DetectorError, match="card"):
            DetectorSpec.from_dict(spec.to_dict() | change, "card")


def test_names_and_numbers_find_their_leaf(tmp_path: Path) -> None:
    index = LeafIndex(COCO80, COCO91)
    assert index.find("Traffic_Light") == index.find("10") == COCO80.index("traffic light")
    assert index.find("motorbike") == COCO80.index("motorcycle")
    assert index.find("12") is None
    assert index.find("91") is None
    assert index.find("unicorn") is None
    assert len(COCO91) == 91
    assert COCO91[90] == "toothbrush"
    (tmp_path / "n.txt").write_text("car\n\ndog\n")
    assert read_names(tmp_path / "n.txt") == ("car", "", "dog")
    (tmp_path / "n.txt").write_text("car\nbus\nCar\n")
    with pytest.raises(DetectorError, match="'Car' \\(index 2\\) and 'car' \\(index 0\\)"):
        read_names(tmp_path / "n.txt")


LAYOUT = SceneLayout(
    80, 60, 8, float(np.log(0.5)), 0.16, 30, 0.1, 21, (0.1, 0.5), (1, 4), 63, ((0,), (0, 0, 0)), (0, 0), (), 8
)


@given(
    st.lists(
        st.tuples(st.floats(0, 80), st.floats(0, 60), st.floats(0.3, 40), st.floats(0.3, 40)), min_size=1, max_size=40
    )
)
def test_every_object_has_a_cell_of_its_own_from_which_its_box_can_be_said(raw: list[tuple[float, ...]]) -> None:
    boxes = np.array(raw, np.float32)
    cells = place(LAYOUT, boxes)
    kept = cells >= 0
    assert kept[0]
    assert len(set(cells[kept].tolist())) == kept.sum()
    sizes, offsets = quantise_boxes(LAYOUT, cells[kept], boxes[kept])
    said = restore_boxes(LAYOUT, cells[kept], sizes, offsets)
    sides = np.maximum(said[:, 2:], 0.5)
    assert (np.abs(said[:, :2] - boxes[kept, :2]) / sides <= 0.16).all()


def test_two_words_for_one_thing_are_one_object() -> None:
    box = [100.0, 100.0, 200.0, 180.0]
    found = Found(
        np.array([box, box, [300, 300, 400, 400]], np.float32),
        np.array([[0, 0.6, 0], [0, 0, 0.3], [0.9, 0, 0]], np.float32),
        np.zeros((3, 0), np.float32),
    )
    objects = objects_of(LAYOUT, Canvas(640, 480, (640, 480)), found, 0.1, 63)
    assert len(objects) == 2
    first = int(objects.boxes[:, 1].argmin())
    assert objects.objectness[first] == pytest.approx(0.6)
    assert np.allclose(np.exp(objects.leaves[first]), [1e-4, 2 / 3, 1 / 3], atol=1e-3)


def test_names_lead_to_the_detectors_own_best_class_however_many_others_it_thinks_of() -> None:
    scores = np.zeros((1, 80), np.float32)
    scores[0, COCO80.index("person")] = 0.40
    for name in ("car", "bus", "truck", "train"):
        scores[0, COCO80.index(name)] = 0.35
    found = Found(np.array([[100, 100, 200, 180]], np.float32), scores, np.zeros((1, 0), np.float32))
    objects = objects_of(LAYOUT, Canvas(640, 480, (640, 480)), found, 0.1, 63)
    tree = Taxonomy.load(config_dir() / "taxonomies" / "coco80-street.yaml")
    path = name_path(objects.leaves, [tree.parent(level).tolist() for level in range(1, 4)])
    assert int(path[-1][0]) == COCO80.index("person")
    assert objects.objectness[0] == pytest.approx(0.4)


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="ONNX Runtime is not installed")
def test_onnx_runtime_reads_what_openvino_reads(tmp_path: Path) -> None:
    for name in ("yolox", "detr-labels", "nms"):
        path = detector_of(tmp_path, name).path
        names = ("", *LEAVES) if name == "nms" else LEAVES
        one, other = (
            Detector.open(path, LEAVES, layout=LAYOUTS[name], names=names, threads=1, engine=engine).detect(
                PICTURE, 0.3
            )
            for engine in ("openvino", "onnxruntime")
        )
        assert np.allclose(one.boxes, other.boxes, atol=1e-3)
        assert np.allclose(one.scores, other.scores, atol=1e-5)


def test_an_engine_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = detector_of(tmp_path, "yolox").path
    with pytest.raises(DetectorError, match="engine: 'abacus' is not one of"):
        Detector.open(path, LEAVES, engine="abacus")
    with pytest.raises(DetectorError, match="engine tensorrt: "):
        Detector.open(path, LEAVES, engine="tensorrt")
