"""The study of stored pictures: what it prints is of the run that it names."""

from __future__ import annotations

import json

import pytest

from semhier_ros.cli import main

pytest.importorskip("serial", reason="pyserial is not installed: requirements/radio.txt")


@pytest.mark.parametrize(("link", "low", "high"), [("serial9600,loss0%", 1.0, 1.1), ("acoustic,loss10%", 1.1, 1.6)])
def test_a_picture_takes_little_more_than_its_airtime(link, low, high, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert main(["measure", "stored", "--link", link, "--runs", "5", "--bytes", "900", "--json", str(out)]) == 0
    told = json.loads(out.read_text(encoding="utf-8"))
    assert told["picture_bytes"] == 900
    assert told["runs"] == 5
    assert low <= told["median_of_airtime"] <= high


def test_the_same_in_two_processes(tmp_path):
    out = tmp_path / "out.json"
    command = ["measure", "stored", "--runs", "1", "--real", "1", "--link", "serial57600,loss10%", "--json", str(out)]
    assert main(command) == 0
    assert json.loads(out.read_text(encoding="utf-8"))["real_of_airtime"][0] > 0.9


def test_a_radio_that_is_not_known_is_one_clear_line(capsys):
    assert main(["measure", "stored", "--link", "telepathy"]) == 2
    assert "--link: radio: 'telepathy', expected one of" in capsys.readouterr().err
