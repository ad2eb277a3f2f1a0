"""The tables of each study, made from the study's own result: for the documentation, and for the terminal alike.

`TABLES` names a function for each study whose result is worth a page. Each takes the result as the study's `--json`
holds it, and gives tables in which every codec that was compared has its rows, `answer` among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]
Cell = str | float | int | None
OWN = ("semhier", "answer")
NEARLY = 0.02
"""AP50 that a codec may miss and still count as having reached the detector's own."""
BRACKETS = "In brackets: 95 % intervals."


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
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value


def detection(result: Result) -> list[Table]:
    """Accuracy after each prefix, what others need for as much, and what the other operating points give."""
    whole = result["uncompressed"]
    levels = list(whole["ap50"])
    shown: list[list[Cell]] = []
    more: list[list[Cell]] = []
    needed: list[list[Cell]] = []
    for name, points in result["codecs"].items():
        for row in points:
            scores = [_three(row["ap50"].get(level)) for level in levels]
            line = [f"{name}, {_setting(row)}", row["payload_bytes_mean"], *scores]
            if name not in OWN:
                if row["best_at"]:
                    shown.append(line)
            elif _asked(row) == _asked(points[0]):
                if not str(row.get("block", "")).startswith("picture"):
                    shown.append([f"{name}, prefix {row['prefix']}", *line[1:]])
            elif row["best_at"]:
                more.append([f"{name}, prefix {row['prefix']}, {_setting(row)}", *line[1:]])
        found = [bytes_needed(points, level, whole["ap50"][level] - NEARLY) for level in levels]
        needed.append([name, *("never" if each is None else f"{each:.0f}" for each in found)])
    shown.append(["the detector, nothing coded", None, *(_three(whole["ap50"][level]) for level in levels)])
    note = f"{result['scenes']} labelled scenes, {result['boxes']} boxes; COCO AP50; mean payload bytes a frame. "
    note += "Pictures are read by the very same detector."
    head = ("", "bytes", *levels)
    tables = [Table("prefixes", "Accuracy after each prefix, scenes", head, shown, note)]
    if more:
        tables.append(Table("points", "Other operating points, those best at something", head, more))
    title = f"Bytes for AP50 within {NEARLY:g} of the detector's own"
    brief = [row for row in shown if str(row[0]).startswith(OWN)] + shown[-1:]
    for name, points in result["codecs"].items():
        if name not in OWN:
            enough = [row for row in points if row["ap50"][levels[0]] >= whole["ap50"][levels[0]] - NEARLY]
            row = min(enough, key=lambda row: float(row["payload_bytes_mean"])) if enough else None
            scores = [_three(row["ap50"].get(level)) for level in levels] if row else [None] * len(levels)
            brief.append(
                [f"{name}, as good at {levels[0]}", round(row["payload_bytes_mean"]) if row else "never", *scores]
            )
    return [
        *tables,
        Table("needed", title, ("", *levels), needed),
        *_by_node(whole, result["codecs"].get("semhier", ())),
        Table("brief", "Scenes in brief", head, brief, f"{note} As good: within {NEARLY:g}.", whole=False),
    ]


def _by_node(whole: Result, ours: Sequence[Result]) -> list[Table]:
    """AP50 of every node of the tree and of every size of object: the detector's, and ours after the last prefix."""
    named = [row for row in ours if _asked(row) == _asked(ours[0]) and not str(row["block"]).startswith("picture")]
    if not named:
        return []
    last = named[-1]
    tables = []
    for name, title, key in (("nodes", "By node", "ap50_by_class"), ("by_size", "By size of object", "ap50_by_size")):
        rows: list[list[Cell]] = [
            [level, each, _three(value), _three(last[key].get(level, {}).get(each))]
            for level, values in whole[key].items()
            for each, value in values.items()
        ]
        head = ("level", "", "the detector, nothing coded", f"semhier, prefix {last['prefix']}")
        tables.append(Table(name, f"{title}: AP50", head, rows))
    return tables


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


def _three(value: float | None) -> Cell:
    return None if value is None else f"{value:.3f}"


def beside(result: Result) -> list[Table]:
    """The model's own detector and one of others on the same labels, nothing coded."""
    theirs = result["detector"]
    file = f"{theirs['file']}, {theirs['size'][0]}x{theirs['size'][1]}"
    judged = [(result["model"], result["own"])] if "own" in result else []
    judged.append((file, theirs))
    nodes, sizes = list(theirs["ap50_by_class"]), list(theirs["ap50_by_size"])
    rows: list[list[Cell]] = [
        [
            name,
            *(_three(row["ap50_by_class"].get(node)) for node in nodes),
            *(_three(row["ap50_by_size"][size]) for size in sizes),
        ]
        for name, row in judged
    ]
    note = f"{result['scenes']} labelled scenes, {result['boxes']} boxes, {result['ignored_boxes']} ignored regions; "
    note += "COCO AP50. Sizes: the mean of these nodes."
    return [Table("nodes", f"Level {result['level']}, nothing coded", ("", *nodes, *sizes), rows, note)]


def classification(result: Result) -> list[Table]:
    """Whole images: what each prefix says, how pictures are judged, and pictures at equal payload."""
    whole = result["uncompressed"]
    levels = [name for name in whole["accuracy"] if name.startswith("L")]
    told: list[list[Cell]] = []
    seen: list[list[Cell]] = []
    everything = [(name, row) for name, rows in result["codecs"].items() for row in rows]
    for name, row in [*everything, ("uncompressed", whole), ("uncompressed", result["judge_uncompressed"])]:
        size = f"{row['payload_bytes_mean']:.1f}" if "payload_bytes_mean" in row else None
        line: list[Cell] = [f"{name}, {_setting(row)}".rstrip(", "), size]
        if "accuracy" in row:
            divergence = row.get("kl", {})
            told.append(line + _shares(row, "accuracy", levels) + [_three(divergence.get(level)) for level in levels])
        if "psnr" in row and row.get("best_at", True):
            seen.append([*line, *_shares(row, "judge_accuracy", levels), f"{row['psnr']:.2f}"])
    right = tuple(f"right at {level}, %" for level in levels)
    head = ("", "bytes", *right, *(f"KL at {level}, nats" for level in levels))
    tables = [Table("prefixes", "What each prefix says, whole images", head, told, BRACKETS)]
    if len(seen) > 1:
        note = f"Judged by a classifier that no training saw; settings that are best at something. {BRACKETS}"
        tables.append(Table("pictures", "Pictures, judged", ("", "bytes", *right, "PSNR, dB"), seen, note))
    return tables + sizes(result.get("at", {}))


def sizes(found: Mapping[str, Sequence[Result]]) -> list[Table]:
    """What codecs of pictures reach at equal payload, and by how much ours leads (`frontier.at_sizes`)."""
    tables = []
    for name, title, value, spread in (
        ("sizes", "Pictures at equal payload", "value", "interval"),
        ("leads", "What ours leads by, on the same photos", "margin_of_semhier", "margin_interval"),
    ):
        rows = [(codec, row) for codec, points in found.items() for row in points if value in row]
        if rows:
            rows.sort(key=lambda item: item[1]["payload_bytes"])
            measures = list(rows[0][1][value])
            cells: list[list[Cell]] = [
                [codec, row["payload_bytes"], *(_measure(key, row[value][key], row[spread][key]) for key in measures)]
                for codec, row in rows
            ]
            note = f"Each codec along the frontier of its scales and qualities. {BRACKETS}"
            head = ("codec", "bytes", *(f"{key}, dB" if key == "psnr" else f"{key}, %" for key in measures))
            tables.append(Table(name, title, head, cells, note))
            if name == "sizes":
                middle = [row for row in cells if row[1] in sorted({int(str(each[1])) for each in cells})[1:3]]
                tables.append(Table("brief", "Pictures in brief", head, middle, note, whole=False))
    return tables


def _measure(name: str, value: float | None, span: Sequence[float] | None) -> Cell:
    """A share in percent or a PSNR in dB, with its interval."""
    if value is None or span is None:
        return None
    factor, places = (1, 2) if name == "psnr" else (100, 1)
    return f"{factor * value:.{places}f} ({factor * span[0]:.{places}f} to {factor * span[1]:.{places}f})"


def _shares(row: Result, key: str, names: Sequence[str]) -> list[Cell]:
    """Shares of right answers in percent, with their intervals."""
    shares, spans = row.get(key, {}), row.get(f"{key}_interval", {})
    return [_measure("", shares.get(name), spans.get(name)) for name in names]


def link(result: Result) -> list[Table]:
    """What arrives over thin links, `answer` and pictures beside."""
    rows: list[list[Cell]] = []
    for row in result["rows"]:
        late, encode = row["coarse_ms"], row.get("encode_ms", {}).get("p50")
        of_sent = row.get("coarse_share_of_sent")
        rows.append(
            [
                row["link"],
                row["codec"],
                row["runs"],
                f"{100 * row['coarse_share']:.1f} %",
                None if of_sent is None else f"{100 * of_sent:.1f} %",
                " / ".join("–" if late[name] is None else f"{late[name]:.0f}" for name in ("p50", "p95", "max")),
                None if encode is None else f"{encode:.0f}",
                round(row["wire_bytes_per_s"]),
                _three(row["coarse_ap50"]),
            ]
        )
    head = (
        "link",
        "codec",
        "runs",
        "frames with a coarse reading",
        "of those sent",
        "stamp to coarse, p50 / p95 / max ms",
    )
    note = (
        "Medians over the runs. Agreement: AP50 of what arrived with the detector's reading of the uncompressed frame. "
        f"Computing took {_computing(result)}."
    )
    columns = (*head, "of it encoding, ms", "bytes/s on the wire", "agreement")
    first = [row for row in rows if row[0] in (rows[0][0], "16kbit,150ms")]
    return [
        Table("coarse", "Over thin links, real processes", columns, rows, note),
        Table("brief", "Over thin links in brief", columns, first, note, whole=False),
    ]


def _computing(result: Result) -> str:
    """What the rows of the link's table were charged for computing, in words."""
    given = result.get("costs_ms")
    said = "what it takes on this machine"
    if given:
        said = "as long as was given: " + ", ".join(f"{name} {ms:g}" for name, ms in given.items()) + " ms"
    free = list(dict.fromkeys(row["link"] for row in result["rows"] if row.get("costs") == "none"))
    return said + (f"; nothing in {' and '.join(free)}" if free else "")


def replay(result: Result) -> list[Table]:
    """The table of a sweep: the streaming measure of every codec in every cell."""
    rows = result["rows"]
    names = list(dict.fromkeys(name for row in rows for name in row["codecs"]))
    several = len({row["model"] for row in rows}) > 1
    cells: list[list[Cell]] = []
    for row in rows:
        for level, ceiling in row["ceiling"].items():
            found = [_three(row["codecs"].get(name, {}).get(row["measure"], {}).get(level)) for name in names]
            place = [row["bag"], *([row["model"]] if several else []), row["link"], level]
            cells.append([*place, *found, _three(ceiling), _margin(row["margin"].get(level))])
    head = ("footage", *(["model"] if several else []), "link", "level", *names, "no link", "semhier's margin")
    measure = "AP50" if rows[0]["measure"] == "ap50" else "accuracy"
    note = (
        f"Streaming {measure}: at every instant the newest reading is scored against the world as it is then. The "
        "margin, with its 95 % interval, is over the best of those that send more than the bare answer."
    )
    return [Table("streaming", "What a planner had at every instant", head, cells, note)]


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
    jpeg, network = result["ratio_to_jpeg"], result["ratio_to_network"]
    rows: list[list[Cell]] = [
        [name.replace("_", " "), f"{value:.2f}", jpeg.get(name), network.get(name)]
        for name, value in result["milliseconds"].items()
    ]
    head = ("", "ms", "times JPEG", "times the network's pass")
    whole = {"the detector": "looks_in_integers", "mostly what paints": "paints_in_integers"}
    named = [part for part, key in whole.items() if result.get(key)]
    integers = f", {' and '.join(named)} in 8-bit integers" if named else ""
    note = f"One core, {result['size']}, networks in {result['precision']}{integers}, "
    note += f"medians{' of ' + result['clock'] if 'clock' in result else ''} over {result['frames']} frames. "
    note += f"Ratios in pairs, to libjpeg-turbo at quality {result['jpeg_quality']} on the same frames."
    memory = ""
    if objects := result.get("objects_remembered"):
        memory = f" Memory: a frame of {objects} made objects that refers to the one before; detector, readings apart."
    first = [row for row in rows if row[0] in ("network", "encode semantic", "decode level 0", "picture")]
    return [
        Table("stages", f"Speed of model {result['model']}", head, rows, note + memory),
        Table("brief", f"Speed of model {result['model']} in brief", head, first, note, whole=False),
    ]


def fleet(result: Result) -> list[Table]:
    """What many cameras cost one decoder: a frame's cost, and what came of frames at fixed rates."""
    parts = ("total", "readings", "pictures", "device", "entropy", "host")
    costs: list[list[Cell]] = [
        [
            f"{row['cameras']} together" if row["cameras"] else "each alone",
            *(_fixed(row["ms_a_frame"].get(part), 1) for part in parts),
            row["ratio_to_alone"],
        ]
        for row in result["cost"]
    ]
    rows: list[list[Cell]] = []
    for row in result["arrivals"]:
        coarse, picture = row["coarse_ms"] or {}, row["picture_ms"] or {}
        shares = row["share_of_a_second"]
        rows.append(
            [
                f"{row['cameras']} x {row['rate']:g}/s",
                *(_fixed(times.get(name), 1) for times in (coarse, picture) for name in ("median", "p99")),
                _fixed(row["pictures_per_second"], 1),
                _fixed(row["pictures_in_a_batch"], 1),
                *(_fixed(shares[name], 2) for name in ("device", "entropy", "host")),
                row["packets_dropped"],
            ]
        )
    where = f"Model {result['model']}, device {result['device']}, {result['size']}, "
    where += f"{result['bytes_a_frame']:,} B a frame. "
    head = ("cameras", *(f"{part}, ms a frame" for part in parts), "times alone")
    note = where + f"All blocks of a frame, and its picture; medians over {result['rounds']} rounds"
    note += ", on one core" if result["device"] == "cpu" else ""
    note += f", in {result['cost_clock']}." if result.get("cost_clock") == "processor time" else "."
    arrived = (
        "cameras",
        "coarse, ms",
        "99 %",
        "picture, ms",
        "99 %",
        "pictures/s",
        "in a batch",
        "device, s/s",
        "entropy",
        "host",
        "dropped",
    )
    later = where + "Coarse: from a frame's first packet to its reading; picture: from its last packet, of those that"
    later += " were made (a newer frame replaces one that waits). Shares: seconds of work in a second. "
    later += f"{result['cores']} cores; dropped: packets of full queues, and late ones."
    return [
        Table("cost", f"What a frame costs the decoder of many cameras ({result['device']})", head, costs, note),
        Table("arrivals", "Many cameras at fixed rates, one decoder", arrived, rows, later),
    ]


def _fixed(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def memory(result: Result) -> list[Table]:
    """Peak memory of each node."""
    rows = [[name, f"{value:.0f}"] for name, value in result["peak_memory_mb"].items()]
    return [Table("nodes", "Peak memory of the nodes while they work", ("node", "MB"), rows)]


def deltas(result: Result) -> list[Table]:
    """What memory is worth over a link, then bytes, bits and time of frames that refer to what is remembered."""
    loss: list[list[Cell]] = []
    for row in result["rows"]:
        share = row["deltas"]["mean"] if row["memory"] else None
        loss.append(
            [
                row["video"],
                f"{row['loss']:g} %",
                "on" if row["memory"] else "off",
                row["seeds"],
                _with_error(row["ap50_l0"], 3),
                _with_error(row.get("more_ap50_l0"), 3, "+"),
                _with_error(row["payload_bytes"], 1),
                _with_error(row["wire_bytes_per_s"], 0),
                _with_error(row["reports_bits_per_s"], 0),
                None if share is None else f"{100 * share:.0f} %",
                _with_error(row["age_ms"], 0),
            ]
        )
    over = (
        "video",
        "lost",
        "memory",
        "seeds",
        "AP50 L0",
        "more than off",
        "names, B a frame",
        "wire, B/s",
        "reports, bit/s",
        "deltas",
        "age, ms",
    )
    note = f"{result['fps']:g} frames/s over {result['link']}, lost in bursts of {result['burst']:g} datagrams; "
    note += "streaming AP50 against the detector's reading of the uncompressed frame of each instant. Means over seeds "
    note += "with their standard errors, of the difference seed by seed. Age: median."
    sizes: list[list[Cell]] = []
    says: list[list[Cell]] = []
    for one in result["videos"]:
        told = [one[kind]["bytes"] for kind in ("whole", "delta")]
        took = [one["ms_median"].get(kind) for kind in ("delta", "read")]
        sizes.append([one["video"], one["objects_a_frame"], *told, one["bytes_a_frame"], *took])
        says += [[one["video"], name, bits] for name, bits in one["bits_a_delta"].items()]
    head = ("video", "objects", "whole (B)", "delta (B)", "a frame (B)", "encode (ms)", "decode (ms)")
    alone = "Nothing lost, each frame acknowledged at once. Times: medians on one core, detector and readings apart."
    return [
        Table("loss", "Memory over a link that loses", over, loss, note),
        Table("sizes", "Frames that refer to what the receiver remembers", head, sizes, alone),
        Table("bits", "What the bits of a delta say", ("video", "what", "bits a delta"), says),
    ]


def _with_error(found: Result | None, digits: int, sign: str = "") -> str | None:
    """A mean and its standard error, where that is known."""
    if found is None:
        return None
    error = f" ± {found['error']:.{digits}f}" if found["error"] else ""
    return f"{found['mean']:{sign}.{digits}f}{error}"


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
        for kind in ("each_alone", "followed"):
            part = video[kind]
            levels = levels or list(part["level_flips_per_minute"])
            flips = [round(part["level_flips_per_minute"][level]) for level in levels]
            rows.append([video["video"], kind.replace("_", " "), round(part["id_switches_per_minute"]), *flips])
    head = ("video", "", "id switches a minute", *(f"flips of {level} a minute" for level in levels))
    return [Table("minute", "Steadiness on videos", head, rows)]


def transfer(result: Result) -> list[Table]:
    """Linear probes on what each prefix decodes to."""
    sets = list(result["sets"])
    everything = [(name, row) for name, points in result["codecs"].items() for row in points]
    rows: list[list[Cell]] = [
        [f"{name} {_setting(row)}".strip(), f"{row['payload_bytes_mean']:.1f}", *_shares(row, "accuracy", sets)]
        for name, row in [("uncompressed", result["uncompressed"]), *everything]
    ]
    head = ("features from", "bytes", *(f"{name}, %" for name in sets))
    return [Table("probes", "A question asked later", head, rows, BRACKETS)]


def pictures(result: Result) -> list[Table]:
    """Picture blocks of scenes beside JPEG and WebP."""
    rows: list[list[Cell]] = []
    for name, found in result["figures"].items():
        rows.append([name, *(None if value is None else f"{value:.1f}" for value in found.values())])
    head = ("", *next(iter(result["figures"].values())))
    return [Table("scenes", f"Pictures of {result['scenes']} scenes", head, rows)]


def frames(result: Result) -> list[Table]:
    """What a receiver of compact frames took of damaged and forged ones."""
    head = ("transport", "proof", "wrong frames", "taken", "crashes")
    rows: list[list[Cell]] = [
        [row[name] for name in ("transport", "proof", "frames", "taken", "crashes")] for row in result["rows"]
    ]
    note = "A check of 16 bits lets one of 65,536 frames of noise through; no check keeps a forger out, a key does."
    return [Table("taken", "Damaged and forged frames", head, rows, note)]


TABLES: dict[str, Callable[[Any], list[Table]]] = {
    "beside": beside,
    "classification": classification,
    "deltas": deltas,
    "detection": detection,
    "exactness": exactness,
    "link": link,
    "memory": memory,
    "pictures": pictures,
    "replay": replay,
    "scheduler": scheduler,
    "speed": speed,
    "fleet": fleet,
    "frames": frames,
    "steadiness": steadiness,
    "transfer": transfer,
}
