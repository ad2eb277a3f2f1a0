"""Model folders: one reader and one writer, and three copies of the tree that have to agree."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semhier_ros import Codec
from semhier_ros.codec.entropy import Tables
from semhier_ros.codec.model_folder import ModelError, read_folder, write_card, write_stream_parts
from semhier_ros.scene.backend import GRAPHS
from semhier_ros.scene.folder import read_scene_folder, write_scene_card, write_scene_stream


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
    write_card(folder, card["kind"], card["name"], card["layout"], {}, GRAPHS)


@pytest.mark.parametrize("name", ["stream.safetensors", "heads.safetensors"])
def test_a_damaged_file_is_named_before_it_is_used(codec: Codec, tmp_path: Path, name: str) -> None:
    folder = copied(codec, tmp_path / "road")
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(ModelError, match="a file was changed"):
        read_folder(folder, GRAPHS)


@pytest.mark.parametrize("change", [{"layout": []}, {"canvas": []}, {"canvas": 7}, {"threshold": None}])
def test_a_card_of_another_form_is_one_error_of_the_folder(
    codec: Codec, tmp_path: Path, change: dict[str, Any]
) -> None:
    folder = copied(codec, tmp_path / "road")
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | change))
    with pytest.raises(ModelError, match=r"model\.json|road"):
        read_scene_folder(folder)


def test_a_folder_that_cannot_be_read_is_told_by_the_file(codec: Codec, tmp_path: Path) -> None:
    folder = copied(codec, tmp_path / "road")
    (folder / "taxonomy.yaml").unlink()
    (folder / "taxonomy.yaml").mkdir()
    with pytest.raises(ModelError, match=r"taxonomy.yaml: Is a directory"):
        read_scene_folder(folder)


def _with_table(folder: Path, name: str, table: Tables | None) -> None:
    """Replaces a table (None: removes it) and makes the hashes fit."""
    found = read_folder(folder, GRAPHS)
    tables = {key: value for key, value in found.stream.tables.items() if key != name}
    if table is not None:
        tables[name] = table
    write_stream_parts(folder, replace(found.stream, tables=tables))
    write_card(folder, found.kind, found.name, found.layout, found.settings, GRAPHS)


@pytest.mark.parametrize(
    ("rows", "symbols", "says"),
    [
        (168, 6, "table name_2 has 168 rows of 6 symbols, taxonomy.yaml asks for rows of 7 for each of 4 parents"),
        (167, 7, "table name_2 has 167 rows of 7 symbols"),
        (0, 0, "no table name_2, but level 2 has 21 nodes"),
    ],
)
def test_tables_that_cannot_name_the_trees_nodes_are_refused(
    codec: Codec, tmp_path: Path, rows: int, symbols: int, says: str
) -> None:
    folder = copied(codec, tmp_path / "road")
    _with_table(folder, "name_2", Tables.from_counts(np.ones((rows, symbols))) if rows else None)
    with pytest.raises(ModelError, match=f"stream.safetensors: {says}"):
        Codec.load(folder, "cpu")


@pytest.mark.parametrize(("name", "symbols"), [("latents", 126), ("picture", 254)])
def test_tables_without_a_middle_are_refused(codec: Codec, tmp_path: Path, name: str, symbols: int) -> None:
    folder = copied(codec, tmp_path / "road")
    found = read_folder(folder, GRAPHS)
    found.stream.tables[name] = Tables.from_counts(np.ones((found.stream.tables[name].rows, symbols)))
    write_stream_parts(folder, found.stream)
    _write(folder, json.loads((folder / "model.json").read_text()))
    with pytest.raises(ModelError, match=f"road: table {name}: {symbols} symbols, expected an odd number of 3 or more"):
        read_scene_folder(folder)


def test_a_tree_of_several_roots_needs_a_table_that_says_which(codec: Codec, tmp_path: Path) -> None:
    folder = copied(codec, tmp_path / "road")
    leaves = read_scene_folder(folder).taxonomy.names(2)
    halves = {"a": list(leaves[:11]), "b": list(leaves[11:])}
    text = f"format: 1\nname: two\nlevels: [half, type]\nleaves: {list(leaves)}\ntree:\n"
    (folder / "taxonomy.yaml").write_text(text + "".join(f"  {name}: {own}\n" for name, own in halves.items()))
    found = json.loads((folder / "model.json").read_text())
    found["layout"]["parents"] = [[0] * 11 + [1] * 10]
    _write(folder, found)
    with pytest.raises(ModelError, match="no table name_0, but level 0 has 2 nodes"):
        Codec.load(folder, "cpu")
