"""`semhier adopt`: what a detector finds becomes a stream that `Codec.load` takes; nothing is left half-written."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_onnx import SIZE, grid_rows, write_detector

from semhier_ros import Codec
from semhier_ros.cli import main
from semhier_ros.codec.model_folder import ModelError
from semhier_ros.scene.detectors.layouts import DetectorError
from semhier_ros.scene.detectors.names import COCO80
from semhier_ros.scene.detectors.runtime import Found
from semhier_ros.scene.folder import read_scene_folder
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.training.adopt.command import _pictures
from semhier_ros.training.adopt.fit import Observed, fit
from semhier_ros.training.adopt.folder import write_model

LEAVES = ("person", "bicycle", "car", "dog")
TREE = Taxonomy.from_parents(
    "tiny",
    [["thing"], ["vulnerable", "other"], list(LEAVES)],
    [[0, 0], [0, 0, 1, 1]],
    level_names=["any", "kind", "class"],
)
PICTURE_SIZE = (640, 480)


def street(count: int, seed: int = 0, features: int = 0) -> list[Observed]:
    """What a detector might find in `count` pictures: people and cars on a ground, the odd dog; its features tell one
    half of the cars from the other."""
    random = np.random.default_rng(seed)
    observed = []
    for _ in range(count):
        objects = random.integers(0, 9)
        kinds = random.choice(4, objects, p=[0.4, 0.1, 0.45, 0.05])
        height = random.lognormal(3.8, 0.5, objects)
        width = height * np.where(kinds == 0, 0.4, 1.5)
        x, y = random.uniform(30, 600, objects), random.normal(280, 40, objects)
        boxes = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
        scores = np.zeros((objects, 4))
        scores[np.arange(objects), kinds] = random.beta(2, 2, objects)
        doubtful = random.random(objects) < 0.2
        scores[doubtful, (kinds[doubtful] + 1) % 4] = scores[doubtful, kinds[doubtful]] / 3
        shown = random.normal(size=(objects, features)) + 3.0 * (random.random((objects, 1)) > 0.5)
        found = Found(np.clip(boxes, 0, 640).astype(np.float32), scores.astype(np.float32), shown.astype(np.float32))
        observed.append(Observed(PICTURE_SIZE, found))
    return observed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model fitted to 120 such pictures, without a detector of its own."""
    out = tmp_path_factory.mktemp("models") / "tiny"
    write_model(out, fit(street(120), TREE, say=lambda _: None), TREE, name="tiny", card="")
    return out


def sent(codec: Codec, item: Observed, **options: object) -> tuple:
    """The detections of all blocks of one picture's objects."""
    scores = item.found.scores
    detected = codec.detected(item.size, item.found.boxes, [LEAVES[k] for k in scores.argmax(1)], scores.max(1))
    blocks = codec.encode(None, detected=detected, **options)  # type: ignore[arg-type]
    decoder = codec.decoder(item.size)
    reading = None
    for block in blocks:
        reading = decoder.push(block)
    assert reading is not None
    return reading.detections


def test_a_stream_reads_back_the_detectors_own_list(folder: Path) -> None:
    codec = Codec.load(folder, "cpu", threads=1)
    assert codec.block_names == ("level_0", "level_1", "level_2")
    seen = 0
    for item in street(20, seed=1):
        best = item.found.scores.max(1)
        expected = {
            tuple(box.round(1)): (LEAVES[k], s)
            for box, k, s in zip(item.found.boxes, item.found.scores.argmax(1), best, strict=True)
            if s >= 0.1
        }
        found = sent(codec, item, threshold=0.1)
        assert len(found) == len(expected)
        for detection in found:
            box = min(expected, key=lambda own: float(np.abs(np.subtract(own, detection.box)).max()))
            name, score = expected[box]
            side = min(box[2] - box[0], box[3] - box[1])
            assert np.abs(np.subtract(box, detection.box)).max() <= max(
                2.5, 0.2 * max(box[2] - box[0], box[3] - box[1])
            )
            if side > 8:
                assert detection.names[-1] == name
                assert detection.scores[-1] == pytest.approx(score, abs=0.15)
                seen += 1
    assert seen > 40


def test_a_frame_costs_what_was_asked_for(folder: Path) -> None:
    observed = [item for item in street(150, seed=2) if len(item.found)]
    small = fit(observed, TREE, frame_bytes=14, say=lambda _: None)
    large = fit(observed, TREE, frame_bytes=60, say=lambda _: None)
    assert 10 <= small.frame_bytes <= 16
    assert small.threshold > large.threshold


def test_a_receiver_needs_no_detector_and_an_encoder_says_that_there_is_none(folder: Path) -> None:
    codec = Codec.load(folder, "cpu", threads=1)
    with pytest.raises(ValueError, match="model tiny has none; bring one"):
        codec.encode(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="nothing was detected"):
        codec.encode(None)
    assert codec.decoder().picture(0) is None


def test_classes_come_as_names_or_numbers_and_one_that_the_tree_lacks_is_told(folder: Path) -> None:
    codec = Codec.load(folder, "cpu", threads=1)
    box = np.array([[10, 20, 110, 220]], np.float32)
    for word in ("Dog", "3", 3):
        found = codec.detected(PICTURE_SIZE, box, [word], [0.9])
        assert found.scores.argmax() == 3
    with pytest.raises(ValueError, match="class 'unicorn' is no leaf of model tiny's tree"):
        codec.detected(PICTURE_SIZE, box, ["unicorn"], [0.9])
    assert len(codec.detected(PICTURE_SIZE, box, ["dog"], [np.nan]).boxes) == 0
    with pytest.raises(ValueError, match="in a picture of 640x480, but this is 64x48"):
        codec.encode(np.zeros((48, 64, 3), np.uint8), detected=codec.detected(PICTURE_SIZE, box, ["dog"], [0.9]))


@pytest.mark.parametrize(
    ("boxes", "classes", "scores", "size", "said"),
    [
        (np.zeros((4, 5)), ["dog"] * 4, [0.5] * 4, PICTURE_SIZE, r"boxes \(4, 5\)"),
        (np.zeros((3, 4)), ["dog"] * 2, [0.5] * 3, PICTURE_SIZE, "of 2 classes"),
        (np.zeros((2, 4)), ["dog"] * 3, [0.5] * 3, PICTURE_SIZE, "of 3 classes"),
        (np.zeros((1, 4)), ["dog"], [0.5], (0, 480), "size 0x480, expected sides of 1..16384"),
        (np.zeros((1, 4)), ["dog"], [0.5], (16_384, 16_384), "67,108,864 in all"),
    ],
)
def test_what_a_detector_found_has_one_length_and_a_size(
    folder: Path, boxes: np.ndarray, classes: list[str], scores: list[float], size: tuple[int, int], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Codec.load(folder, "cpu", threads=1).detected(size, boxes, classes, scores)


def test_a_size_may_be_a_list(folder: Path) -> None:
    codec = Codec.load(folder, "cpu", threads=1)
    detected = codec.detected([64, 48], np.array([[1, 1, 30, 40]]), ["dog"], [0.9])  # type: ignore[arg-type]
    assert codec.encode(np.zeros((48, 64, 3), np.uint8), detected=detected)


def test_a_detector_of_one_class_is_adopted_too(tmp_path: Path) -> None:
    detector, pictures, names = adopt_files(tmp_path)
    names.write_text("person\n")
    rows = np.zeros((1, grid_rows(), 6))
    rows[0, :, 4], rows[0, 40] = -1.0, [0.3, 0.2, 1.2, 1.0, 0.9, 0.8]
    write_detector(detector, {"output": rows}, wobble=0.001)
    assert adopt(tmp_path, detector=detector, pictures=pictures, names=names) == 0
    codec = Codec.load(tmp_path / "mine", "cpu", threads=1)
    decoder = codec.decoder((192, 128))
    for block in codec.encode(cv2.imread(str(pictures / "5.png"))):
        reading = decoder.push(block)
    assert [item.names[-1] for item in reading.detections] == ["person"]


def test_labels_count_by_the_names_of_their_classes(tmp_path: Path) -> None:
    _, pictures, _ = adopt_files(tmp_path)
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "3.txt").write_text("0 0.5 0.5 0.25 0.5\n1 0.5 0.5 0.1 0.1\n")
    options = Namespace(images=[pictures], labels=labels, limit=14, topic=None)

    def leaves_of_the_labels() -> list[int]:
        rows = {name: labels for name, _, labels in _pictures(options, LEAVES)}["3.png"]
        assert rows is not None
        assert rows[0, 1:].tolist() == [72, 32, 120, 96], "corners"
        return rows[:, 0].astype(int).tolist()

    assert leaves_of_the_labels() == [0, 1]
    (labels / "classes.txt").write_text("Car\nunicorn\n")
    assert leaves_of_the_labels() == [2], "by name, and what the detector has no word for is left out"


def test_labels_of_classes_that_are_no_leaf_are_told_and_where_none_is_left_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector, pictures, names = adopt_files(tmp_path)
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "3.txt").write_text("0 0.5 0.5 0.25 0.5\n1 0.5 0.5 0.1 0.1\n")
    (labels / "classes.txt").write_text("pedestrian\nvehicle\n")
    assert adopt(tmp_path, "--labels", labels, detector=detector, pictures=pictures, names=names) == 2
    assert "no label is left: labels: 1 objects of class 'pedestrian', no leaf" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()
    (labels / "classes.txt").write_text("pedestrian\ncar\n")
    assert adopt(tmp_path, "--labels", labels, detector=detector, pictures=pictures, names=names) == 0
    assert "labels: 1 objects of class 'pedestrian', no leaf of the taxonomy, left out" in capsys.readouterr().out


def test_appearance_is_one_block_more_and_what_names_do_not_say(tmp_path: Path) -> None:
    fitted = fit(street(150, features=5), TREE, appearance=2, say=lambda _: None)
    write_model(tmp_path / "m", fitted, TREE, name="m", card="")
    read = read_scene_folder(tmp_path / "m")
    assert read.stream.block_names == ("level_0", "level_1", "level_2", "detail")
    from semhier_ros.scene.objects import code_objects
    from semhier_ros.training.adopt.fit import _row

    first, second = [], []
    for item in street(60, seed=4, features=5):
        objects = _row(read.stream.layout, read.canvas, item, TREE, 0.1).objects
        code = code_objects(read.stream, read.projection, objects, 4)
        again = None
        for index in range(4):
            again = read.stream.decode(index, read.stream.encode(index, code), again)
        assert again is not None
        assert np.array_equal(again.latents[-1], code.latents[-1])
        first += code.latents[-1][:, 0].tolist()
        second += objects.features.mean(axis=1).tolist()
    assert abs(np.corrcoef(first, second)[0, 1]) > 0.8


def test_picture_blocks_of_another_model_are_taken_over(tmp_path: Path) -> None:
    from semhier_ros.paths import models_dir

    road = read_scene_folder(models_dir() / "road")
    fitted = fit(street(60), TREE, pictures=road.stream, say=lambda _: None)
    write_model(tmp_path / "m", fitted, TREE, name="m", card="", pictures=road)
    codec = Codec.load(tmp_path / "m", "cpu", threads=1)
    assert codec.block_names[-1] == "picture_2"
    image = np.tile(np.linspace(20, 230, 640).astype(np.uint8)[None, :, None], (480, 1, 3))
    detected = codec.detected(PICTURE_SIZE, np.array([[10, 20, 110, 220]], np.float32), ["dog"], [0.9])
    decoder = codec.decoder(PICTURE_SIZE)
    for block in codec.encode(image, detected=detected):
        decoder.push(block)
    painted = decoder.picture(0)
    assert painted is not None
    assert np.abs(painted.astype(int) - image).mean() < 20


def test_nothing_found_is_told_and_a_changed_folder_refused(folder: Path, tmp_path: Path) -> None:
    empty = [item._replace(found=Found.none(4)) for item in street(5)]
    with pytest.raises(DetectorError, match="no object in any of 5 pictures"):
        fit(empty, TREE, say=lambda _: None)
    with pytest.raises(DetectorError, match="appearance: 8 channels of a tensor that has 5"):
        fit(street(60, features=5), TREE, appearance=8, say=lambda _: None)
    faint = [item._replace(found=replace(item.found, scores=item.found.scores / 100)) for item in street(30)]
    with pytest.raises(DetectorError, match=r"no object of 0\.05 or more in any of 30 pictures, the best has 0\.0"):
        fit(faint, TREE, say=lambda _: None)


# --- the command


def adopt_files(tmp_path: Path, score: float = 0.8, classes: int = 4) -> tuple[Path, Path, Path]:
    """A detector that finds one car, its score depending on the picture's brightness, pictures, and names."""
    rows = np.zeros((1, grid_rows(), 5 + classes))
    rows[0, :, 4] = -1.0
    rows[0, 40] = [0.3, 0.2, 1.2, 1.0, 0.9, *([0.0] * classes)]
    rows[0, 40, 5 + 2] = score
    rows[0, 66] = [0.1, 0.4, 0.9, 1.3, 0.5, *([0.0] * classes)]
    rows[0, 66, 5] = score
    detector = write_detector(tmp_path / "d.onnx", {"output": rows}, wobble=0.001)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(14):
        picture = np.full((SIZE[1] * 2, SIZE[0] * 2, 3), 10 + 6 * number, np.uint8)
        cv2.imwrite(str(pictures / f"{number}.png"), picture)
    names = tmp_path / "names.txt"
    names.write_text("\n".join(LEAVES[:classes]) + "\n")
    return detector, pictures, names


def adopt(tmp_path: Path, *words: object, detector: Path, pictures: Path, names: Path) -> int:
    fixed = ["--images", pictures, "--names", names, "--out", tmp_path / "mine", "--threads", 1, "--start", "none"]
    return main(["adopt", str(detector), *map(str, [*fixed, *words])])


def test_the_command_writes_a_model_that_encodes_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector, pictures, names = adopt_files(tmp_path)
    assert adopt(tmp_path, detector=detector, pictures=pictures, names=names) == 0
    assert "layout yolox, 96x64" in capsys.readouterr().out
    codec = Codec.load(tmp_path / "mine", "cpu", threads=1)
    assert codec.taxonomy.path_names(2) == ("thing", "vehicle", "passenger car", "car")
    picture = cv2.imread(str(pictures / "5.png"))
    decoder = codec.decoder((picture.shape[1], picture.shape[0]))
    for block in codec.encode(picture):
        reading = decoder.push(block)
    assert sorted(item.names[-1] for item in reading.detections) == ["car", "person"]
    other = detector.rename(tmp_path / "moved.onnx")
    with pytest.raises(ValueError, match="no such file"):
        Codec.load(tmp_path / "mine", "cpu", threads=1).encode(picture)
    again = Codec.load(tmp_path / "mine", "cpu", threads=1, detector=other)
    assert [block.data for block in again.encode(picture)] == [block.data for block in codec.encode(picture)]
    (tmp_path / "mine" / "detector.json").write_text("{}")
    with pytest.raises(ModelError):
        Codec.load(tmp_path / "mine", "cpu")


def test_an_embedded_detector_moves_with_its_folder(tmp_path: Path) -> None:
    detector, pictures, names = adopt_files(tmp_path)
    assert adopt(tmp_path, "--embed", detector=detector, pictures=pictures, names=names) == 0
    detector.unlink()
    moved = (tmp_path / "mine").rename(tmp_path / "moved")
    assert Codec.load(moved, "cpu", threads=1).encode(cv2.imread(str(pictures / "3.png")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("truncated", "no readable ONNX file"),
        ("count", "names: 3 given, but output `output`"),
        ("alike", "are alike"),
        ("nan", "no finite numbers"),
        ("nothing", "no object in any of 14 pictures"),
        ("lacking", "'zebra' (index 3) is no leaf of the tree"),
        ("layout", "layout ultralytics wants one output 1,4+C,N"),
        ("unknown", "is in none of the shipped lists"),
        ("there", "is there already"),
        ("images", "no such folder or file"),
        ("size", "WIDTHxHEIGHT"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, said: str
) -> None:
    detector, pictures, names = adopt_files(tmp_path)
    words: Sequence[object] = ()
    if change == "truncated":
        detector.write_bytes(detector.read_bytes()[:500])
    elif change == "count":
        names.write_text("person\nbicycle\ncar\n")
    elif change == "alike":
        names.write_text("person\nbicycle\nPerson\ndog\n")
    elif change == "nan":
        rows = np.full((1, grid_rows(), 9), np.nan)
        write_detector(detector, {"output": rows})
    elif change == "nothing":
        write_detector(detector, {"output": np.zeros((1, grid_rows(), 9))})
    elif change == "lacking":
        names.write_text("person\nbicycle\ncar\nzebra\n")
        TREE.save(tmp_path / "tree.yaml")
        words = ("--tree", tmp_path / "tree.yaml")
    elif change == "layout":
        words = ("--layout", "ultralytics")
    elif change == "unknown":
        names.write_text("person\nbicycle\ncar\nxqzzy\n")
    elif change == "there":
        (tmp_path / "mine").mkdir()
    elif change == "images":
        pictures = tmp_path / "nowhere"
    elif change == "size":
        words = ("--size", "wide")
    status = adopt(tmp_path, *words, detector=detector, pictures=pictures, names=names)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("semhier")]
    assert status == 2
    assert len(lines) == 1
    assert said in lines[0]
    assert not list(tmp_path.glob("mine*/*"))


def test_force_replaces_a_model_folder_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector, pictures, names = adopt_files(tmp_path)
    own = {"detector": detector, "pictures": pictures, "names": names}
    out = tmp_path / "mine"

    def complaint(*words: object, **changed: Path) -> str:
        assert adopt(tmp_path, "--force", *words, **(own | changed)) == 2
        return capsys.readouterr().err

    (out / "road").mkdir(parents=True)
    assert "--force replaces a model folder and nothing else" in complaint()
    assert (out / "road").is_dir()
    (out / "road").rmdir()
    out.rmdir()
    out.write_text("a file")
    assert "--force replaces a model folder and nothing else" in complaint()
    out.unlink()
    assert adopt(tmp_path, "--embed", **own) == 0
    inside = out / "detector.onnx"
    assert f"{inside} lies in it, and would go" in complaint(detector=inside)
    assert inside.is_file()
    assert adopt(tmp_path, "--force", "--embed", **(own | {"detector": inside})) == 0
    assert inside.read_bytes() == detector.read_bytes()


@pytest.mark.parametrize("name", ["my model", "modèle", "yolox_s_736x416_front_camera_2026"])
def test_a_name_that_no_stream_can_carry_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    detector, pictures, names = adopt_files(tmp_path)
    words = ["--images", pictures, "--names", names, "--out", tmp_path / name, "--start", "none"]
    assert main(["adopt", str(detector), *map(str, words)]) == 2
    assert "expected 1 to 32 characters" in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_adopting_and_encoding_load_no_torch(tmp_path: Path) -> None:
    detector, pictures, names = adopt_files(tmp_path)
    words = ["adopt", detector, "--images", pictures, "--names", names, "--out", tmp_path / "mine", "--start", "none"]
    program = (
        "import sys; sys.modules['torch'] = None; from semhier_ros.cli import main;"
        f"assert main({[str(word) for word in words]!r}) == 0;"
        "import numpy; from semhier_ros import Codec;"
        f"Codec.load({str(tmp_path / 'mine')!r}, 'cpu').encode(numpy.full((128, 192, 3), 40, numpy.uint8))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_shipped_coco_model_takes_any_detector_of_its_classes(tmp_path: Path) -> None:
    rows = np.zeros((1, grid_rows(), 85))
    rows[0, 40] = [0.3, 0.2, 1.2, 1.0, 0.9, *([0.0] * 80)]
    rows[0, 40, 5 + COCO80.index("dog")] = 0.9
    path = write_detector(tmp_path / "d.onnx", {"output": rows})
    codec = Codec.load("coco80", "cpu", threads=1, detector=path)
    picture = np.zeros((128, 192, 3), np.uint8)
    decoder = codec.decoder((192, 128))
    for block in codec.encode(picture):
        reading = decoder.push(block)
    assert [item.names for item in reading.detections] == [("thing", "animal", "small animal", "dog")]
    with pytest.raises(ValueError, match="takes no other"):
        Codec.load("road", "cpu", detector=path)
    with pytest.raises(ValueError, match="layout ultralytics wants"):
        Codec.load("coco80", "cpu", detector=path, detector_layout="ultralytics")


def test_classes_of_score_reach_the_scores_that_are_sent_however_many_lower_ones_there_are() -> None:
    random = np.random.default_rng(0)
    noisy = []
    for item in street(60):
        boxes = random.uniform(0, 400, (60, 4)).astype(np.float32)
        boxes[:, 2:] = boxes[:, :2] + 30
        scores = np.zeros((60, 4), np.float32)
        scores[:, 2] = random.uniform(0.05, 0.12, 60)
        found = item.found
        noisy.append(
            item._replace(
                found=Found(
                    np.concatenate([found.boxes, boxes]),
                    np.concatenate([found.scores, scores]),
                    np.zeros((len(found) + 60, 0), np.float32),
                )
            )
        )
    fitted = fit(noisy, TREE, frame_bytes=16, say=lambda _: None)
    assert fitted.threshold > 0.1
    assert fitted.stream.layout.score_edges[-1] > 0.6
