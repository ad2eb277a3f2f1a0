"""Model folders are found by name and by path, and what is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from semhier_ros import paths


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two installed models, and a working directory with a folder of the same name as one of them."""
    folder = tmp_path / "models"
    for name in ("road", "harbour", ".hidden"):
        (folder / name).mkdir(parents=True)
    (folder / "README.md").write_text("no model")
    monkeypatch.setattr(paths, "models_dir", lambda: folder)
    (tmp_path / "work" / "road").mkdir(parents=True)
    (tmp_path / "work" / "own").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


def test_the_names_are_the_folders(models: Path) -> None:
    assert paths.model_names() == ["harbour", "road"]


def test_a_name_goes_before_a_folder_of_the_working_directory(models: Path) -> None:
    assert paths.find_model("road") == models / "road"
    assert paths.find_model("./road").resolve() == (Path.cwd() / "road").resolve()


@pytest.mark.parametrize("given", ["own", Path("own"), Path("road")])
def test_a_path_is_a_path(models: Path, given: str | Path) -> None:
    assert paths.find_model(given).resolve() == (Path.cwd() / given).resolve()


@pytest.mark.parametrize("given", ["sea", "", "../nowhere", "README.md"])
def test_what_is_missing_is_named_with_what_there_is(models: Path, given: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"harbour, road"):
        paths.find_model(given)


def test_an_overlay_reads_its_own_share_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "overlay" / "lib" / "python3.12" / "site-packages" / "semhier_ros"
    package.mkdir(parents=True)
    share = tmp_path / "overlay" / "share" / "semhier_ros" / "config"
    share.mkdir(parents=True)
    monkeypatch.setattr(paths, "__file__", str(package / "paths.py"))
    assert paths.config_dir() == share


def test_a_missing_folder_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "semhier_ros" / "paths.py"))
    with pytest.raises(FileNotFoundError, match=r"no models/ folder in any of: .*semhier_ros/models"):
        paths.models_dir()
