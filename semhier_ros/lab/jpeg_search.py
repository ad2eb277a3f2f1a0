"""Which JPEG setting does best over a link: virtual time over the real files, judged by the same detector.

The sender and the way a link delays and loses datagrams are the very code of the real run; only the clock is simulated.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from semhier_ros.lab.baselines.jpeg_stream import Assembler, JpegSender, JpegSetting, decode_jpeg, encoder_of
from semhier_ros.lab.scoring.agreement import Detected, Measure, Received, average_precision, streaming_precision
from semhier_ros.link.emulate.direction import LinkDirection
from semhier_ros.link.emulate.profile import LinkProfile

SCALES = (1.0, 0.75, 0.5, 0.375, 0.25)
QUALITIES = (10, 20, 35, 50, 75)

Detect = Callable[[np.ndarray], Sequence[Detected]]
"""Detections of an HxWx3 uint8 RGB image, in its pixels."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A picture that came through: frame number, its stamp and arrival (ns), its JPEG bytes."""

    number: int
    stamp_ns: int
    arrival_ns: int
    size: int


@dataclass(slots=True)
class Candidate:
    """One setting and what it reached in virtual time.

    `promise`: mean streaming precision if every picture were perfect, times the precision of the detector on a few
    of its pictures. `score`: mean streaming precision over the levels, None while not tried in full.
    """

    setting: JpegSetting
    arrivals: list[Arrival] = field(default_factory=list)
    mean_bytes: float = 0.0
    promise: float = 0.0
    score: float | None = None
    levels: list[float | None] = field(default_factory=list)


def simulate(
    encode: Callable[[int], bytes], stamps: Sequence[int], setting: JpegSetting, link: LinkProfile
) -> Candidate:
    """Sends camera frames stamped `stamps` (ns) over `link` in virtual time with its whole rate as budget.

    `encode`: the JPEG file of frame number n, as `setting` makes it.
    """
    sender = JpegSender(encode, setting, link.rate_bps / 8)
    way = LinkDirection("up", link)
    assembler = Assembler()
    flying: list[tuple[float, int, bytes]] = []
    candidate = Candidate(setting)
    zero, now, place, order = stamps[0], 0.0, 0, 0
    while True:
        departure = sender.next_departure(now)
        camera = (stamps[place] - zero) / 1e9 if place < len(stamps) else None
        times = [time for time in (departure, camera) if time is not None]
        if not times:
            break
        now = max(now, min(times))
        if camera is not None and now >= camera:
            sender.offer(place, stamps[place])
            place += 1
        while (popped := sender.pop(now)) is not None:
            for arrival in way.pass_through(popped[1], now, 0.0)[0]:
                order += 1
                heapq.heappush(flying, (arrival, order, popped[0]))
    while flying:
        arrival, _, payload = heapq.heappop(flying)
        if (whole := assembler.add(payload)) is not None:
            candidate.arrivals.append(Arrival(whole[0], whole[1], zero + round(arrival * 1e9), len(whole[2])))
    sizes = [size for _, _, size in sender.started]
    candidate.mean_bytes = float(np.mean(sizes)) if sizes else 0.0
    return candidate


@dataclass(slots=True)
class Search:
    """The result: the `best` candidate, all that were tried in full (`tried`), and how many were `considered`."""

    best: Candidate
    tried: list[Candidate]
    considered: int


def search(
    images: Sequence[np.ndarray],
    stamps: Sequence[int],
    references: Sequence[Sequence[Detected]],
    world: Sequence[tuple[int, Sequence[Detected]]],
    link: LinkProfile,
    detect: Detect,
    levels: int,
    *,
    detector_ns: int,
    rates: Sequence[float],
    scales: Sequence[float] = SCALES,
    qualities: Sequence[int] = QUALITIES,
    probes: int = 6,
    finalists: int = 5,
    measure: Measure = average_precision,
    progress: Callable[[float], None] | None = None,
) -> Search:
    """The JPEG setting with the best mean streaming precision (or other `measure`) over all levels.

    Every scale x quality x parity x rate is sent in virtual time. What a perfect detector would make of the pictures
    that arrive, times how well the detector does on `probes` pictures of that scale and quality, ranks them; the
    `finalists` first are then judged by the detector on every picture that arrived.

    `references`: detections of each camera frame, uncompressed. `world`: the reference at each instant that is judged.
    `detector_ns`: time that the detector takes at the receiver, added to each arrival. `progress`: given 0 to 1.
    """
    height, width = images[0].shape[:2]
    combinations = [(scale, quality) for scale in scales for quality in qualities]
    probe_numbers = sorted({round(place) for place in np.linspace(0, len(images) - 1, min(probes, len(images)))})
    detections: dict[tuple[float, int, int], Sequence[Detected]] = {}

    def detected(setting: JpegSetting, number: int) -> Sequence[Detected]:
        key = (setting.scale, setting.quality, number)
        if key not in detections:
            image = decode_jpeg(setting.encode(images[number]), width, height)
            detections[key] = () if image is None else detect(image)
        return detections[key]

    candidates = []
    for done, (scale, quality) in enumerate(combinations):
        probe = JpegSetting(scale, quality, 1.0, False)
        encode = encoder_of(images, probe)
        kept = _mean(
            [
                measure([detected(probe, n) for n in probe_numbers], [references[n] for n in probe_numbers], k)
                for k in range(levels)
            ]
        )
        for parity in (False, True):
            for rate in rates:
                candidate = simulate(encode, stamps, JpegSetting(scale, quality, rate, parity), link)
                perfect = [
                    Received(item.stamp_ns, item.arrival_ns + detector_ns, levels - 1, references[item.number])
                    for item in candidate.arrivals
                ]
                candidate.promise = kept * _mean(streaming_precision(perfect, world, levels, measure))
                candidates.append(candidate)
        if progress:
            progress(0.7 * (done + 1) / len(combinations))
    candidates.sort(key=lambda item: (-item.promise, item.mean_bytes))
    tried = _distinct(candidates, finalists)
    for done, candidate in enumerate(tried):
        received = [
            Received(item.stamp_ns, item.arrival_ns + detector_ns, levels - 1, detected(candidate.setting, item.number))
            for item in candidate.arrivals
        ]
        candidate.levels = streaming_precision(received, world, levels, measure)
        candidate.score = _mean(candidate.levels)
        if progress:
            progress(0.7 + 0.3 * (done + 1) / len(tried))
    best = max(tried, key=lambda item: (item.score or 0.0, item.promise))
    return Search(best, tried, len(candidates))


def _distinct(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """The first `count` candidates, at most two of one scale and quality: the finals should not be one setting
    thrice."""
    chosen: list[Candidate] = []
    for candidate in candidates:
        same = [
            c
            for c in chosen
            if (c.setting.scale, c.setting.quality) == (candidate.setting.scale, candidate.setting.quality)
        ]
        if len(same) < 2:
            chosen.append(candidate)
        if len(chosen) == count:
            break
    return chosen


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0
