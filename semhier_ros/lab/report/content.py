"""What a report shows, as plain data: whoever ran something fills this in, `page.py` lays it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from semhier_ros.codec.reading import Detection
from semhier_ros.lab.report.words import SCENE, Words
from semhier_ros.lab.scoring.delivery import BudgetUse, Delivered

LEVEL_COLOURS = ("#c2410c", "#1d4ed8", "#047857", "#a16207", "#be185d", "#0e7490")
DETAIL_COLOUR = "#64748b"
PICTURE_COLOURS = ("#7e22ce", "#9d4edd", "#c084fc")
LOST_COLOUR = "#dc2626"
JPEG_COLOUR = "#57534e"


@dataclass(frozen=True, slots=True)
class BlockKind:
    """One block of the stream: its `name`, what people call it (`title`), its `colour`, the `level` of the taxonomy
    that it names (None for detail and pictures) and whether it refines the `picture` only."""

    name: str
    title: str
    colour: str
    level: int | None = None
    picture: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A frame after one more block: `ms` from stamp to arrival, `block_bytes` of this block and `total_bytes` of the
    frame's payload so far, what is read now, and the picture decoded from this prefix (a WebP or JPEG file)."""

    block: BlockKind
    ms: float
    block_bytes: int
    total_bytes: int
    detections: tuple[Detection, ...]
    picture: bytes


@dataclass(frozen=True, slots=True)
class StripFrame:
    """One frame of the film strip: `seconds` from the start of the run, the camera's image, and its steps as they came.

    `missing`: titles of blocks that did not arrive.
    """

    seconds: float
    width: int
    height: int
    image: bytes
    steps: tuple[Step, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """What one receiver knows at a moment: the newest detections and picture, and how old what they show is (ms).

    `picture` is None while none has arrived; `picture_age_ms` its age.
    """

    detections: tuple[Detection, ...]
    age_ms: float | None
    picture: bytes | None
    picture_age_ms: float | None


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant: the street as it is then, and what each receiver knows of it."""

    seconds: float
    width: int
    height: int
    image: bytes
    truth: tuple[Detection, ...]
    ours: View
    jpeg: View | None


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One frame: seconds from the start of the run, and block name -> ms from stamp to arrival, of those that came."""

    seconds: float
    arrivals: dict[str, float]


@dataclass(frozen=True, slots=True)
class BlockFigures:
    """One block kind over the run: frames whose block was made (`made`), left the sender (`sent`; None if not known)
    and arrived, payload bytes (mean, 95th percentile), and the delays."""

    kind: BlockKind
    made: int
    sent: int | None
    delivered: Delivered
    mean_bytes: float
    p95_bytes: float


@dataclass(frozen=True, slots=True)
class JpegFigures:
    """The JPEG run beside ours. `setting` in words, `searched` how it was chosen, `size` of a picture in pixels.

    `begun`: pictures whose sending began; `pictures`: of all camera frames; `delays_ms` of each; `detector_ms`: what
    the detector takes at the receiver, per picture; `precision`: streaming, per level; `tried`: (setting in words,
    mean bytes, score in virtual time) of the finalists.
    """

    setting: str
    searched: str
    size: tuple[int, int]
    begun: int
    pictures: Delivered
    mean_bytes: float
    wire: BudgetUse
    precision: tuple[float | None, ...]
    delays_ms: tuple[float, ...] = ()
    tried: tuple[tuple[str, float, float | None], ...] = ()
    detector_ms: float = 0.0


@dataclass(slots=True)
class ReportContent:
    """Everything that a report shows. `precision`: streaming, per level, as `words` say; `ceiling`: what it would be if
    every camera frame were read and there at once, with no link and no computing. `node_names`: of every level's nodes,
    by index."""

    link: str
    rate: float
    loss: float
    footage: str
    frames_sent: int
    frames_per_second: float
    level_names: tuple[str, ...]
    blocks: tuple[BlockFigures, ...]
    levels: tuple[Delivered, ...]
    pictures: Delivered
    semantic_bytes: float
    frame_bytes: float
    wire: BudgetUse
    datagrams: dict[str, int]
    precision: tuple[float | None, ...]
    ceiling: tuple[float | None, ...]
    strip: Sequence[StripFrame]
    moments: Sequence[Moment]
    timeline: Sequence[TimelineRow]
    jpeg: JpegFigures | None = None
    facts: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    words: Words = SCENE
    node_names: tuple[tuple[str, ...], ...] = ()

    @property
    def kinds(self) -> tuple[BlockKind, ...]:
        """The block kinds, coarse first."""
        return tuple(figures.kind for figures in self.blocks)


def block_kinds(names: Sequence[str], semantic: int, level_names: Sequence[str]) -> tuple[BlockKind, ...]:
    """The kinds of a codec's blocks with their colours.

    `names`: `codec.block_names`; the first `semantic` of them are not pictures; the first len(level_names) of these
    name the levels.
    """
    kinds = []
    for index, name in enumerate(names):
        if index < min(semantic, len(level_names)):
            colour = LEVEL_COLOURS[index % len(LEVEL_COLOURS)]
            kinds.append(BlockKind(name, level_names[index], colour, level=index))
        elif index < semantic:
            kinds.append(BlockKind(name, name.replace("_", " "), DETAIL_COLOUR))
        else:
            number = index - semantic
            colour = PICTURE_COLOURS[min(number, len(PICTURE_COLOURS) - 1)]
            kinds.append(BlockKind(name, f"picture {number + 1}", colour, picture=True))
    return tuple(kinds)
