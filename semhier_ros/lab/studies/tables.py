"""The tables of each study, made from the study's own result: for the documentation, and for the terminal alike.

`TABLES` names a function for each study whose result is worth a page. Each takes the result as the study's `--json`
holds it, and gives tables in which every codec that was compared has its rows, `answer` among them. A table's columns
are data: a head, and what of a row stands under it (`filled`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from string import Formatter
from typing import Any

Result = Mapping[str, Any]
Cell = str | float | int | None
Columns = list[tuple[str, str | Callable[[Any], Cell]]]
OWN = ("semhier", "answer")
NEARLY = 0.02
"""AP50 that a codec may miss and still count as having reached the detector's own."""
BRACKETS = "In brackets: 95 % intervals."
DASH = "–"


class ResultsError(ValueError):
    """A file of figures, or a marked place, that cannot be used; the text says which and why."""


@dataclass(frozen=True)
class Table:
    """A table of a study. `name` is unique within its study; a cell of None shows as a dash. `note` stands below.

    `whole`: False for an excerpt, which documents may show and the study's own page does not.
    """

    name: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    whole: bool = True

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise ResultsError(f"table {self.name}: a row of {len(row)} cells under {len(self.head)} columns")

    def markdown(self) -> str:
        """The table as Markdown, with its note."""
        lines = ["| " + " | ".join(self.head) + " |", "|" + "---|" * len(self.head)]
        lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n" + (f"\n{self.note}\n" if self.note else "")

    def text(self) -> str:
        """The table for a terminal: title, aligned columns, note."""
        rows = [tuple(self.head), *(tuple(_cell(cell) for cell in row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.rjust(wide) if place else cell.ljust(wide) for place, (cell, wide) in enumerate(cells))
            for cells in (list(zip(row, widths, strict=True)) for row in rows)
        ]
        return "\n".join([self.title, *(line.rstrip() for line in lines), *([self.note] if self.note else []), ""])


def _cell(value: Cell) -> str:
    if value is None:
        return DASH
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value


class _Words(Formatter):
    """Format strings of a row's fields: `a.b` is a field of a field, `a?` one that may be missing. What is missing or
    None shows as a dash; ` %` behind a number of digits makes percent of a share."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        value: Any = kwargs
        for part in field_name.split("."):
            key = part.removesuffix("?")
            value = None if value is None or (key != part and key not in value) else value[key]
        return value, field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None:
            return DASH
        if format_spec.endswith(" %"):
            return f"{100 * value:{format_spec.removesuffix(' %')}f} %"
        return format(value, format_spec)


def filled(
    name: str, title: str, columns: Columns, rows: Iterable[Result], note: str = "", whole: bool = True
) -> Table:
    """A table whose columns say what stands in them: the name of a row's field, a format string of its fields
    (`_Words`), or a function of the row. Raises KeyError for a field that a row does not have."""

    def cell(column: str | Callable[[Any], Cell], row: Result) -> Cell:
        if callable(column):
            return column(row)
        if "{" in column:
            return None if (text := _WORDS.vformat(column, (), row)) == DASH else text
        value: Cell = _WORDS.get_field(column, (), row)[0]
        return value

    cells = [[cell(column, row) for _, column in columns] for row in rows]
    return Table(name, title, tuple(head for head, _ in columns), cells, note, whole)


_WORDS = _Words()


def detection(result: Result) -> list[Table]:
    """Accuracy after each prefix, what others need for as much, and what the other operating points give."""
    whole = result["uncompressed"]
    levels = list(whole["ap50"])
    shown: list[dict[str, Any]] = []
    more: list[dict[str, Any]] = []
    needed: list[dict[str, Any]] = []
    good: list[dict[str, Any]] = []
    for name, points in result["codecs"].items():
        for row in points:
            prefix = f"{name}, prefix {row['prefix']}" if name in OWN else name
            if name in OWN and _asked(row) == _asked(points[0]):
                if not str(row.get("block", "")).startswith("picture"):
                    shown.append({**row, "said": prefix})
            elif row["best_at"]:
                (more if name in OWN else shown).append({**row, "said": f"{prefix}, {_setting(row)}"})
        found = {level: bytes_needed(points, level, whole["ap50"][level] - NEARLY) for level in levels}
        needed.append({level: "never" if size is None else f"{size:.0f}" for level, size in found.items()})
        needed[-1]["said"] = name
        if name not in OWN:
            enough = [row for row in points if row["ap50"][levels[0]] >= whole["ap50"][levels[0]] - NEARLY]
            row = dict(min(enough, key=lambda row: float(row["payload_bytes_mean"]), default={}))
            size = round(row["payload_bytes_mean"]) if row else "never"
            good.append(row | {"said": f"{name}, as good at {levels[0]}", "payload_bytes_mean": size})
    shown.append({**whole, "said": "the detector, nothing coded", "payload_bytes_mean": None})
    brief = [row for row in shown if row["said"].startswith(OWN)] + shown[-1:] + good
    note = f"{result['scenes']} labelled scenes, {result['boxes']} boxes; COCO AP50; mean payload bytes a frame. "
    note += "Pictures are read by the very same detector."
    columns: Columns = [("", "said"), ("bytes", "payload_bytes_mean")]
    columns += [(level, f"{{ap50?.{level}?:.3f}}") for level in levels]
    return [
        filled("prefixes", "Accuracy after each prefix, scenes", columns, shown, note),
        *([filled("points", "Other operating points, those best at something", columns, more)] if more else []),
        filled(
            "needed",
            f"Bytes for AP50 within {NEARLY:g} of the detector's own",
            [("", "said"), *((level, level) for level in levels)],
            needed,
        ),
        *_by_node(whole, result["codecs"].get("semhier", ())),
        filled("brief", "Scenes in brief", columns, brief, f"{note} As good: within {NEARLY:g}.", whole=False),
    ]


def _by_node(whole: Result, ours: Sequence[Result]) -> list[Table]:
    """AP50 of every node of the tree and of every size of object: the detector's, and ours after the last prefix."""
    named = [row for row in ours if _asked(row) == _asked(ours[0]) and not str(row["block"]).startswith("picture")]
    if not named:
        return []
    last = named[-1]
    columns: Columns = [("level", "level"), ("", "node"), ("the detector, nothing coded", "{whole:.3f}")]
    columns.append((f"semhier, prefix {last['prefix']}", "{ours:.3f}"))
    return [
        filled(
            name,
            f"{title}: AP50",
            columns,
            [
                {"level": level, "node": node, "whole": value, "ours": last[key].get(level, {}).get(node)}
                for level, values in whole[key].items()
                for node, value in values.items()
            ],
        )
        for name, title, key in (
            ("nodes", "By node", "ap50_by_class"),
            ("by_size", "By size of object", "ap50_by_size"),
        )
    ]


def _asked(row: Result) -> tuple[Any, ...]:
    """What tells a codec's operating points apart, whatever the prefix."""
    point = row["operating_point"]
    return point["threshold"], point.get("max_bytes")


def _setting(row: Result) -> str:
    """An operating point in words: of ours, of a picture, or of anything else."""
    if "operating_point" in row:
        threshold, most = _asked(row)
        return f"objectness from {threshold:g}" + (f", at most {most} B" if most else "")
    if "scale" in row:
        cut = f", cut at {row['cut']} B" if row.get("cut") else ""
        return f"{100 * row['scale']:g} % size, quality {row['quality']:g}{cut}"
    return f"prefix {row['prefix']}" if "prefix" in row else str(row.get("setting", ""))


def bytes_needed(rows: Sequence[Result], level: str, ap50: float) -> float | None:
    """The fewest mean payload bytes at which a codec reaches `ap50` at `level`; None when it never does."""
    enough = [row["payload_bytes_mean"] for row in rows if row["ap50"].get(level, -1.0) >= ap50]
    return min(enough, default=None)


def beside(result: Result) -> list[Table]:
    """The model's own detector and one of others on the same labels, nothing coded."""
    theirs = result["detector"]
    rows = [{"said": f"{theirs['file']}, {theirs['size'][0]}x{theirs['size'][1]}", **theirs}]
    if "own" in result:
        rows.insert(0, {"said": result["model"], **result["own"]})
    columns: Columns = [("", "said")]
    columns += [(node, f"{{ap50_by_class.{node}?:.3f}}") for node in theirs["ap50_by_class"]]
    columns += [(size, f"{{ap50_by_size.{size}:.3f}}") for size in theirs["ap50_by_size"]]
    note = f"{result['scenes']} labelled scenes, {result['boxes']} boxes, {result['ignored_boxes']} ignored regions; "
    note += "COCO AP50. Sizes: the mean of these nodes."
    return [filled("nodes", f"Level {result['level']}, nothing coded", columns, rows, note)]


def classification(result: Result) -> list[Table]:
    """Whole images: what each prefix says, how pictures are judged, and pictures at equal payload."""
    whole = result["uncompressed"]
    levels = [name for name in whole["accuracy"] if name.startswith("L")]
    everything = [(name, row) for name, rows in result["codecs"].items() for row in rows]
    everything += [("uncompressed", whole), ("uncompressed", result["judge_uncompressed"])]
    rows = [{**row, "said": f"{name}, {_setting(row)}".rstrip(", ")} for name, row in everything]
    first: Columns = [("", "said"), ("bytes", "{payload_bytes_mean?:.1f}")]
    divergence: Columns = [(f"KL at {level}, nats", f"{{kl?.{level}?:.3f}}") for level in levels]
    told = [row for row in rows if "accuracy" in row]
    seen = [row for row in rows if "psnr" in row and row.get("best_at", True)]
    right, judged = (
        _shares(key, f"{key}_interval", levels, "right at {}, {}") for key in ("accuracy", "judge_accuracy")
    )
    tables = [filled("prefixes", "What each prefix says, whole images", [*first, *right, *divergence], told, BRACKETS)]
    if len(seen) > 1:
        note = f"Judged by a classifier that no training saw; settings that are best at something. {BRACKETS}"
        tables.append(filled("pictures", "Pictures, judged", [*first, *judged, ("PSNR, dB", "{psnr:.2f}")], seen, note))
    return tables + sizes(result.get("at", {}))


def sizes(found: Mapping[str, Sequence[Result]]) -> list[Table]:
    """What codecs of pictures reach at equal payload, and by how much ours leads (`frontier.at_sizes`)."""
    tables = []
    for name, title, value, spread in (
        ("sizes", "Pictures at equal payload", "value", "interval"),
        ("leads", "What ours leads by, on the same photos", "margin_of_semhier", "margin_interval"),
    ):
        rows = [{"codec": codec, **row} for codec, points in found.items() for row in points if value in row]
        if rows:
            rows.sort(key=lambda row: row["payload_bytes"])
            columns: Columns = [("codec", "codec"), ("bytes", "payload_bytes")]
            columns += _shares(value, spread, rows[0][value])
            note = f"Each codec along the frontier of its scales and qualities. {BRACKETS}"
            tables.append(filled(name, title, columns, rows, note))
            if name == "sizes":
                between = sorted({row["payload_bytes"] for row in rows})[1:3]
                middle = [row for row in rows if row["payload_bytes"] in between]
                tables.append(filled("brief", "Pictures in brief", columns, middle, note, whole=False))
    return tables


def _shares(value: str, spread: str, names: Iterable[str], head: str = "{}, {}") -> Columns:
    """Columns of shares in percent, and of PSNR in dB, with their intervals: what rows have under `value` and `spread`
    by name."""

    def cell(name: str, row: Result) -> Cell:
        found, span = (row.get(key, {}).get(name) for key in (value, spread))
        if found is None or span is None:
            return None
        factor, places = (1, 2) if name == "psnr" else (100, 1)
        return f"{factor * found:.{places}f} ({factor * span[0]:.{places}f} to {factor * span[1]:.{places}f})"

    return [(head.format(name, "dB" if name == "psnr" else "%"), partial(cell, name)) for name in names]


def link(result: Result) -> list[Table]:
    """What arrives over thin links, `answer` and pictures beside."""
    columns: Columns = [
        ("link", "link"),
        ("codec", "codec"),
        ("runs", "runs"),
        ("frames with a coarse reading", "{coarse_share:.1 %}"),
        ("of those sent", "{coarse_share_of_sent?:.1 %}"),
        ("stamp to coarse, p50 / p95 / max ms", "{coarse_ms.p50:.0f} / {coarse_ms.p95:.0f} / {coarse_ms.max:.0f}"),
        ("of it encoding, ms", "{encode_ms?.p50:.0f}"),
        ("bytes/s on the wire", "{wire_bytes_per_s:,.0f}"),
        ("agreement", "{coarse_ap50:.3f}"),
    ]
    given, rows = result.get("costs_ms"), result["rows"]
    said = "what it takes on this machine"
    if given:
        said = "as long as was given: " + ", ".join(f"{name} {ms:g}" for name, ms in given.items()) + " ms"
    free = list(dict.fromkeys(row["link"] for row in rows if row.get("costs") == "none"))
    note = (
        "Medians over the runs. Agreement: AP50 of what arrived with the detector's reading of the uncompressed frame. "
    )
    note += f"Computing took {said}" + (f"; nothing in {' and '.join(free)}." if free else ".")
    first = [row for row in rows if row["link"] in (rows[0]["link"], "16kbit,150ms")]
    tables = [
        filled("coarse", "Over thin links, real processes", columns, rows, note),
        filled("brief", "Over thin links in brief", columns, first, note, whole=False),
    ]
    if radios := [row for row in rows if "radio" in row]:
        tables.append(filled("air", "On the air of emulated radios", _AIR, radios, _OTHERS))
    return tables


_AIR: Columns = [
    ("link", "link"),
    ("codec", "codec"),
    ("around a coarse block, bytes", "{radio.bytes_around_a_coarse_block}"),
    ("largest frame, bytes", "{radio.largest_frame}"),
    ("sender on the air", "{radio.sender_air_share:.1 %}"),
    ("receiver on the air", "{radio.receiver_air_share:.1 %}"),
    ("others on the line, bytes/s", "{others?.bytes_per_s?:,.0f}"),
    ("their messages later for us, p50 ms", "{others?.later_ms?.p50:.0f}"),
    ("p95 ms", "{others?.later_ms?.p95:.0f}"),
    ("later by over 30 ms", "{others?.later_by_30_ms_share?:.1 %}"),
]
_OTHERS = (
    "Others' messages: against the same ones without us, by the clock of a machine whose other work delays some in "
)
_OTHERS += "either run. In virtual time none is over 30 ms later (test/lab/test_link_study.py)."


def replay(result: Result) -> list[Table]:
    """The tables of a sweep: the streaming measure of every codec in every cell; and, of readings that were foretold to
    each instant, the same."""
    measure = "AP50" if result["rows"][0]["measure"] == "ap50" else "accuracy"
    rows = [
        {**row, "level": level, "at_best": ceiling, "lead": _margin(row["margin"].get(level))}
        | {
            f"{kind} {name}": found.get(key, {}).get(level)
            for name, found in row["codecs"].items()
            for kind, key in (("of", row["measure"]), ("foretold", "foretold"))
        }
        for row in result["rows"]
        for level, ceiling in row["ceiling"].items()
    ]
    columns: Columns = [("footage", "bag"), ("model", "model"), ("link", "link"), ("level", "level")]
    if len({row["model"] for row in rows}) == 1:
        del columns[1]
    names = dict.fromkeys(name for row in rows for name in row["codecs"])
    foretold = columns + [(name, f"{{foretold {name}?:.3f}}") for name in names]
    columns += [(name, f"{{of {name}?:.3f}}") for name in names]
    columns += [("no link", "{at_best:.3f}"), ("semhier's margin", "lead")]
    note = f"Streaming {measure}: at every instant the newest reading is scored against the world as it is then. The "
    note += "margin, with its 95 % interval, is over the best of those that send more than the bare answer."
    tables = [filled("streaming", "What a planner had at every instant", columns, rows, note)]
    if any("foretold" in found for row in result["rows"] for found in row["codecs"].values()):
        note = f"Streaming {measure} of the living scene, which every codec's readings are given (docs/living.md)."
        tables.append(filled("foretold", "Foretold to every instant", foretold, rows, note))
    return tables


def shown(study: str, result: Any) -> str:
    """A study's tables as a terminal shows them."""
    return "\n".join(table.text() for table in TABLES[study](result) if table.whole)


def _margin(found: Result | None) -> Cell:
    if not found or found["margin"] is None or found["ci95"] is None:
        return None
    low, high = found["ci95"]
    return f"{found['margin']:+.3f} ({low:+.3f} to {high:+.3f}) over {found['over']}"


def speed(result: Result) -> list[Table]:
    """Milliseconds on one core, beside JPEG and the network's own pass."""
    jpeg, network, slow = result["ratio_to_jpeg"], result["ratio_to_network"], result["milliseconds_p95"]
    rows = [
        {
            "stage": name.replace("_", " "),
            "ms": value,
            "slow": slow[name],
            "jpeg": jpeg.get(name),
            "network": network.get(name),
        }
        for name, value in result["milliseconds"].items()
    ]
    columns: Columns = [
        ("", "stage"),
        ("ms", "{ms:.2f}"),
        ("95 % within", "{slow:.2f}"),
        ("times JPEG", "jpeg"),
        ("times the network's pass", "network"),
    ]
    whole = {"the detector": "looks_in_integers", "mostly what paints": "paints_in_integers"}
    named = [part for part, key in whole.items() if result.get(key)]
    integers = f", {' and '.join(named)} in 8-bit integers" if named else ""
    note = f"One core, {result['size']}, networks in {result['precision']}{integers}, "
    note += f"medians{' of ' + result['clock'] if 'clock' in result else ''} over {result['frames']} frames. "
    note += f"Ratios in pairs, to libjpeg-turbo at quality {result['jpeg_quality']} on the same frames."
    memory = ""
    if objects := result.get("objects_remembered"):
        memory = f" Memory: a frame of {objects} made objects that refers to the one before; detector, readings apart."
    first = [row for row in rows if row["stage"] in ("network", "encode semantic", "decode level 0", "picture")]
    return [
        filled("stages", f"Speed of model {result['model']}", columns, rows, note + memory),
        filled("brief", f"Speed of model {result['model']} in brief", columns, first, note, whole=False),
    ]


def fleet(result: Result) -> list[Table]:
    """What many cameras cost one decoder: a frame's cost, and what came of frames at fixed rates."""
    cost: Columns = [("cameras", lambda row: f"{row['cameras']} together" if row["cameras"] else "each alone")]
    for part in ("total", "readings", "pictures", "device", "entropy", "host"):
        cost.append((f"{part}, ms a frame", f"{{ms_a_frame.{part}?:.1f}}"))
    cost.append(("times alone", "ratio_to_alone"))
    arrivals: Columns = [
        ("cameras", "{cameras} x {rate:g}/s"),
        ("coarse, ms", "{coarse_ms.median:.1f}"),
        ("99 %", "{coarse_ms.p99:.1f}"),
        ("picture, ms", "{picture_ms.median:.1f}"),
        ("99 %", "{picture_ms.p99:.1f}"),
        ("pictures/s", "{pictures_per_second:.1f}"),
        ("in a batch", "{pictures_in_a_batch:.1f}"),
        ("device, s/s", "{share_of_a_second.device:.2f}"),
        ("entropy", "{share_of_a_second.entropy:.2f}"),
        ("host", "{share_of_a_second.host:.2f}"),
        ("dropped", "packets_dropped"),
    ]
    where = f"Model {result['model']}, device {result['device']}, {result['size']}, "
    where += f"{result['bytes_a_frame']:,} B a frame. "
    note = where + f"All blocks of a frame, and its picture; medians over {result['rounds']} rounds"
    note += ", on one core" if result["device"] == "cpu" else ""
    note += f", in {result['cost_clock']}." if result.get("cost_clock") == "processor time" else "."
    later = where + "Coarse: from a frame's first packet to its reading; picture: from its last packet, of those that"
    later += " were made (a newer frame replaces one that waits). Shares: seconds of work in a second. "
    later += f"{result['cores']} cores; dropped: packets of full queues, and late ones."
    title = f"What a frame costs the decoder of many cameras ({result['device']})"
    return [
        filled("cost", title, cost, result["cost"], note),
        filled("arrivals", "Many cameras at fixed rates, one decoder", arrivals, result["arrivals"], later),
    ]


def memory(result: Result) -> list[Table]:
    """Peak memory of each node."""
    rows = [{"node": name, "peak": value} for name, value in result["peak_memory_mb"].items()]
    columns: Columns = [("node", "node"), ("MB", "{peak:.0f}")]
    return [filled("nodes", "Peak memory of the nodes while they work", columns, rows)]


def deltas(result: Result) -> list[Table]:
    """What memory is worth over a link, then bytes, bits and time of frames that refer to what is remembered."""
    loss: Columns = [
        ("video", "video"),
        ("lost", "{loss:g} %"),
        ("memory", lambda row: "on" if row["memory"] else "off"),
        ("seeds", "seeds"),
        ("AP50 L0", _with_error("ap50_l0", ".3f")),
        ("more than off", _with_error("more_ap50_l0", "+.3f")),
        ("names, B a frame", _with_error("payload_bytes", ".1f")),
        ("wire, B/s", _with_error("wire_bytes_per_s", ".0f")),
        ("reports, bit/s", _with_error("reports_bits_per_s", ".0f")),
        ("deltas", lambda row: f"{100 * row['deltas']['mean']:.0f} %" if row["memory"] else None),
        ("age, ms", _with_error("age_ms", ".0f")),
    ]
    note = f"{result['fps']:g} frames/s over {result['link']}, lost in bursts of {result['burst']:g} datagrams; "
    note += "streaming AP50 against the detector's reading of the uncompressed frame of each instant. Means over seeds "
    note += "with their standard errors, of the difference seed by seed. Age: median."
    sizes: Columns = [
        ("video", "video"),
        ("objects", "objects_a_frame"),
        ("whole (B)", "whole.bytes"),
        ("delta (B)", "delta.bytes"),
        ("a frame (B)", "bytes_a_frame"),
        ("encode (ms)", "ms_median.delta?"),
        ("decode (ms)", "ms_median.read?"),
    ]
    alone = "Nothing lost, each frame acknowledged at once. Times: medians on one core, detector and readings apart."
    says = [
        {"video": one["video"], "what": name, "bits": bits}
        for one in result["videos"]
        for name, bits in one["bits_a_delta"].items()
    ]
    bits: Columns = [("video", "video"), ("what", "what"), ("bits a delta", "bits")]
    return [
        filled("loss", "Memory over a link that loses", loss, result["rows"], note),
        filled("sizes", "Frames that refer to what the receiver remembers", sizes, result["videos"], alone),
        filled("bits", "What the bits of a delta say", bits, says),
    ]


def _with_error(key: str, form: str) -> Callable[[Result], Cell]:
    """What shows a mean and its standard error, where they are known."""

    def cell(row: Result) -> Cell:
        if (found := row.get(key)) is None:
            return None
        error = f" ± {found['error']:{form.removeprefix('+')}}" if found["error"] else ""
        return f"{found['mean']:{form}}{error}"

    return cell


def scheduler(result: Result) -> list[Table]:
    """What the link's scheduler handles."""
    columns: Columns = [("blocks/s", "{blocks_per_s:,.0f}"), ("datagrams/s", "{datagrams_per_s:,.0f}")]
    return [filled("rate", "The link's scheduler, one core", columns, [result])]


def exactness(result: Result) -> list[Table]:
    """Symbols that two arithmetics disagree about."""
    columns: Columns = [
        ("model", "model"),
        ("footage", lambda row: ", ".join(row["from"])),
        ("pictures", "pictures"),
        ("identical", "identical"),
        ("symbols", "symbols"),
        ("that differ", "symbols_that_differ"),
    ]
    return [filled("symbols", "Encoded in one arithmetic, decoded in another", columns, [result])]


def steadiness(result: Result) -> list[Table]:
    """Id switches and flips of names a minute."""
    rows = [
        {"video": video["video"], "kind": kind.replace("_", " "), **video[kind]}
        for video in result["videos"]
        for kind in ("each_alone", "followed")
    ]
    columns: Columns = [("video", "video"), ("", "kind"), ("id switches a minute", "{id_switches_per_minute:,.0f}")]
    for level in rows[0]["level_flips_per_minute"]:
        columns.append((f"flips of {level} a minute", f"{{level_flips_per_minute.{level}:,.0f}}"))
    return [filled("minute", "Steadiness on videos", columns, rows)]


def transfer(result: Result) -> list[Table]:
    """Linear probes on what each prefix decodes to."""
    everything = [(name, row) for name, points in result["codecs"].items() for row in points]
    rows = [
        {**row, "said": f"{name} {_setting(row)}".strip()}
        for name, row in [("uncompressed", result["uncompressed"]), *everything]
    ]
    columns: Columns = [("features from", "said"), ("bytes", "{payload_bytes_mean:.1f}")]
    columns += _shares("accuracy", "accuracy_interval", result["sets"])
    return [filled("probes", "A question asked later", columns, rows, BRACKETS)]


def pictures(result: Result) -> list[Table]:
    """Picture blocks of scenes beside JPEG and WebP."""
    rows = [{"said": name, **found} for name, found in result["figures"].items()]
    columns: Columns = [("", "said"), *((name, f"{{{name}:.1f}}") for name in list(rows[0])[1:])]
    return [filled("scenes", f"Pictures of {result['scenes']} scenes", columns, rows)]


def frames(result: Result) -> list[Table]:
    """What a receiver of compact frames took of damaged and forged ones."""
    fields = ("transport", "proof", "frames", "taken", "crashes")
    columns: Columns = [("of", lambda row: row.get("kind", "all")), *((name, name) for name in fields)]
    columns[3] = ("wrong frames", "frames")
    note = "Of any frames of a sender (all), its deltas or frames with motion alone, or a receiver's words. "
    note += "Taken: something was published of it. A check of 16 bits lets one of 65,536 frames of noise through, of "
    note += "which most say what cannot be; no check keeps a forger out, a key does."
    return [filled("taken", "Damaged and forged frames", columns, result["rows"], note)]


def stored(result: Result) -> list[Table]:
    """How long a picture on request takes, in times of its pieces' airtime."""
    real = result.get("real_of_airtime") or [None]
    row = {**result, "real": ", ".join(f"{share:.2f}" for share in real) if real[0] else None}
    row |= {"bar": result["share_within_1.5"], "stretch": result["share_within_1.2"]}
    columns: Columns = [
        ("link", "link"),
        ("picture, bytes", "picture_bytes"),
        ("airtime of its pieces, s", "{airtime_s:.2f}"),
        ("runs", "runs"),
        ("median, times that", "{median_of_airtime:.2f}"),
        ("p95", "{p95_of_airtime:.2f}"),
        ("within 1.5", "{bar:.1 %}"),
        ("within 1.2", "{stretch:.1 %}"),
        ("in processes", "real"),
    ]
    note = "From the request at the robot to its last block whole at the base, by selective repeat, nothing else to be "
    note += "sent; runs in virtual time, each with losses of its own, and in real processes over pseudo-terminals."
    return [filled("pictures", "A picture on request over a radio that loses frames", columns, [row], note)]


def drift(result: Result) -> list[Table]:
    """Whether memories over radios went apart."""
    names = ("link", "frames", "deltas", "compared", "differ", "refused", "acknowledged_unknown", "lost", "restarts")
    columns: Columns = [(name.replace("_", " "), name) for name in names]
    note = f"{result['objects']} objects, {result['fps']:g} frames/s. Compared: deltas that were read, with what their "
    note += "sender takes them to say. Refused: deltas that refer to what a base did not remember. "
    note += "Acknowledged unknown: words of a memory that the sender does not know, as of a robot that has begun anew, "
    note += "or of which it cannot know which state is meant, for two of a whole frame's have the same check of a byte."
    return [filled("apart", "Memories over radios", columns, result["rows"], note)]


_WITH_A_PAGE = (beside, classification, deltas, detection, exactness, fleet, frames, link, memory, pictures, replay)
TABLES = {made.__name__: made for made in (*_WITH_A_PAGE, drift, scheduler, speed, steadiness, stored, transfer)}
