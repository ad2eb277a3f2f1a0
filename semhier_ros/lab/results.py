"""Makes the documentation's tables from measured figures: `semhier results`.

Every study writes what it measured with `--json FILE`. `semhier results --add STUDY=FILE` takes such a file in, with
the tables made of it and where it comes from: command, date, commit, processor, hash of the model. Then the folder of
what was taken in becomes pages, one a study, and the marked places of other documents are filled:

    <!-- table link.coarse -->
    <!-- end of table -->

A file whose model is not the installed one any more gives no table: its page says which command measures it anew.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from semhier_ros import options as shared
from semhier_ros.command import for_the_user
from semhier_ros.lab.studies.tables import TABLES, ResultsError, Table
from semhier_ros.paths import models_dir
from semhier_ros.whole_file import write_whole

FORMAT = 1
PLACE = re.compile(r"(<!-- table ([\w.-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def provenance() -> dict[str, Any]:
    """Command line, date, commit, processor, cores and Python of this very process, as `semhier results` shows them."""
    return {
        "command": shlex.join(["semhier", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "commit": commit(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def processor() -> str:
    """The processor's name and those of its instruction sets that matter to our networks' speed."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    flags = set(re.findall(r"avx2|avx512f|avx512_bf16|amx_bf16|asimd", text))
    return " ".join([name.group(1).strip() if name else platform.machine(), *(f"+{flag}" for flag in sorted(flags))])


def commit() -> str:
    """The commit of this checkout, with a `+` where files differ from it; empty outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return ""

    name = git("rev-parse", "--short=10", "HEAD")
    return name + ("+" if name and git("status", "--porcelain", "--untracked-files=no") else "")


def publish(
    path: Path | None, study: str, figures: Mapping[str, Any], tables: Sequence[Table], models: Sequence[Any]
) -> int:
    """Prints the tables of a study, and writes them and its figures to `path`, if there is one, with the present
    command line; `models` are the codecs measured. Returns 0. Raises OSError when the file cannot be written."""
    if path is not None:
        keep(path, study, provenance(), figures, tables, {one.name: one.model_hash for one in models})
    print(*(table.markdown() for table in tables), sep="\n\n")
    return 0


def keep(
    path: Path, study: str, source: Mapping[str, Any], figures: Any, tables: Sequence[Table], models: Mapping[str, str]
) -> None:
    """Writes figures and tables of `study` to `path`, with where they come from.

    source: as `provenance` gives it. models: the model hash of each model that was measured, by name. Raises OSError
    when the file cannot be written.
    """
    whole = {
        "format": FORMAT,
        "study": study,
        **source,
        "models": {name: {"model_hash": value} for name, value in models.items()},
        "tables": [asdict(table) for table in tables],
        "figures": figures,
    }
    write_json(path, whole)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes figures as JSON, keys as they stand, the same bytes for the same figures. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Result:
    """A file of figures, read. `stale`: the models in it that are not the installed ones any more."""

    study: str
    source: dict[str, Any]
    tables: dict[str, Table]
    stale: tuple[str, ...]

    def stamp(self) -> str:
        """Where the figures come from, in a line."""
        models = ", ".join(f"{name} {each['model_hash']}" for name, each in self.source["models"].items())
        parts = [self.source["date"], f"commit {self.source['commit'] or 'unknown'}"]
        parts += [f"{self.source['processor']}, {self.source['cores']} cores", f"Python {self.source['python']}"]
        return "; ".join([*parts, f"model {models}"] if models else parts) + "."

    def page(self) -> str:
        """The study's page."""
        lines = [f"# Results: {self.study}", "", "Written by `semhier results`; do not edit.", ""]
        lines += [f"    {self.source['command']}", ""]
        if self.stale:
            lines += [f"These figures are of another {' and '.join(self.stale)}: run the command above again.", ""]
            return "\n".join(lines)
        lines += [self.stamp(), ""]
        for table in (each for each in self.tables.values() if each.whole):
            lines += [f"## {table.title}", "", table.markdown()]
        return "\n".join(lines)


def installed_hashes() -> dict[str, str]:
    """The model hash of every installed model."""
    found = {}
    for file in models_dir().glob("*/model.json"):
        found[file.parent.name] = str(json.loads(file.read_text(encoding="utf-8")).get("model_hash", ""))
    return found


def read(path: Path, installed: Mapping[str, str]) -> Result:
    """A file that `keep` wrote. Raises ResultsError when it is none."""
    try:
        source = json.loads(path.read_text(encoding="utf-8"))
        if source["format"] != FORMAT:
            raise ResultsError(f"{path}: format {source['format']}, {FORMAT} expected")
        tables = {each["name"]: Table(**each) for each in source["tables"]}
        stale = tuple(name for name, each in source["models"].items() if installed.get(name) != each["model_hash"])
        return Result(str(source["study"]), source, tables, stale)
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ResultsError(f"{path}: not a file of figures ({type(error).__name__}: {error})") from error


def fill(text: str, results: Mapping[str, Result], where: str) -> str:
    """`text` with its marked places filled. Raises ResultsError, naming `where`, for a place that nothing fills."""

    def made(found: re.Match[str]) -> str:
        study, _, name = found[2].partition(".")
        result = results.get(study)
        if result is None or name not in result.tables:
            known = sorted(f"{one.study}.{table}" for one in results.values() for table in one.tables)
            raise ResultsError(f"{where}: no table {found[2]!r}; there are {', '.join(known) or 'none'}")
        if result.stale:
            return f"{found[1]}Not measured with today's model: `{result.source['command']}`.\n{found[3]}"
        return f"{found[1]}{result.tables[name].markdown()}{found[3]}"

    return PLACE.sub(made, text)


def write(folder: Path, out: Path, documents: Sequence[Path], check: bool = False) -> list[Path]:
    """Writes a page a study to `out` and fills the marked places of `documents`; the files that changed, or that would
    with `check`. Raises ResultsError."""
    installed = installed_hashes()
    results = {one.study: one for one in (read(path, installed) for path in sorted(folder.glob("*.json")))}
    wanted = {out / f"{name}.md": result.page() for name, result in results.items()}
    wanted |= {path: fill(path.read_text(encoding="utf-8"), results, str(path)) for path in documents}
    changed = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if not check:
        out.mkdir(parents=True, exist_ok=True)
        for path in changed:
            write_whole(path, wanted[path])
    return changed


def add(text: str, command: str, folder: Path) -> None:
    """Takes a study's result into `folder`. text: `STUDY=FILE`. command: shown in place of the one that the file holds.

    Raises ResultsError.
    """
    name, _, file = text.partition("=")
    study = name.partition("-")[0]  # speed-road and speed-imagenet are two results of one study
    try:
        result = json.loads(Path(file).read_text(encoding="utf-8"))
        if isinstance(result, dict) and {"format", "study", "tables"} <= set(result):  # what `publish` wrote
            found = read(Path(file), installed_hashes())
            whole = {**found.source, "study": name, "command": command or found.source["command"]}
            write_json(folder / f"{name}.json", whole)
            return
        if study not in TABLES:
            raise ResultsError(f"--add {text}: no study {study!r}; one of {', '.join(TABLES)} expected")
        source = result.pop("measured", None) if isinstance(result, dict) else None
        if not source and not command:
            raise ResultsError(f"--add {text}: the file does not say what measured it; give --command")
        tables = TABLES[study](result)
    except (OSError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"--add {text}: no result of {study} ({type(error).__name__}: {error})") from error
    models = {}
    for row in result["rows"] if study == "replay" else [result]:
        if isinstance(row.get("model"), str):
            if not row.get("model_hash"):
                raise ResultsError(f"--add {text}: model_hash of {row['model']!r} is missing; measure it again")
            models[row["model"]] = str(row["model_hash"])
    source = source or provenance()
    keep(folder / f"{name}.json", name, {**source, "command": command or source["command"]}, result, tables, models)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.option(parser, "--figures", Path, Path("docs/results/figures"), "folder of the studies' JSON files", "DIR")
    shared.out(parser, "docs/results", "folder of the pages")
    parser.add_argument(
        "documents",
        type=Path,
        nargs="*",
        default=[Path("README.md"), *sorted(Path("docs").glob("*.md")), *sorted(Path("models").glob("*/README.md"))],
        metavar="DOCUMENT",
        help="documents whose marked places are filled (README.md, docs/*.md, models/*/README.md)",
    )
    parser.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="STUDY=FILE",
        help="take in what `semhier measure STUDY --json FILE` wrote, or a sweep's table.json as `replay`",
    )
    parser.add_argument("--command", dest="measured_by", default="", metavar="TEXT", help="say that this measured it")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where something would change")


def run(options: argparse.Namespace) -> int:
    """Writes pages and places, or with --check says which are not as they should be."""
    with for_the_user():
        for text in options.add:
            add(text, options.measured_by, options.figures)
        changed = write(options.figures, options.out, options.documents, options.check)
    for path in changed:
        print(f"{'differs' if options.check else 'written'}: {path}")
    return int(options.check and bool(changed))
