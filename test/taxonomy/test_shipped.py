"""The shipped trees and their bars; rebuilding them where the shared data lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from semhier_ros.paths import config_dir
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.training.trees.cli import data_folder
from semhier_ros.training.trees.recipe import build_recipe
from semhier_ros.training.trees.report import SHIPPED, Sources, report, stranger_bar, structure_bars

DATA = data_folder(None)
needs_data = pytest.mark.skipif(DATA is None, reason="no shared data: set SEMHIER_DATA or lay it at ../shared/data")


def test_structure_and_the_strangers_test_meet_their_bars() -> None:
    sources = Sources(config_dir(), None, None)
    missed = [bar for bar in [*structure_bars(sources), stranger_bar(sources)] if not bar.met]
    assert not missed


def test_without_data_the_report_says_so_in_a_line() -> None:
    text, met = report(Sources(config_dir(), None, None))
    assert met
    assert "no shared data folder" in text


def test_halves_are_odd_and_even_file_numbers() -> None:
    for half, remainder in (("choose", 1), ("report", 0)):
        files = (config_dir() / "splits" / "imagenet-validation" / f"{half}.txt").read_text("utf-8").split()
        assert len(files) == 500
        assert all(int(Path(file).stem) % 2 == remainder for file in files)


@needs_data
@pytest.mark.parametrize("name", SHIPPED)
def test_recipes_rebuild_the_shipped_trees(name: str) -> None:
    built = build_recipe(config_dir() / "taxonomies" / "recipes" / f"{name}.yaml", DATA)
    assert built == Taxonomy.load(config_dir() / "taxonomies" / f"{name}.yaml")


@needs_data
def test_the_bars_hold_on_the_shared_data() -> None:
    text, met = report(Sources(config_dir(), DATA, None))
    assert met, text
