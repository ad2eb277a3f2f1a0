"""Figures on their way into the documentation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semhier_ros.lab import results
from semhier_ros.lab.options import finish
from semhier_ros.lab.results import add, fill, keep, provenance, read, write
from semhier_ros.lab.studies.tables import ResultsError, Table

TABLE = Table("main", "What arrives", ("link", "share", "bytes"), [["64kbit", 0.98765, 1234], ["16kbit", None, 7]])


@pytest.fixture
def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results, "installed_hashes", lambda: {"road": "abc"})
    source = {**provenance(), "command": "semhier measure link --json 'a b.json'"}
    keep(tmp_path / "figures" / "link.json", "link", source, {"raw": [1, 2]}, [TABLE], {"road": "abc"})
    return tmp_path / "figures"


def test_a_record_says_where_its_figures_come_from(figures: Path) -> None:
    written = json.loads((figures / "link.json").read_text())
    assert written["command"] == "semhier measure link --json 'a b.json'"
    assert written["models"] == {"road": {"model_hash": "abc"}}
    assert written["processor"]
    page = read(figures / "link.json", {"road": "abc"}).page()
    assert "model road abc." in page
    assert "| 64kbit | 0.9877 | 1,234 |\n| 16kbit | – | 7 |\n" in page


def test_marked_places_are_filled_and_the_same_again_changes_nothing(figures: Path, tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text("before\n<!-- table link.main -->\nold\n<!-- end of table -->\nafter\n")
    changed = write(figures, tmp_path / "out", [document])
    assert changed == [tmp_path / "out" / "link.md", document]
    text = document.read_text()
    assert "old" not in text
    assert text.startswith("before\n<!-- table link.main -->\n| link |")
    assert text.endswith("| 16kbit | – | 7 |\n<!-- end of table -->\nafter\n")
    assert write(figures, tmp_path / "out", [document], check=True) == []


def test_figures_of_another_model_are_not_shown(figures: Path) -> None:
    old = read(figures / "link.json", {"road": "other"})
    assert old.stale == ("road",)
    assert "64kbit" not in old.page()
    place = "<!-- table link.main -->\n| 64kbit |\n<!-- end of table -->"
    assert "64kbit" not in fill(place, {"link": old}, "README.md").replace("semhier measure", "")


def test_a_place_that_nothing_fills_is_an_error(figures: Path) -> None:
    known = {"link": read(figures / "link.json", {})}
    place = "<!-- table link.mian -->\n<!-- end of table -->"
    with pytest.raises(ResultsError, match=r"README\.md: no table 'link\.mian'; there are link\.main"):
        fill(place, known, "README.md")


def test_what_is_no_file_of_figures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text, words in (("{", "JSONDecodeError"), ("{}", "KeyError"), ('{"format": 9}', "format 9, 1 expected")):
        path.write_text(text)
        with pytest.raises(ResultsError, match=words):
            read(path, {})
    with pytest.raises(ResultsError, match="a row of 1 cells under 2 columns"):
        Table("x", "x", ("a", "b"), [["1"]])


def test_a_studys_result_is_taken_in_with_its_tables(figures: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"blocks_per_s": 31000.4, "datagrams_per_s": 9000}')
    add(f"scheduler={tmp_path / 's.json'}", "semhier measure scheduler", figures)
    page = read(figures / "scheduler.json", {}).page()
    assert "| 31,000 | 9,000 |" in page
    for text, command, words in (
        (f"nothing={tmp_path / 's.json'}", "c", "no study 'nothing'"),
        ("memory=x", "c", "no result of memory .FileNotFoundError"),
        (f"scheduler={tmp_path / 's.json'}", "", "the file does not say what measured it"),
        (f"memory={tmp_path / 's.json'}", "c", "no result of memory"),
    ):
        with pytest.raises(ResultsError, match=words):
            add(text, command, figures)


def test_a_results_own_model_is_named_and_not_the_installed_one(figures: Path, tmp_path: Path) -> None:
    detector = {"file": "d.onnx", "size": [64, 64], "ap50_by_class": {}, "ap50_by_size": {}}
    result = {"model": "road", "level": 1, "scenes": 1, "boxes": 1, "ignored_boxes": 0, "detector": detector}
    (tmp_path / "b.json").write_text(json.dumps(result))
    with pytest.raises(ResultsError, match="model_hash of 'road' is missing; measure it again"):
        add(f"beside={tmp_path / 'b.json'}", "semhier measure beside", figures)
    assert not (figures / "beside.json").exists()
    (tmp_path / "b.json").write_text(json.dumps(result | {"model_hash": "older"}))
    add(f"beside={tmp_path / 'b.json'}", "semhier measure beside", figures)
    assert json.loads((figures / "beside.json").read_text())["models"] == {"road": {"model_hash": "older"}}


def test_the_documents_hold_what_the_figures_say() -> None:
    root = Path(__file__).resolve().parents[2]
    documents = [
        root / "README.md",
        *sorted((root / "docs").glob("*.md")),
        *sorted((root / "models").glob("*/README.md")),
    ]
    differing = write(root / "docs" / "results" / "figures", root / "docs" / "results", documents, check=True)
    assert not differing, "run `semhier results`"


def test_a_result_itself_says_what_measured_it(figures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["semhier", "measure", "scheduler", "--json", "s.json"])
    finish({"blocks_per_s": 31000.4, "datagrams_per_s": 9000}, tmp_path / "s.json")
    add(f"scheduler={tmp_path / 's.json'}", "", figures)
    page = read(figures / "scheduler.json", {}).page()
    assert "    semhier measure scheduler --json s.json\n" in page
    add(f"scheduler={tmp_path / 's.json'}", "semhier measure scheduler", figures)
    assert "    semhier measure scheduler\n" in read(figures / "scheduler.json", {}).page()
    add(f"scheduler-again={tmp_path / 's.json'}", "", figures)  # a result of a name of its own has its own page
    assert read(figures / "scheduler-again.json", {}).study == "scheduler-again"
    add(f"link={figures / 'link.json'}", "semhier measure link", tmp_path / "again")
    assert read(tmp_path / "again" / "link.json", {"road": "abc"}).tables["main"].head[0] == "link"
