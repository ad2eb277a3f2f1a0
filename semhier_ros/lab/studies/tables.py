"""The tables that the documentation shows of each study, made from the study's own result.

`TABLES` names a function for each study whose result is worth a page. Each takes the result as the study's `--json`
holds it, and gives tables in which every codec that was compared has its rows, `answer` among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]
Cell = str | float | int | None


class ResultsError(ValueError):
    """A file of figures, or a marked place, that cannot be used; the text says which and why."""


@dataclass(frozen=True)
class Table:
    """A table of a study. `name` is unique within its study; a cell of None shows as a dash. `note` stands below."""

    name: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise ResultsError(f"table {self.name}: a row of {len(row)} cells under {len(self.head)} columns")

    def markdown(self) -> str:
        """The table as Markdown, with its note."""
        lines = ["| " + " | ".join(self.head) + " |", "|" + "---|" * len(self.head)]
        lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n" + (f"\n{self.note}\n" if self.note else "")


def _cell(value: Cell) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value


def detection(result: Result) -> list[Table]:
    """Accuracy after each prefix, and what others need for as much."""
    levels = list(result["uncompressed"]["ap50"])
    rows: list[list[Cell]] = []
    first = _first_point(result["codecs"].get("semhier", ()))
    for row in first:
        rows.append([f"after {row['block']}", row["payload_bytes_mean"], *_scores(row, levels)])
    for row in _first_point(result["codecs"].get("answer", ())):
        rows.append([f"answer, {row['block']}", row["payload_bytes_mean"], *_scores(row, levels)])
    for name, points in result["codecs"].items():
        if name in ("semhier", "answer"):
            continue
        for row in points:
            if row["best_at"]:
                rows.append([_picture_setting(name, row), row["payload_bytes_mean"], *_scores(row, levels)])
    rows.append(["the detector, nothing coded", None, *_scores(result["uncompressed"], levels)])
    note = f"{result['scenes']} labelled scenes, {result['boxes']} boxes; COCO AP50; mean payload bytes a frame. "
    note += "Pictures are read by the very same detector."
    return [Table("prefixes", "Accuracy after each prefix, scenes", ("", "bytes", *levels), rows, note)]


def _first_point(rows: Sequence[Result]) -> list[Result]:
    """The rows of a codec's first operating point, which is the model's own; blocks that name nothing are left out."""
    if not rows:
        return []
    own = rows[0].get("operating_point")
    return [row for row in rows if row.get("operating_point") == own and not str(row["block"]).startswith("picture")]


def _scores(row: Result, levels: Sequence[str]) -> list[Cell]:
    return [_three(row["ap50"].get(level)) for level in levels]


def _three(value: float | None) -> Cell:
    return None if value is None else f"{value:.3f}"


def _picture_setting(name: str, row: Result) -> str:
    cut = f", cut at {row['cut']} B" if row.get("cut") else ""
    return f"{name}, {100 * row['scale']:g} % size, quality {row['quality']:g}{cut}"


def classification(result: Result) -> list[Table]:
    """Whole images: what each prefix says, and pictures at equal payload."""
    whole = result["uncompressed"]["accuracy"]
    levels = [name for name in whole if name.startswith("L")]
    rows: list[list[Cell]] = []
    for name in ("semhier", "answer", *(each for each in result["codecs"] if each not in ("semhier", "answer"))):
        for row in result["codecs"].get(name, ()):
            if "accuracy" not in row or row.get("picture"):
                continue
            where = f"prefix {row['prefix']}" if "prefix" in row else str(row.get("setting", ""))
            divergence = row.get("kl", {})
            rows.append(
                [
                    f"{name}, {where}".rstrip(", "),
                    f"{row['payload_bytes_mean']:.1f}",
                    *(_percent(row["accuracy"].get(level)) for level in levels),
                    *(_three(divergence.get(level)) for level in levels),
                ]
            )
    rows.append(["uncompressed", None, *(_percent(whole[level]) for level in levels), *([None] * len(levels))])
    head = ("", "bytes", *(f"right at {level}, %" for level in levels), *(f"KL at {level}, nats" for level in levels))
    tables = [Table("prefixes", "What each prefix says, whole images", head, rows)]
    sized: list[list[Cell]] = []
    measures: list[str] = []
    for name, points in result.get("at", {}).items():
        for row in points:
            values = {key: value for key, value in row["value"].items() if value is not None}
            measures = measures or list(row["value"])
            if values:
                sized.append([name, row["payload_bytes"], *(_measure(key, values.get(key)) for key in measures)])
    if sized:
        order = {row[1]: None for row in sized}
        ranked = [row for size in order for row in sized if row[1] == size]
        note = (
            "Pictures judged by a classifier that no training saw; each codec at the best of its scales and qualities."
        )
        tables.append(Table("sizes", "Pictures at equal payload", ("codec", "bytes", *measures), ranked, note))
    return tables


def _percent(value: float | None) -> Cell:
    return None if value is None else f"{100 * value:.1f}"


def _measure(name: str, value: float | None) -> Cell:
    if value is None:
        return None
    return f"{value:.1f} dB" if name == "psnr" else f"{100 * value:.1f} %"


def link(result: Result) -> list[Table]:
    """What arrives over thin links, `answer` and pictures beside."""
    rows: list[list[Cell]] = []
    for row in result["rows"]:
        late = row["coarse_ms"]
        rows.append(
            [
                row["link"],
                row["codec"],
                row["runs"],
                f"{100 * row['coarse_share']:.1f} %",
                " / ".join("–" if late[name] is None else f"{late[name]:.0f}" for name in ("p50", "p95", "max")),
                round(row["wire_bytes_per_s"]),
                _three(row["coarse_ap50"]),
            ]
        )
    head = ("link", "codec", "runs", "frames with a coarse reading", "stamp to coarse, p50 / p95 / max ms")
    note = (
        "Medians over the runs. Agreement: AP50 of what arrived with the detector's reading of the uncompressed frame."
    )
    columns = (*head, "bytes/s on the wire", "agreement")
    return [Table("coarse", "Over thin links, real processes", columns, rows, note)]


def replay(rows: Sequence[Result]) -> list[Table]:
    """The table of a sweep: streaming AP50 of every codec in every cell."""
    names = list(dict.fromkeys(name for row in rows for name in row["codecs"]))
    cells: list[list[Cell]] = []
    for row in rows:
        for level, ceiling in row["ceiling"].items():
            found = [_three(row["codecs"].get(name, {}).get("ap50", {}).get(level)) for name in names]
            cells.append([row["bag"], row["link"], level, *found, _three(ceiling), _margin(row["margin"].get(level))])
    head = ("footage", "link", "level", *names, "no link", "semhier's margin")
    note = "Streaming AP50: at every instant the newest reading is scored against the street as it is then. "
    note += "The margin, with its 95 % interval, is over the best of those that send more than the bare answer."
    return [Table("streaming", "What a planner had at every instant", head, cells, note)]


def _margin(found: Result | None) -> Cell:
    if not found or found["margin"] is None or found["ci95"] is None:
        return None
    low, high = found["ci95"]
    return f"{found['margin']:+.3f} ({low:+.3f} to {high:+.3f}) over {found['over']}"


def speed(result: Result) -> list[Table]:
    """Milliseconds on one core, beside JPEG and the network's own pass."""
    jpeg, network = result["ratio_to_jpeg"], result["ratio_to_network"]
    rows: list[list[Cell]] = [
        [name.replace("_", " "), f"{value:.2f}", jpeg.get(name), network.get(name)]
        for name, value in result["milliseconds"].items()
    ]
    head = ("", "ms", "times JPEG", "times the network's pass")
    note = f"One core, {result['size']}, networks in {result['precision']}, medians over {result['frames']} frames. "
    note += f"Ratios in pairs, to libjpeg-turbo at quality {result['jpeg_quality']} on the same frames."
    return [Table(result["model"], f"Speed of model {result['model']}", head, rows, note)]


def memory(result: Result) -> list[Table]:
    """Peak memory of each node."""
    rows = [[name, f"{value:.0f}"] for name, value in result["peak_memory_mb"].items()]
    return [Table("nodes", "Peak memory of the nodes while they work", ("node", "MB"), rows)]


def scheduler(result: Result) -> list[Table]:
    """What the link's scheduler handles."""
    rows: list[list[Cell]] = [[round(result["blocks_per_s"]), round(result["datagrams_per_s"])]]
    return [Table("rate", "The link's scheduler, one core", ("blocks/s", "datagrams/s"), rows)]


def exactness(result: Result) -> list[Table]:
    """Symbols that two arithmetics disagree about."""
    rows: list[list[Cell]] = [
        [
            result["model"],
            ", ".join(result["from"]),
            result["pictures"],
            result["identical"],
            result["symbols"],
            result["symbols_that_differ"],
        ]
    ]
    head = ("model", "footage", "pictures", "identical", "symbols", "that differ")
    return [Table("symbols", "Encoded in one arithmetic, decoded in another", head, rows)]


def steadiness(result: Result) -> list[Table]:
    """Id switches and flips of names a minute."""
    rows: list[list[Cell]] = []
    levels: list[str] = []
    for video in result["videos"]:
        for kind in ("without_tracker", "with_tracker"):
            part = video[kind]
            levels = levels or list(part["level_flips_per_minute"])
            flips = [round(part["level_flips_per_minute"][level]) for level in levels]
            rows.append([video["video"], kind.replace("_", " "), round(part["id_switches_per_minute"]), *flips])
    head = ("video", "", "id switches a minute", *(f"flips of {level} a minute" for level in levels))
    return [Table("minute", "Steadiness on videos", head, rows)]


def transfer(result: Result) -> list[Table]:
    """Linear probes on what each prefix decodes to."""
    sets = list(result["sets"])

    def marks(row: Result) -> list[Cell]:
        low_high = row["accuracy_interval"]
        return [
            f"{100 * row['accuracy'][name]:.1f} ({100 * low_high[name][0]:.1f}-{100 * low_high[name][1]:.1f})"
            for name in sets
        ]

    rows: list[list[Cell]] = [["uncompressed", f"{result['uncompressed']['payload_bytes_mean']:.1f}"]]
    rows[0] += marks(result["uncompressed"])
    for name, points in result["codecs"].items():
        for row in points:
            where = row.get("prefix", row.get("setting", ""))
            rows.append([f"{name} {where}".strip(), f"{row['payload_bytes_mean']:.1f}", *marks(row)])
    head = ("features from", "bytes", *(f"{name}, %" for name in sets))
    return [Table("probes", "A question asked later", head, rows, "In brackets: 95 % intervals.")]


def pictures(result: Result) -> list[Table]:
    """Picture blocks of scenes beside JPEG and WebP."""
    rows: list[list[Cell]] = []
    for name, found in result["figures"].items():
        rows.append([name, *(None if value is None else f"{value:.1f}" for value in found.values())])
    head = ("", *next(iter(result["figures"].values())))
    return [Table("scenes", f"Pictures of {result['scenes']} scenes", head, rows)]


TABLES: dict[str, Callable[[Any], list[Table]]] = {
    "classification": classification,
    "detection": detection,
    "exactness": exactness,
    "link": link,
    "memory": memory,
    "pictures": pictures,
    "replay": replay,
    "scheduler": scheduler,
    "speed": speed,
    "steadiness": steadiness,
    "transfer": transfer,
}
