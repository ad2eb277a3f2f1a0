"""Where the files that are no Python lie: model folders and parameter files.

The same three answers for all ways to install, the first that exists wins:

1. a source tree: `models/` and `config/` beside the package (also through the links of `colcon build
   --symlink-install`);
2. `pip install .`: inside the package;
3. a ROS 2 installation: `<prefix>/share/semhier_ros/` of the prefix that this very package was imported from, so that
   an overlay never reads the models of the installation below it.
"""

from __future__ import annotations

from pathlib import Path

DEFAULT_MODEL = "street"
"""What nodes, launch files, demo and replay take where nothing else is said."""


def _candidates(folder: str) -> list[Path]:
    package = Path(__file__).resolve().parent
    installed = Path(__file__).absolute().parent
    candidates = [package / folder]
    if (package.parent / "package.xml").is_file():
        candidates.insert(0, package.parent / folder)
    candidates += [parent / "share" / "semhier_ros" / folder for parent in installed.parents[:5]]
    return candidates


def _find(folder: str) -> Path:
    candidates = _candidates(folder)
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"no {folder}/ folder in any of: {', '.join(map(str, candidates))}")


def models_dir() -> Path:
    """The folder that holds one folder per model. Raises FileNotFoundError, naming where it looked."""
    return _find("models")


def config_dir() -> Path:
    """The folder of the parameter files. Raises FileNotFoundError, naming where it looked."""
    return _find("config")


def model_names() -> list[str]:
    """The names of the models that are installed, sorted; empty where there is no models folder."""
    try:
        folder = models_dir()
    except FileNotFoundError:
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith((".", "_")))


def find_model(name_or_path: str | Path) -> Path:
    """The folder of a model.

    `name_or_path` is the name of an installed model ("road") or a path to a model folder. Whatever holds a separator or
    starts with `.` or `~` is a path; a plain word is a name first, and a folder of the working directory second.
    Raises FileNotFoundError, naming the models there are.
    """
    text = str(name_or_path)
    is_name = (
        isinstance(name_or_path, str) and text not in ("", ".", "..") and Path(text).name == text and text[0] != "~"
    )
    if is_name and text in model_names():
        return models_dir() / text
    path = Path(text).expanduser()
    if text and path.is_dir():
        return path
    known = ", ".join(model_names()) or "none"
    raise FileNotFoundError(f"no model {text!r}: it is neither a folder nor one of the installed models ({known})")
