"""What `from semhier_ros import …` gives, and the checks of a model folder's tree."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import semhier_ros
from semhier_ros import Block, Codec, EncodeOptions
from semhier_ros.codec.model_folder import ModelError, read_folder
from semhier_ros.scene.backend import GRAPHS
from semhier_ros.scene.folder import read_scene_folder, write_scene_card, write_scene_stream


def test_every_public_name_is_there() -> None:
    for name in semhier_ros.__all__:
        assert getattr(semhier_ros, name) is not None
    assert (Path(semhier_ros.__file__).parent / "py.typed").is_file()


def test_options_and_single_fields_ask_for_the_same(codec: Codec) -> None:
    image = np.full((90, 160, 3), 90, np.uint8)
    options = EncodeOptions(blocks=2, max_bytes=60)
    whole = codec.encode(image, options, frame=3)
    assert whole == codec.encode(image, blocks=2, max_bytes=60, frame=3)
    assert codec.encode(image, options, blocks=1, frame=3) == whole[:1]
    assert all(isinstance(block, Block) for block in whole)
    with pytest.raises(TypeError, match="colour"):
        codec.encode(image, colour=3)  # type: ignore[call-arg]


def copied(codec: Any, to: Path) -> Path:
    return Path(shutil.copytree(codec.model.path, to))


def test_a_folder_written_again_has_the_same_hashes(codec: Codec, tmp_path: Path) -> None:
    folder = copied(codec, tmp_path / "road")
    before = read_scene_folder(folder)
    write_scene_stream(folder, before.stream)
    write_scene_card(folder, before.name, before.canvas, before.threshold, before.stream.layout)
    after = read_scene_folder(folder)
    assert (after.stream_hash, after.model_hash) == (before.stream_hash, before.model_hash)


def test_a_tree_that_is_not_the_streams_is_refused(codec: Codec, tmp_path: Path) -> None:
    folder = copied(codec, tmp_path / "road")
    text = (folder / "taxonomy.yaml").read_text()
    found = read_scene_folder(folder)
    flat = f"format: 1\nname: flat\nlevels: [any, type]\nleaves: {list(found.taxonomy.names(2))}\n"
    flat += f"tree:\n  vehicle: {list(found.taxonomy.names(2))}\n"
    (folder / "taxonomy.yaml").write_text(flat)
    with pytest.raises(ModelError, match=r"taxonomy\.yaml has 2 levels, the layout of model\.json has 3"):
        write_scene_card(folder, found.name, found.canvas, found.threshold, found.stream.layout)
    (folder / "taxonomy.yaml").write_text(text)
    parents = [list(level) for level in found.stream.layout.parents]
    parents[1][0], parents[1][1] = parents[1][1] + 1, parents[1][0]
    card = json.loads((folder / "model.json").read_text())
    with pytest.raises(ModelError, match=r"level 2 of taxonomy\.yaml has 21 nodes below other parents"):
        _write(folder, card | {"layout": card["layout"] | {"parents": parents}})


def _write(folder: Path, card: dict[str, Any]) -> None:
    from semhier_ros.codec.model_folder import write_card

    write_card(folder, card["kind"], card["name"], card["layout"], {}, GRAPHS)


@pytest.mark.parametrize("name", ["stream.safetensors", "heads.safetensors"])
def test_a_damaged_file_is_named_before_it_is_used(codec: Codec, tmp_path: Path, name: str) -> None:
    folder = copied(codec, tmp_path / "road")
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(ModelError, match="a file was changed"):
        read_folder(folder, GRAPHS)
