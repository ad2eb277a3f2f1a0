"""What the diagnostics say: levels and sentences from figures. No ROS beyond the levels' constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus

from semhier_ros.camera.fleet import Figures
from semhier_ros.link.feedback.sender_control import LinkEstimate
from semhier_ros.link.receiver import StreamBooks
from semhier_ros.link.schedule.status import SchedulerStatus

CLOCK_SECONDS = 10.0
"""After so many seconds a clock offset that is still unknown is worth a warning."""

FUTURE_SECONDS = 60.0
"""Stamps so far ahead of the clock are no clock's drift, but a clock that does not run."""

PAST_SECONDS = 60.0
"""No link's latency is so long: such stamps are of another clock, or of a recording."""

SILENT_SECONDS = 2.0
"""A camera that gives nothing for so long is silent."""

SLOW_SHARE = 0.7
"""A computer that encodes less than this share of the frames that it should is too slow for them."""

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
Verdict = tuple[bytes, str, dict[str, object]]
"""(level, sentence, figures)."""


def encoder(
    *,
    topic: str,
    wanted: str,
    silence: str,
    place: str,
    image_age: float | None,
    running: float,
    frames_per_second: int,
    wished_rate: float,
    encode_seconds: float,
    relief: str,
    status: SchedulerStatus,
    late: int,
    blocks: Sequence[str],
    transport: Any,
    words: str,
    estimate: LinkEstimate | None,
    spoilt: Mapping[str, int],
    counts: Mapping[str, int],
) -> Verdict:
    """The encoder's state. Ages in seconds; `running` seconds since activation; `counts` since the process's start.

    `wanted`: what comes on `topic`, in a word. `silence`: why nothing comes, as `silence.why_silent` says.
    `place`: where the receiver is looked for. `wished_rate`: frames a second that camera and link would have. `relief`:
    what makes encoding faster. `late`: coarsest blocks that were too late to leave in the last second.
    `words`: the link in a sentence. `estimate`: what the receiver's reports say, None where there are none.
    `spoilt`: as `spoilt_frames` says.
    """
    budget = "no limit" if not status.budget else f"{status.budget / 125:.0f} kbit/s"
    details: dict[str, object] = {
        "frames per second": frames_per_second,
        "encode time [ms]": f"{encode_seconds * 1000:.0f}",
        "used [kbit/s]": f"{status.used / 125:.1f}",
        "budget": budget,
        "datagrams sent": status.datagrams,
        "bytes sent": status.wire_bytes,
    }
    for name, level in zip(blocks, status.levels, strict=False):
        causes = ", ".join(f"{number} {cause}" for cause, number in level.causes.items() if number)
        dropped = f"{level.dropped} dropped" + (f" ({causes})" if causes else "")
        details[f"block {name}"] = f"{level.sent} sent, {level.repeated} repeats, {level.queued} waiting, {dropped}"
    details |= {f"link {name}": number for name, number in transport.counters.items()}
    if estimate is not None:
        details |= _estimated(estimate)
    details |= counts
    if transport.trouble:
        return ERROR, transport.trouble, details
    if image_age is None:
        waiting = f"no {wanted} on {topic} since {running:.0f} s: {silence}"
        return (ERROR if running > 10 else WARN), waiting, details
    if image_age > SILENT_SECONDS:
        silent = f"the last {wanted} on {topic} came {image_age:.0f} s ago: {silence}"
        return (ERROR if image_age > 20 else WARN), silent, details
    if spoilt.get("bad_images"):
        return ERROR, f"images on {topic} cannot be read ({counts['bad_images']} so far; the log says why)", details
    if spoilt.get("failed_frames"):
        return ERROR, f"frames cannot be encoded ({counts['failed_frames']} so far; the log says why)", details
    if not transport.connected:
        return WARN, f"no receiver is connected ({place})", details
    sending = f"{frames_per_second} frames/s; {words}"
    coarse = status.levels[0]
    if late:
        thin = "budget or link are too thin for the coarsest block"
        return WARN, f"{thin}: {late} were too late to leave in the last second; {sending}", details
    if coarse.queued > max(2, frames_per_second):
        return WARN, f"the budget is too small for the coarsest block: {coarse.queued} wait; {sending}", details
    if encode_seconds * wished_rate > 1.0 and frames_per_second < SLOW_SHARE * wished_rate:
        slow = f"encoding takes {encode_seconds * 1000:.0f} ms, too long for {wished_rate:.0f} frames/s"
        return WARN, f"{slow}: {relief}; {sending}", details
    if estimate is not None and estimate.hears and running > CLOCK_SECONDS and estimate.reports == 0:
        guesses = "rate, repair and clock offset are guesses" if estimate.times else "losses are a guess"
        return WARN, f"the receiver reports nothing: {guesses}; {sending}", details
    return OK, sending, details


def spoilt_frames(before: Mapping[str, int], grown: Mapping[str, int]) -> Mapping[str, int]:
    """How many of an encoder's newest frames became nothing, by the names of their counts; empty where one of them was
    encoded. `before`: what was said the last time; `grown`: by how much each count has grown since. A time without
    frames says nothing new."""
    now = {name: grown[name] for name in ("bad_images", "failed_frames") if grown.get(name)}
    if grown.get("encoded"):
        return {}
    return now or before


def _estimated(estimate: LinkEstimate) -> dict[str, object]:
    """What reports say of the link, for people."""
    known = estimate.reports > 0

    def milliseconds(seconds: float | None) -> str:
        return "unknown" if seconds is None or not known else f"{seconds * 1000:.0f}"

    times = {
        "link queue [ms]": milliseconds(estimate.queue_delay),
        "link round trip [ms]": milliseconds(estimate.round_trip),
        "clock offset of the receiver [ms]": milliseconds(estimate.clock_offset),
    }
    return {
        "link rate [kbit/s]": "no limit" if estimate.rate is None else f"{estimate.rate / 125:.0f}",
        "link loss [%]": f"{100 * estimate.loss:.1f}" if known else "unknown",
        "link loss runs [datagrams]": f"{estimate.burst:.1f}" if known else "unknown",
        **(times if estimate.times else {}),
        "coarse repeats": f"{estimate.repair.repeats}, {estimate.repair.gap * 1000:.0f} ms apart",
    }


def decoder(
    *,
    camera: str,
    reading_age: float | None,
    running: float,
    stale_seconds: float,
    latency: float | None,
    readings_per_second: int,
    known: bool,
    silence: str,
    place: str,
    unknown: str | None,
    connected: bool | None,
    trouble: str,
    clash: bool,
    books: StreamBooks | None,
    clocks: bool,
    counts: Mapping[str, int],
) -> Verdict:
    """One camera's state at the decoder: silence shows as age. Ages and latency in seconds.

    `silence`: why nothing is known, where it can be said. `unknown`: the stream's model, where no model reads it.
    `place`: where the sender is looked for. `trouble`: why the link cannot open, else empty. `clash`: whether two
    senders use the camera's name. `books`: what the link received, None with `ros` or before the first packet.
    `clocks`: whether the link measures how far the two ends' are apart.
    """
    age = running if reading_age is None else reading_age
    details: dict[str, object] = {
        "age of the newest reading [s]": "none yet" if reading_age is None else f"{reading_age:.2f}",
        "latency of the newest reading [s]": "none yet" if latency is None else f"{latency:.3f}",
        "readings per second": readings_per_second,
    }
    if connected is not None:
        details["link"] = "connected" if connected else "not connected"
    if clocks:
        clock = None if books is None else books.clock
        offset = "unknown" if clock is None else f"{clock.offset_us / 1000:.0f} +- {clock.error_us / 1000:.0f}"
        details["clock ahead of the encoder's by [ms]"] = offset
    if books is not None:
        details["datagrams"] = f"{books.received} received, {books.lost} lost, {books.duplicates} twice"
        if books.refused:
            details["forged or replayed"] = books.refused
    details |= counts
    if unknown is not None:
        return ERROR, f"encoded by model {unknown}, which none of `models` is: add it there", details
    if trouble:
        return ERROR, trouble, details
    if clash:
        return ERROR, f"two senders use the name {camera}: one is not read; give each its own `camera`", details
    level = ERROR if age > 10 * stale_seconds else WARN
    if connected is False:
        newest = _newest(reading_age, running)
        return level, f"the link is not connected: no sender {place}; {newest}", details
    if not known and counts.get("link refused_envelopes"):
        return ERROR, f"what arrives of camera {camera} is not proven by this end's key: give both ends one", details
    if not known:
        unknown = f"nothing is known of camera {camera} yet, after {running:.0f} s"
        return level, f"{unknown}: {silence}" if silence else unknown, details
    if latency is not None and latency < -FUTURE_SECONDS:
        return WARN, f"readings are stamped {-latency:.0f} s ahead of this node's clock: does /clock run?", details
    if latency is not None and latency > PAST_SECONDS:
        return (
            WARN,
            f"readings are {latency:.0f} s old by their stamps: is it the past of a bag, or a clock that is off?",
            details,
        )
    if age > stale_seconds:
        return level, _newest(reading_age, running), details
    if clocks and connected and running > CLOCK_SECONDS and (books is None or books.clock is None):
        offset = "latencies are as the two clocks have it: their offset is unknown"
        return WARN, f"{readings_per_second} readings/s, newest {age:.1f} s ago; {offset}", details
    return OK, f"{readings_per_second} readings/s, newest {age:.1f} s ago", details


def fleet(
    *, figures: Figures, before: Figures, seconds: float, devices: Mapping[str, str], lost: int, overflow: int
) -> Verdict:
    """The state of what all cameras share, since `before`, `seconds` ago. devices: where each model's networks run.
    lost: devices that were lost since the start. overflow: packets that full queues lost since `before`."""
    batches, batched = figures.batches - before.batches, figures.batched - before.batched
    pictures = figures.pictures - before.pictures
    shares = {
        f"{name} time [ms/s]": f"{(getattr(figures, kind) - getattr(before, kind)) / seconds * 1000:.0f}"
        for name, kind in (("device", "device"), ("entropy coding", "entropy"), ("host", "host"))
    }
    details: dict[str, object] = {
        "blocks per second": f"{(figures.blocks - before.blocks) / seconds:.0f}",
        "readings per second": f"{(figures.readings - before.readings) / seconds:.0f}",
        "pictures per second": f"{pictures / seconds:.1f}",
        **shares,
        "pictures in a batch": f"{batched / batches:.1f}" if batches else "none",
        "queue age [ms]": f"{figures.oldest * 1000:.0f}",
        "device": ", ".join(f"{model}: {device}" for model, device in devices.items()),
        "devices lost": lost,
    }
    if lost:
        return WARN, "a device was lost: its models go on on the CPU until the node is started anew", details
    if overflow:
        return WARN, f"more comes than is decoded: {overflow} packets were dropped", details
    return OK, f"{details['blocks per second']} blocks/s, {details['pictures per second']} pictures/s", details


def _newest(age: float | None, running: float) -> str:
    return f"no reading in {running:.0f} s" if age is None else f"newest reading {age:.1f} s ago"
