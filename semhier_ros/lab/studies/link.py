"""What arrives over a thin link, for real: processes, Zenoh sessions and datagrams through the emulator.

Every row is a link; on each the model's blocks are sent, and beside them what one would use instead: the bare answer,
JPEG and H.264, pictures at the setting that a search finds best for that link. JSON out; what was measured before is
not measured again: with the same model, footage and costs (delete the `.parts` file beside the output, or name another
output, to begin anew).

Computing is either this machine's, or given (`--costs`): then frames are encoded, and pictures too, before the session,
through the cache that replay has, and what computing takes is waited. Then the rows are of the link, and hardly of the
processor or of what else it does.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from semhier_ros import options as shared
from semhier_ros.api import FOOT_SUFFIX
from semhier_ros.command import for_the_user
from semhier_ros.footage.clip import clips, make_clip
from semhier_ros.footage.video import default_video, file_digest
from semhier_ros.interrupts import stop_signals
from semhier_ros.lab.baselines.search import make_stream
from semhier_ros.lab.options import finish
from semhier_ros.lab.processes import ChildError, Supervisor
from semhier_ros.lab.replay.base import Answer, Costs
from semhier_ros.lab.replay.ends import answers_of, encode_before, pictures_of, read_log
from semhier_ros.lab.replay.pair import Pair, play, radio_plan
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.replay.store import Store, digest
from semhier_ros.lab.replay.task import (
    BLOCKS,
    BUDGET_SHARE,
    LINK_OF,
    StreamError,
    Task,
    add_costs,
    check_codecs,
    check_transport,
)
from semhier_ros.lab.replay.traffic import Traffic
from semhier_ros.lab.results import processor
from semhier_ros.lab.scoring.figures import quantiles
from semhier_ros.lab.scoring.streaming import Matching
from semhier_ros.link.emulate.profile import LinkProfile, parse_link
from semhier_ros.link.emulate.radio import MAVLINK, RADIOS, RadioEmulator, RadioProfile, parse_radio
from semhier_ros.link.radio.mavlink import TUNNEL_BYTES
from semhier_ros.paths import find_model
from semhier_ros.progress import Stages

ATTEMPTS = 3
CODECS = ("semhier", "answer", "jpeg", "h264")
FREE = Costs(*[0.0] * 8)
MEASURED = "this machine's"
_KEY = ("link", "seconds", "codec", "costs", "model", "device", "video", "keyed")
delays = partial(quantiles, p50=0.5, p95=0.95, max=1.0)

RADIO_ROWS = {
    "serial9600": (20.0, 5.0, 32),
    "serial9600,10fps,before": (20.0, 10.0, 32),
    "acoustic": (40.0, 1.0, 16),
    "lora": (150.0, 1 / 30, 16),
    "mavlink57600": (20.0, 10.0, 32),
}
"""Of an emulated radio: length of a run (s), frames a second, bits of a check."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `link` as `parse_link` reads it; `weights`: one for each camera; `encoded_before`: whether
    encoding takes no time; `memory`: whether our frames refer to what was acknowledged."""

    name: str
    link: str
    seconds: float = 12.0
    frames_per_second: float = 10.0
    weights: tuple[float, ...] = (1.0,)
    encoded_before: bool = False
    memory: bool = False
    radio: RadioProfile | None = None
    check: int = 32


ROWS = (
    Row("64kbit,50ms,5%", "64kbit,50ms,5%"),
    Row("64kbit,50ms,20%", "64kbit,50ms,20%"),
    Row("64kbit,50ms,20%,burst4", "64kbit,50ms,20%,burst4", seconds=20.0),
    Row("16kbit,150ms", "16kbit,150ms"),
    Row("512-32-512kbit,50ms", "512kbit,50ms,step32kbit@10s,step512kbit@20s", seconds=30.0),
    Row("64kbit,50ms,outage20s", "64kbit,50ms,outage20s@4s", seconds=29.0),
    Row("128kbit,50ms,4cameras", "128kbit,50ms", 12.0, 20.0, (1.0, 1.0, 2.0, 2.0), encoded_before=True),
)


def row_of(text: str, seconds: float | None) -> Row:
    """The row of that name, or one for a link of that description. Raises CommandError."""
    row = next((row for row in ROWS if row.name == text), None)
    if text.split(",")[0] in RADIOS:
        row = radio_row(text)
    if row is None:
        with for_the_user(ValueError, of="--link"):
            if not parse_link(text).rate_bps:
                raise ValueError("a link with a rate is wanted, as in 64kbit,50ms,5%")
        row = Row(text, text)
    return row if seconds is None else replace(row, seconds=seconds)


def radio_row(text: str) -> Row:
    """The row of an emulated radio, as `parse_radio` reads it, `10fps`, `before` (encoding takes no time) and `memory`
    among its parts. Raises CommandError."""
    parts = text.split(",")
    rates = [part for part in parts if part.endswith("fps")]
    ours = [*rates, "before", "memory"]
    with for_the_user(ValueError, of="--link"):
        radio = parse_radio(",".join(part for part in parts if part not in ours))
        seconds, rate, check = RADIO_ROWS.get(text) or RADIO_ROWS.get(parts[0]) or (20.0, 5.0, 32)
        rate = float(rates[0].removesuffix("fps")) if rates else rate
    before, memory = ("before" in parts, "memory" in parts)
    bits = f"{8 * radio.bytes_per_second:g}bit"
    return Row(text, bits, seconds, rate, encoded_before=before, memory=memory, radio=radio, check=check)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(row.name for row in ROWS).replace("%", "%%")
    radios = ", ".join(RADIOS)
    parser.add_argument(
        "--link",
        nargs="+",
        metavar="LINK",
        help=f"rows of the table, of {names}; links of your own; or emulated radios, {radios} (all rows, no radio)",
    )
    shared.renamed(parser, links="--link")
    parser.add_argument("--transport", choices=tuple(LINK_OF), help="what speaks over the links (as each link says)")
    shared.option(parser, "--runs", shared.whole(1, 100), 5, "runs of each, of which the median counts")
    shared.several(
        parser, "--codecs", shared.one_of(*CODECS), None, f"of {', '.join(CODECS)} (all that can run here)", "CODEC"
    )
    shared.option(parser, "--seconds", shared.real(1, 3600), None, "length of a run (the row's own)")
    parser.add_argument("--video", type=Path, help="footage (default: the demo's)")
    add_costs(parser, "then frames are encoded before the session and costs are waited (this machine's own)")
    parser.add_argument("--key", action="store_true", help="on radios: frames carry a keyed proof (5 bytes)")
    shared.common(parser, shared.model, shared.device, shared.json)


def run(options: argparse.Namespace) -> int:
    """Measures what is missing and writes the table; 0, or 1 when a process failed."""
    bench = Bench(options)
    jobs = bench.jobs()
    stages = {bench.title(*job): job[0].seconds + 9.0 for job in jobs}
    try:
        with stop_signals(), Stages(stages or {"nothing is left to measure": 1.0}) as tell:
            for job in jobs:
                bench.measure_stubbornly(*job, partial(tell, bench.title(*job)))
    except KeyboardInterrupt:
        print("semhier measure link: interrupted; run it again to go on", file=sys.stderr)
        return 130
    finally:
        result = bench.result()
        finish(result, options.json, "link")
    return 1 if bench.failures else 0


class Bench:
    """A table in the making."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.video = options.video or default_video()
        wanted = options.transport
        every = [row.name for row in ROWS] if wanted in (None, "zenoh") else [LINK_OF[wanted]]
        self.rows = [row_of(text, options.seconds) for text in options.link or every]
        for row in self.rows:
            check_transport(wanted, row.name, row.radio)
        self.codecs: list[str] = []
        self.left_out: dict[str, str] = {}
        for name in options.codecs or CODECS:
            try:
                self.codecs += check_codecs([name])
            except StreamError as error:
                if options.codecs:
                    raise
                self.left_out[name] = str(error)
        out: Path = options.json or Path("out/link.json")
        self.folder, self.parts = out.with_suffix(".work"), out.with_suffix(".parts")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = self.folder / "made.sqlite"
        self.known: list[dict[str, Any]] = []
        if self.parts.is_file():
            lines = self.parts.read_text(encoding="utf-8").splitlines()
            self.known = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
            self.known = [part for part in self.known if set(_KEY) <= part.keys()]  # of older files nobody knows
        self.failures = 0

    def costs(self, row: Row) -> str:
        """What computing takes in that row, in words: part of what tells measurements apart."""
        if row.encoded_before:
            return "none"
        given: Costs | None = self.options.costs
        return MEASURED if given is None else ", ".join(f"{name} {ms:g}" for name, ms in given.as_ms().items()) + " ms"

    def key(self, row: Row, codec: str) -> tuple[Any, ...]:
        """What tells a measurement from others, but for the number of its run; as in _KEY."""
        keyed = bool(self.options.key and row.radio is not None)
        return row.name, row.seconds, codec, self.costs(row), self.stream, self.options.device, self.footage, keyed

    @cached_property
    def model_hash(self) -> str:
        """The hash of the model: trained anew, it is another. Raises CommandError."""
        name: str = self.options.model
        with for_the_user(OSError, KeyError, ValueError, of=f"--model: {name}"):
            folder = find_model(name.removesuffix(FOOT_SUFFIX))
            return str(json.loads((folder / "model.json").read_text(encoding="utf-8"))["model_hash"])

    @property
    def stream(self) -> str:
        """The model by its hash, and whether its stream has foot bits. Raises CommandError."""
        return self.model_hash + (FOOT_SUFFIX if self.options.model.endswith(FOOT_SUFFIX) else "")

    @cached_property
    def footage(self) -> str:
        """A digest of the video. Raises FootageError."""
        return file_digest(self.video)

    @cached_property
    def reader(self) -> Reader:
        """The model, loaded at its first use."""
        return Reader.load(self.options.model, self.options.device, Store(self.store), threads=1)

    def jobs(self) -> list[tuple[Row, str, int]]:
        """(row, codec, run number) of everything not measured yet; none slows another by running beside it."""
        done = {(*(part[name] for name in _KEY), part["run"]) for part in self.known}
        every = product(range(self.options.runs), self.rows, self.codecs)
        return [
            (row, name, number)
            for number, row, name in every
            if (row.radio is None or name in BLOCKS)  # pictures have no radio to go over
            and (*self.key(row, name), number) not in done
        ]

    @staticmethod
    def title(row: Row, codec: str, number: int) -> str:
        """A job in words."""
        return f"{row.name} {codec} run {number + 1}"

    def measure_stubbornly(self, row: Row, codec: str, number: int, tell: Callable[[float], None]) -> None:
        """`measure`, begun again where its sessions did not find each other: at 20 % loss a handshake may fail."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self.measure(row, codec, number, tell)
            except ChildError as error:
                print(f"semhier measure link: {error} (attempt {attempt} of {ATTEMPTS})", file=sys.stderr)
        self.failures += 1
        return None

    def measure(self, row: Row, codec: str, number: int, tell: Callable[[float], None]) -> None:
        """One run of a codec on a link of its own. Raises ChildError."""
        clip = self.folder / f"clip-{self.footage}-{row.frames_per_second:g}.npy"
        if not clip.is_file():
            length = 10.0 if row.frames_per_second <= 10 else 2.0
            make_clip(self.video, row.frames_per_second, max(length, 3.0 / row.frames_per_second), clip)
        link = replace(parse_link(row.link), seed=number + 1)
        radio = None if row.radio is None else replace(row.radio, seed=number + 1)
        plan = self.plan(row, codec, clip)
        others = radio is not None and radio.others > 0.0
        alone = self._alone(row) if others else {}
        traffic: Traffic | None = None
        with ExitStack() as stack, Supervisor(self.folder) as children:
            pair = stack.enter_context(Pair(children, f"{codec}-{number}", plan, link, radio))
            if others:
                assert radio is not None
                assert pair.radio is not None
                devices = pair.radio.other_devices
                traffic = Traffic(children, f"{pair.name}-others", devices, radio.others, row.seconds)
            play(children, [pair], row.seconds, self.title(row, codec, number), tell, others=traffic)
        part = {**dict(zip(_KEY, self.key(row, codec), strict=True)), "run": number}
        part |= Figures(self.reader, row, pair, link).all()
        if traffic is not None:
            part["others"] = delays_of(traffic.delays(), alone, traffic.offered, row.seconds)
        self.known.append(part)
        with self.parts.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(part) + "\n")

    def _alone(self, row: Row) -> dict[int, float]:
        """What the messages of others take over the row's line without us. Raises ChildError."""
        assert row.radio is not None
        with RadioEmulator(row.radio) as radio, Supervisor(self.folder) as children:
            traffic = Traffic(children, "alone", radio.other_devices, row.radio.others, row.seconds)
            traffic.start()
            traffic.go()
            finished = (traffic.pilot,)
            children.wait_until(
                lambda: not children.running(traffic.pilot), row.seconds + 30.0, "others alone", finished
            )
            time.sleep(0.5)
            traffic.end()
        return traffic.delays()

    def plan(self, row: Row, codec: str, clip: Path) -> dict[str, Any]:
        """What the processes of a codec are to do; a baseline's setting is searched for once and kept."""
        plan: dict[str, Any] = {
            "codec": codec,
            "setting": {},
            "clip": str(clip),
            "seconds": row.seconds,
            "frames_per_second": row.frames_per_second,
            "cameras": [f"cam{place}" for place in range(len(row.weights))],
            "weights": list(row.weights),
            "model": str(self.options.model),
            "device": self.options.device,
            "budget": BUDGET_SHARE * parse_link(row.link).rate_bps / 8,
            "store": str(self.store),
            "costs": asdict(FREE),  # in a real run they are real
            "memory": row.memory and codec == "semhier",
        }
        given: Costs | None = FREE if row.encoded_before else self.options.costs
        if given is not None:
            plan |= {"imagined": True, "costs": asdict(given)}
        if row.radio is not None:  # its ends are set as their parameters would
            plan |= radio_plan(row.radio, check=row.check) | (
                {"key": bytes(range(16)).hex()} if self.options.key else {}
            )
        cameras = clips(plan)
        if given is not None:  # the processes find here what was made before
            encode_before(self.reader, cameras, whole=codec == "semhier")
        if codec not in BLOCKS:
            plan |= self._setting(row, codec, cameras)
        return plan

    def _setting(self, row: Row, codec: str, cameras: Sequence[Any]) -> dict[str, Any]:
        """A baseline's best setting for the row's link: searched for once, and kept."""
        costs: Costs = self.options.costs or Costs()
        task = Task((), row.link, (codec,), costs=costs, max_rate=row.frames_per_second, finalists=1)

        def searched() -> dict[str, Any]:
            found: Any = make_stream(codec, task, self.reader, costs, cameras)
            return {"setting": asdict(found.how), "words": found.setting}

        key = digest("2", codec, row.name, row.seconds, costs.as_ms(), self.stream, self.footage)
        told: dict[str, Any] = self.reader.store.made("setting", key, searched)
        return told

    def result(self) -> dict[str, Any]:
        """The table: for each link and codec the medians over its runs."""
        rows = []
        for row in self.rows:
            for codec in CODECS:
                wanted = self.key(row, codec)
                parts = [part for part in self.known if tuple(part[name] for name in _KEY) == wanted]
                if parts:
                    told = {"link": row.name, "codec": codec, "costs": self.costs(row), "runs": len(parts)}
                    rows.append({**told, **_medians(parts)})
        machine = f"{processor()}, Python {platform.python_version()}"
        costs: Costs | None = self.options.costs
        about: dict[str, Any] = {"model": self.options.model, "model_hash": self.model_hash}
        about |= {"video": self.video.name, "machine": machine, "left_out": self.left_out}
        about["costs"] = "measured on this machine" if costs is None else "given"
        return {"rows": rows, **about, **({} if costs is None else {"costs_ms": costs.as_ms()})}


class Figures:
    """The figures of one codec's run."""

    def __init__(self, reader: Reader, row: Row, pair: Pair, link: LinkProfile) -> None:
        self.keyed = "key" in pair.plan
        self.reader, self.row, self.pair, self.link = reader, row, pair, link
        self.cameras = clips(pair.plan)
        self.sent, self.told = read_log(pair.log["send"])
        real = pair.plan["codec"] not in BLOCKS and not pair.plan.get("imagined")  # imagined, it is in the answers
        self.detector = reader.measured_costs(self.cameras[0]).detect if real else 0.0
        stream = None if pair.plan["codec"] in BLOCKS else pictures_of(pair.plan)
        answers = answers_of(pair.log["receive"], self.cameras, self.told["start"], stream)
        self.first: dict[tuple[int, int], Answer] = {}
        self.best: dict[tuple[int, int], Answer] = {}
        for item in answers:
            self.first.setdefault((item.camera, item.number), item)
            self.best[item.camera, item.number] = item

    def all(self) -> dict[str, Any]:
        """All that the row says of the codec."""
        row, offered = self.row, sum(map(len, self.cameras))
        late = {key: self._ms(item) for key, item in self.first.items()}
        part: dict[str, Any] = {
            "coarse_share": round(len(late) / max(1, offered), 4),
            "coarse_ms": delays(list(late.values())),
            "coarse_ap50": self._agreement(),
        }
        if self.pair.radio is not None:
            part["radio"] = self._air()
        if self.link.steps:
            part["phases"] = self._phases()
        if self.link.outages:
            part["after_outage"] = self._after_outage(self.link.outages[-1][1])
        if self.pair.plan["codec"] in BLOCKS:
            part |= self._blocks()
        else:
            part["setting"] = self.pair.plan["words"]
        wire = sum(entry[3] for entry in self.pair.datagrams)
        return part | {"wire_bytes_per_s": round(wire / row.seconds)}

    def _ms(self, item: Answer) -> float:
        """From a frame's stamp to its reading."""
        return (item.ready + self.detector) * 1e3 - item.stamp_ns / 1e6

    def _agreement(self) -> float | None:
        """Coarse AP50 of the frames that arrived, against the detector on the same frames uncompressed."""
        pairs = [
            (item.detections, self.reader.reference(self.cameras[place], number))
            for (place, number), item in self.best.items()
        ]
        found = Matching().paired(pairs, 0).value() if pairs else None
        return None if found is None else round(found, 4)

    def _blocks(self) -> dict[str, Any]:
        """What the ends of the measured link told."""
        start = self.told["start"]
        encoded = {(int(entry["camera"].removeprefix("cam")), entry["frame"]): entry for entry in self.sent}
        lost = sum(self._in_outage((entry["encoded"] - start) / 1e9) for entry in encoded.values())
        return {
            "coarse_share_of_sent": round(len(self.first) / max(1, len(encoded) - lost), 4),
            "encode_ms": delays([(entry["encoded"] - entry["begun"]) / 1e6 for entry in encoded.values()]),
        }

    def _air(self) -> dict[str, Any]:
        """What was on the air: shares of the run, and what surrounds a coarse block there."""
        radio = self.pair.radio
        assert radio is not None
        ends = [radio.counters(end) for end in (0, 1)]
        seconds = max(radio.elapsed, 1.0)
        rate, profile = radio.profile.bytes_per_second, radio.profile
        proof = 4 if self.keyed else self.row.check // 8
        framing = TUNNEL_BYTES if profile.framing == MAVLINK else 0 if profile.framing == "kiss" else 2
        return {
            "sender": ends[0],
            "receiver": ends[1],
            "sender_air_share": round(ends[0].get("bytes", 0) / rate / seconds, 4),
            "receiver_air_share": round(ends[1].get("bytes", 0) / rate / seconds, 4),
            "bytes_around_a_coarse_block": 2 + proof + self.keyed + framing,
            "largest_frame": max((one.size for one in radio.log if not one.other), default=0),
        }

    def _in_outage(self, at: float) -> bool:
        return any(begin <= at < end for begin, end in self.link.outages)

    def _phases(self) -> list[dict[str, float | None]]:
        """Of each part of a run between changes of the link: the latest coarse reading, in all and of frames stamped
        after the part's first second."""
        result = []
        for begin, until in pairwise([0.0, *(when for when, _ in self.link.steps), self.row.seconds]):
            latest = [
                max(
                    (self._ms(one) for one in self.first.values() if begin + settle <= one.stamp_ns / 1e9 < until),
                    default=None,
                )
                for settle in (0.0, 1.0)
            ]
            result.append({"from_s": begin, "latest_ms": latest[0], "latest_ms_after_1s": latest[1]})
        return result

    def _after_outage(self, end: float) -> dict[str, float | None]:
        """Seconds from an outage's end to the first reading of a frame, and the oldest that showed after it (s)."""
        later = [item for item in self.first.values() if item.ready + self.detector >= end]
        if not later:
            return {"first_s": None, "oldest_s": None}
        first = min(item.ready for item in later) + self.detector - end
        return {"first_s": round(first, 3), "oldest_s": round(max(map(self._ms, later)) / 1e3, 3)}


def delays_of(
    beside: dict[int, float], alone: dict[int, float], offered: tuple[int, int], seconds: float
) -> dict[str, Any]:
    """What others' messages took beside us and alone (s by number), and by how much each was later than alone."""
    later = [1e3 * (beside[number] - alone[number]) for number in beside.keys() & alone.keys()]
    return {
        "bytes_per_s": round(offered[1] / seconds),
        "arrived_share": round(len(beside) / max(1, offered[0]), 4),
        "alone_ms": delays([1e3 * delay for delay in alone.values()]),
        "beside_us_ms": delays([1e3 * delay for delay in beside.values()]),
        "later_ms": delays(later),
        "later_by_30_ms_share": round(sum(one > 30.0 for one in later) / max(1, len(later)), 4),
    }


def _medians(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians of numbers, also inside dictionaries and lists; of anything else the first."""
    keys = [key for key in parts[0] if key not in (*_KEY, "run")]
    return {key: _median([part.get(key) for part in parts]) for key in keys}


def _median(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    if not known or isinstance(known[0], (bool, str)):
        return known[0] if known else None
    if isinstance(known[0], (int, float)):
        return round(statistics.median(known), 4)
    if isinstance(known[0], dict):
        return {key: _median([value.get(key) for value in known]) for key in known[0]}
    return [_median([value[place] for value in known if len(value) > place]) for place in range(len(known[0]))]
