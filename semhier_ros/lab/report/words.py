"""Settings and kinds of footage in words, for people."""

from __future__ import annotations

from dataclasses import dataclass

from semhier_ros.link.emulate.profile import LinkProfile


def rate_words(bits: float) -> str:
    """Bits per second: 64 kbit/s."""
    for scale, unit in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")):
        if bits >= scale:
            return f"{bits / scale:g} {unit}"
    return f"{bits:g} bit/s"


def link_words(link: LinkProfile) -> str:
    """A link as the report names it: 64 kbit/s, 50 ms, 5 % loss."""
    parts = [rate_words(link.rate_bps) if link.rate_bps else "no limit", f"{link.delay_s * 1000:g} ms"]
    parts.append(f"{link.loss * 100:g} % loss")
    if link.burst > 1:
        parts.append(f"in bursts of {link.burst:g}")
    if link.jitter_s:
        parts.append(f"{link.jitter_s * 1000:g} ms jitter")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Words:
    """What a report calls things, which differs between scenes with objects and images that are named as a whole.

    `boxes`: whether readings are boxes on the frame. `footage`: what was sent; `same`: when it is sent again. `said`:
    what the semantic blocks say. `judge`: the network that reads. `measured`: a sentence about the measure, {} for the
    figure, with its `short` form, the heading of its plot (`title`), its unit and its key in summary.json. `shown`:
    what the camera sees.
    """

    boxes: bool
    footage: str
    same: str
    refining: str
    said: str
    judge: str
    measured: str
    short: str
    title: str
    unit: str
    key: str
    ceiling: str
    moments: str
    shown: str
    note: str


SCENE = Words(
    boxes=True,
    footage="A street video",
    same="The same video",
    refining="that something is there and where, then what kind it is, then its name; then a picture grows for people. "
    "Boxes are drawn on a pale camera frame for orientation only: that frame was never sent.",
    said="What is there, where, and of which type",
    judge="detector",
    measured="at any instant the newest reading agreed with the street to {}",
    short="agreement with the street",
    title="Agreement with the street, at any instant",
    unit="streaming average precision",
    key="streaming_ap50",
    ceiling="the street moving on between two frames",
    moments="drawn on the street as it is at that very instant: a box beside its vehicle is old news.",
    shown="the street",
    note="Agreement is streaming average precision (Li, Wang, Ramanan 2020): at every instant the newest "
    "reading that has arrived is scored against the street as it is at that instant, with an overlap of 0.5, all "
    "classes of a level together. The street has no labels: the reference is what the same detector reads on "
    "the uncompressed frame of that instant. It says how much of what the detector knows survives the link, not "
    "how good the detector is.",
)
IMAGE = Words(
    boxes=False,
    footage="A slideshow of photos",
    same="The same pictures",
    refining="what kind it is, then which of some hundred, then its class, each with a calibrated probability; then a "
    "picture grows for people.",
    said="What the whole picture shows, down to its class,",
    judge="classifier",
    measured="the newest reading had the right name {} of the time",
    short="right name",
    title="The right name for what is shown, at any instant",
    unit="share of instants with the right name",
    key="streaming_accuracy",
    ceiling="the next photo that came between two frames",
    moments="beside what the camera sees at that very instant, shortly after the photo has changed.",
    shown="what the camera sees",
    note="The right name: at every instant the newest reading that has arrived is compared with what the "
    "same classifier reads on the uncompressed frame of that instant; counted is the share of instants at which the "
    "name is the same at a level. It says how much of what the classifier knows survives the link and how old it is, "
    "not how good the classifier is.",
)
