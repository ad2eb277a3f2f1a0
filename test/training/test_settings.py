"""Settings of a stage: one table, the command line before the config file before the defaults."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest

from semhier_ros.paths import config_dir
from semhier_ros.training.errors import MissingFile, TrainingError
from semhier_ros.training.settings import Option, add_options, layered, read_config

STAGES = {
    "first": (
        Option("steps", int, 10, "of it", least=0),
        Option("lr", float, 1e-3, above=0),
        Option("crop", int, (64, 32), count=2, least=32),
        Option("start", Path, [], count=0),
        Option("bf16", bool, False),
        Option("device", str, "auto", choices=("auto", "cpu")),
    ),
    "model": (Option("steps", int, 20), Option("model", Path, Path("models/x")), Option("data", Path)),
}


def given(*words: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_options(parser, STAGES["first"])
    return vars(parser.parse_args(list(words)))


def test_the_command_line_comes_before_the_section_before_the_top_before_the_default() -> None:
    config = {"steps": 1, "lr": 0.5, "first": {"steps": 2, "bf16": True}}
    values = layered(STAGES, "first", config, given("--steps", "3"))
    assert (values.steps, values.lr, values.bf16, values.crop, values.device) == (3, 0.5, True, [64, 32], "auto")
    assert layered(STAGES, "first", config, given("--no-bf16")).bf16 is False
    assert layered(STAGES, "first", config, {}).steps == 2
    assert layered(STAGES, "model", config, {}).steps == 1


def test_what_is_not_on_the_command_line_is_not_in_its_namespace() -> None:
    assert given() == {}
    assert given("--start", "a", "b", "--crop", "96", "64") == {"start": [Path("a"), Path("b")], "crop": [96, 64]}


def test_a_stage_may_be_named_like_an_option() -> None:
    assert layered(STAGES, "model", {"model": "m"}, {}).model == Path("m")
    assert layered(STAGES, "model", {"model": {"model": "m", "steps": 5}}, {}).model == Path("m")


def test_a_number_may_be_written_as_yaml_takes_for_a_word(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("first: {lr: 1e-4, steps: 7.0}\n")
    values = layered(STAGES, "first", read_config(tmp_path / "c.yaml"), {})
    assert (values.lr, values.steps) == (1e-4, 7)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"stepz": 1}, "config: 'stepz' is none of bf16, "),
        ({"first": {"model": "x"}}, "config: first.model is none of bf16"),
        ({"first": 3}, "config: first: 3: a mapping from setting to value wanted"),
        ({"steps": -1}, "config: steps: -1: a whole number of at least 0 wanted"),
        ({"first": {"steps": 1.5}}, "config: first.steps: 1.5: a whole number of at least 0 wanted"),
        ({"steps": True}, "config: steps: True: a whole number"),
        ({"steps": [1]}, "config: steps: [1]: a whole number"),
        ({"lr": 0}, "config: lr: 0: a number above 0 wanted"),
        ({"lr": float("nan")}, "config: lr: nan: a number above 0 wanted"),
        ({"bf16": "no"}, "config: bf16: 'no': true or false wanted"),
        ({"crop": [64]}, "config: crop: [64]: a list of 2 wanted, each a whole number of at least 32"),
        ({"crop": [64, 16]}, "config: crop: 16: a whole number of at least 32 wanted"),
        ({"device": "tpu"}, "config: device: 'tpu': one of auto, cpu wanted"),
        ({"steps": None}, "config: steps: nothing given; a whole number of at least 0 wanted"),
    ],
)
def test_settings_that_are_refused_are_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(words)):
        layered(STAGES, "first", config, {})


def test_ranges_hold_on_the_command_line_too() -> None:
    with pytest.raises(TrainingError, match=r"^--lr: -1\.0: a number above 0 wanted"):
        layered(STAGES, "first", {}, given("--lr", "-1"))


def test_a_shipped_file_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    option = Option("taxonomy", Path, Path("config/taxonomies/road21.yaml"))
    assert option.read(option.default, "taxonomy") == config_dir() / "taxonomies" / "road21.yaml"
    assert option.read("config/none.yaml", "taxonomy") == Path("config/none.yaml")
    own = tmp_path / "config" / "taxonomies" / "road21.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("own")
    assert option.read(option.default, "taxonomy").resolve() == own


@pytest.mark.parametrize(
    ("text", "words"), [("[1]", "a mapping from setting"), ("a: [", "is not YAML"), ("a: \x00", "is not YAML")]
)
def test_a_config_that_is_none_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(TrainingError, match=words) as caught:
        read_config(tmp_path / "c.yaml")
    assert "\n" not in str(caught.value)
    with pytest.raises(MissingFile, match=r"none\.yaml cannot be read"):
        read_config(tmp_path / "none.yaml")
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert read_config(tmp_path / "c.yaml") == {}
