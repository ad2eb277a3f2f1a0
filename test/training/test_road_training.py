"""`semhier train road` on somebody's own data: settings, data.yaml, and a tiny model from beginning to end."""

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
from semhier_ros.training.cli import settings_of

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


def test_own_data_becomes_a_model_that_encodes_and_decodes(own_data, capsys):
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
