"""The robot's end of a camera: from what the camera gives to blocks at the link's door. No ROS, no thread, no clock.

The end decides *what* is to be made next; whoever drives it decides how long that takes. Frames are offered when the
camera gives them; `begin` names the next job, if there is one; the job is run; `finish` takes what it made and hands it
to the link. A thread does that in real time (`worker.EncodeWorker`), an event loop with imagined costs in virtual time:

    end.offer(picture, stamp_ns, "lens", now)
    job = end.begin(now)                  # None: nothing to do before end.next_event(now)
    job.run()                             # takes as long as it takes, and touches nothing that others use
    end.finish(job, later)

**Policy.** The newest frame wins; at most `max_rate` a second, and fewer where the link advises so. A frame's semantic
blocks are made first, in as many bytes as the link advises. Its picture follows block by block where it costs the next
frame nothing: while no frame waits, all meaning fits the link, and what is to be made is done before the camera's next
frame comes. After two seconds without any picture one is begun although it may hold up the next frame for a moment, and
after ten although a frame waits. Where the link lets fewer frames pass than the camera gives, names come in more of
them instead of with details, and pictures every ten seconds only. Blocks that a receiver asked for come in between,
oldest request first.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.camera.slots import FrameCache, KeptFrame, RateLimit
from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.calibration import Calibration
from semhier_ros.codec.model import Flow, Motion, PictureFlow, SenderMemory
from semhier_ros.codec.packet import Block, delta_tag
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.link.feedback.sender_control import Advice
from semhier_ros.link.schedule.budget import PerSecond
from semhier_ros.link.schedule.scheduler import BlockLike
from semhier_ros.link.transport import REQUESTS_PER_SECOND

ASKED_FRAMES = 4
"""Frames of which finer blocks are still to be made because somebody asked; beyond it the oldest request goes."""
PICTURE_PATIENCE = 10.0
"""Seconds after which a frame's picture is made although the next frame waits: a busy machine would never make one."""
PICTURE_EVERY = 2.0
"""Seconds after which one is made although it will not be done when the next frame comes."""
LONGEST_GAP = 4.0
"""How many times the usual distance between frames one counts at most, when the next frame is expected by it."""
FRAMES = 0x10000
UNSEEN = 6
"""Pictures whose motion is still to be measured, at most; beyond it the oldest goes unmeasured."""
STAMP_SECONDS = 3.0
"""A clock that steps by more, or runs so much faster or slower than ours, is told at once with a new description: of a
stamp only the bits of the last 18 minutes travel with packets. Half of what a `DecoderEnd` allows."""


class Opened(NamedTuple):
    """A source that is being turned into blocks: `size` (width, height) of the picture whose pixels boxes are in;
    `blocks`, coarse first, each made when it is asked for. May be shorter than the stream's blocks."""

    size: tuple[int, int]
    blocks: Iterator[Block]


class BlocksMaker(Protocol):
    """What turns one camera's sources into blocks: pictures by a codec (`PictureMaker`), or whatever else can.

    `name`, `stream_hash`, `model_hash`, `block_names`, `semantic_blocks`: of the stream, as a receiver must know them.
    `levels`: how many of the semantic blocks give names; those behind them say the same more exactly.
    """

    @property
    def name(self) -> str: ...
    @property
    def stream_hash(self) -> str: ...
    @property
    def model_hash(self) -> str: ...
    @property
    def block_names(self) -> Sequence[str]: ...
    @property
    def semantic_blocks(self) -> int: ...
    @property
    def levels(self) -> int: ...

    def open(self, source: Any, frame: int, stamp_ns: int, max_bytes: int | None) -> Opened:
        """Begins frame number `frame`, of `stamp_ns`. `max_bytes`: what its semantic blocks may take, None for no
        bound; picture blocks are made only if somebody wants them.

        What it raises costs this frame only. Called once for each frame that is sent, in order.
        """
        ...


class Uplink(Protocol):
    """The link as the end sees it: `link.sender.LinkSender`, or `PlainSender`. All methods return at once."""

    def offered(self, camera: str, semantic: Sequence[BlockLike]) -> None: ...
    def submit(
        self, camera: str, frame: int, stamp_ns: int, blocks: Sequence[BlockLike], *, asked: bool = False
    ) -> int: ...
    def meaning(self, camera: str, frame: int, blocks: Sequence[BlockLike]) -> None: ...
    def gone(self, camera: str, frame: int) -> None: ...
    def advice(self, camera: str, wanted: float, given: float = 0.0) -> Advice: ...
    def finest(self, camera: str) -> int: ...
    def set_finest(self, camera: str, index: int | None, seconds: float | None = None) -> None: ...


class PictureCodec(Protocol):
    """The part of a `Codec` that makes blocks of pictures."""

    @property
    def name(self) -> str: ...
    @property
    def stream_hash(self) -> str: ...
    @property
    def model_hash(self) -> str: ...
    @property
    def block_names(self) -> Sequence[str]: ...
    @property
    def semantic_blocks(self) -> int: ...
    @property
    def levels(self) -> int: ...
    def alone(self, memory: SenderMemory, frame: int) -> list[Block]: ...
    def motion(self) -> Motion | None: ...
    def flow(self) -> Flow | None: ...
    def encode_stepwise(
        self,
        image_rgb: NDArray[np.uint8],
        *,
        frame: int,
        max_bytes: int | None,
        motion: Motion | None,
        flow: PictureFlow | None = None,
        stamp_ns: int = ...,
        memory: SenderMemory | None = ...,
        beyond: bool = ...,
    ) -> Iterator[Block]: ...


class PictureMaker:
    """Blocks of one camera's pictures by a codec, with a memory of motion, for what moves is important. `to_rgb`:
    gives H,W,3 uint8 RGB of a source; the source itself if left out. `memory`: of what the receiver remembers, None
    for frames that each stand alone; may be changed between frames. measure: how camera and objects move is measured in
    every picture (`watch`) and told with those that are sent."""

    def __init__(
        self,
        codec: PictureCodec,
        to_rgb: Callable[[Any], NDArray[np.uint8]] = lambda picture: picture,
        memory: SenderMemory | None = None,
        *,
        measure: bool = False,
    ) -> None:
        self.memory = memory
        self._flow = codec.flow() if measure else None
        self._unseen: deque[tuple[Any, int]] = deque(maxlen=UNSEEN)
        self._seen: tuple[Any, NDArray[np.uint8]] | None = None
        self._codec, self._motion, self._to_rgb = codec, codec.motion(), to_rgb
        self.name, self.stream_hash, self.model_hash = codec.name, codec.stream_hash, codec.model_hash
        self.block_names, self.semantic_blocks = tuple(codec.block_names), codec.semantic_blocks
        self.levels = codec.levels

    def open(self, source: Any, frame: int, stamp_ns: int, max_bytes: int | None) -> Opened:
        self.look()
        seen, self._seen = self._seen, None
        rgb = seen[1] if seen is not None and seen[0] is source else self._to_rgb(source)
        more = with_memory(self.memory, stamp_ns)
        if self._flow is not None:
            more["flow"] = self._flow.of(stamp_ns)
        steps = self._codec.encode_stepwise(
            rgb, frame=frame, max_bytes=max_bytes, motion=self._motion, beyond=True, **more
        )
        return Opened((rgb.shape[1], rgb.shape[0]), steps)

    def alone(self, frame: int) -> list[Block]:
        """What a frame's delta says in blocks that refer to nothing (`Codec.alone`)."""
        return [] if self.memory is None else self._codec.alone(self.memory, frame)

    def watch(self, source: Any, stamp_ns: int) -> None:
        """Takes note of a picture of the camera, each of which is to be looked at; from any thread, at once."""
        if self._flow is not None:
            self._unseen.append((source, stamp_ns))

    @property
    def behind(self) -> bool:
        """Whether pictures are noted that nobody has looked at."""
        return bool(self._unseen)

    def look(self) -> None:
        """Measures how camera and objects move in the pictures that were noted, each converted once. One that cannot be
        read is passed over: `open` says what is wrong with it."""
        while self._flow is not None and self._unseen:
            source, stamp_ns = self._unseen.popleft()
            with suppress(Exception):
                rgb = self._to_rgb(source)
                self._seen = (source, rgb)
                self._flow.watch(rgb, stamp_ns)


def with_memory(memory: SenderMemory | None, stamp_ns: int) -> dict[str, Any]:
    """What `encode_stepwise` is told besides, where there is a memory."""
    return {} if memory is None else {"memory": memory, "stamp_ns": stamp_ns}


@dataclass(slots=True)
class EncoderSettings:
    """What may change while an end runs. `max_rate`: frames a second at most, 0 for all. `keep_frames`: frames of which
    a receiver may ask for more (0: none). `accept_requests`: whether it may at all. `waiting`: frames that may wait,
    the oldest of which goes for a newer one; more than 1 only where making one takes next to nothing."""

    max_rate: float = 0.0
    keep_frames: int = 8
    accept_requests: bool = True
    waiting: int = 1


@dataclass(slots=True)
class _Current(KeptFrame):
    """The frame in the making: `wanted` blocks of it, `pictures` made so far, when it was begun, and whether the link
    lets fewer frames pass than come (`thin`)."""

    wanted: int = 0
    pictures: int = 0
    begun: float = 0.0
    thin: bool = False


class _Pace:
    """When the camera's next frame is expected."""

    def __init__(self) -> None:
        self._newest: float | None = None
        self._period = 0.0

    def seen(self, now: float) -> None:
        """A frame came."""
        if self._newest is not None:
            gap = now - self._newest
            if self._period:  # a pause says little of the pace
                gap = min(gap, LONGEST_GAP * self._period)
            self._period += (0.2 if self._period else 1.0) * (gap - self._period)
        self._newest = now

    @property
    def rate(self) -> float:
        """Frames a second that come, 0 while nobody knows."""
        return 1.0 / self._period if self._period else 0.0

    def above(self, rate: float) -> bool:
        """Whether more than `rate` frames a second come."""
        return 0.0 < self._period * rate < 1.0

    def next(self, now: float) -> float:
        """When the next one comes, not before `now`; never where no second frame has come yet."""
        if self._newest is None or not self._period:
            return float("inf")
        return max(now, self._newest + self._period)


class _Waiting(NamedTuple):
    source: Any
    stamp_ns: int
    frame_id: str


class Job:
    """One thing to be made: `kind` is "meaning" (a new frame's semantic blocks), "picture" (one more block of the frame
    in the making), "asked" (blocks of an older frame) or "watch" (no block: the motion in pictures that were not looked
    at). `run` makes `blocks`; it may raise whatever a maker raises.

    `first`: whether the picture's networks run in it. `begun`: when it was handed out (s). `tag`: that of deltas, one
    of which is all the meaning of its frame.
    """

    def __init__(
        self,
        kind: str,
        frame: KeptFrame,
        count: int,
        begun: float,
        opens: Callable[[], Opened] | None = None,
        waiting: _Waiting | None = None,
        first: bool = False,
        tag: int | None = None,
        look: Callable[[], None] | None = None,
    ) -> None:
        self.kind, self.frame, self.begun, self.first, self._look = kind, frame, begun, first, look
        self._count, self._opens, self.waiting, self._tag = count, opens, waiting, tag
        self.blocks: list[Block] = []
        self.size = (0, 0)

    def run(self) -> None:
        """Makes the blocks."""
        if self._look is not None:
            self._look()
        if self._opens is not None:
            opened = self._opens()
            self.size, self.frame.steps = opened.size, opened.blocks
        steps = self.frame.steps
        self.blocks = []
        for block in () if steps is None else islice(steps, self._count):
            self.blocks.append(block)
            if block.stream == self._tag:
                break


class EncoderEnd:
    """One camera's sending end; see the module's text for how it is driven and what it decides.

    `camera`: its name. `maker`: what makes blocks. `link`: where they go. `announce(info, changed)`: called with the
    stream's description after each frame; `changed` when it is to be told at once. `first_frame`: number
    of the first frame (0..65535): a restarted encoder must not look like late frames of the old one. `count(name)`
    hears of what happens: images, images_skipped, encoded, pictures_skipped, requests_too_late, requests_honoured;
    `report(kind, text)` of what the operator may want to know, to be counted under its kind: requests_refused.

    `offer` and `request` may be called from any thread; `begin`, `finish`, `failed` from one. `now`: seconds of one
    clock that never decreases. `info`: the description last announced; `calibration`: what it says of the lens from the
    next frame on, None for nothing; `encode_seconds`: what the last frame's meaning took; `wished_rate`: frames
    a second that camera and link would have, 0 while nobody knows; `next_frame`: number of the next frame.
    """

    def __init__(
        self,
        camera: str,
        maker: BlocksMaker,
        link: Uplink,
        announce: Callable[[StreamInfo, bool], None],
        settings: EncoderSettings | None = None,
        *,
        first_frame: int = 0,
        count: Callable[[str], None] | None = None,
        report: Callable[[str, str], None] | None = None,
    ) -> None:
        self.camera, self.maker, self.settings = camera, maker, settings or EncoderSettings()
        self._link, self._announce = link, announce
        self.counters: Counter[str] = Counter()
        self._count = count or self._own_count
        self._report = report or (lambda kind, text: self._count(kind))
        self._delta_tag = delta_tag(int(maker.stream_hash[:4], 16))
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._current: _Current | None = None
        self._cache = FrameCache(self.settings.keep_frames)
        self._requests = PerSecond(REQUESTS_PER_SECOND)
        self._asked: deque[tuple[int, int, int]] = deque(maxlen=ASKED_FRAMES)
        self._limit = RateLimit()
        self._pace = _Pace()
        self._picture_seconds = {True: 0.0, False: 0.0}
        self._picture_made: float | None = None
        self.next_frame = first_frame % FRAMES
        self.info: StreamInfo | None = None
        self._told = (0, 0.0)
        self.calibration: Calibration | None = None
        self.encode_seconds = self.wished_rate = 0.0

    # -- in -----------------------------------------------------------------------------------------------------------

    def offer(self, source: Any, stamp_ns: int, frame_id: str, now: float) -> None:
        """The camera gave `source` (what the maker understands); one that waits is replaced.

        `frame_id`: of its coordinates, as `StreamInfo` takes it.
        """
        self._count("images")
        watch = getattr(self.maker, "watch", None)
        if watch is not None:
            watch(source, stamp_ns)
        with self._lock:
            self._pace.seen(now)
            while len(self._waiting) >= max(1, self.settings.waiting):
                self._waiting.popleft()
                self._count("images_skipped")
            self._waiting.append(_Waiting(source, stamp_ns, frame_id))
            if self._picture_made is None:
                self._picture_made = now

    def forget(self) -> None:
        """Drops the frame that waits and the one in the making: a stop, or a camera that begins anew."""
        with self._lock:
            self._waiting.clear()
            self._current = self._picture_made = None

    def request(self, request: BlockRequest, now: float) -> None:
        """A receiver asks for more, or less: so many times a second at most, whatever brings its requests."""
        with self._lock:
            taken = self._requests.take(now)
        if not taken:
            self._report("requests_refused", f"block request refused: more than {REQUESTS_PER_SECOND} in a second")
            return
        if not self.settings.accept_requests:
            self._report("requests_refused", "block request refused: accept_requests is false")
            if request.frame is not None:
                self._link.gone(self.camera, request.frame)
            return
        number, finest = request.frame, request.finest
        if number is None:
            self._link.set_finest(self.camera, finest, request.duration_ms / 1000 or None)
            self._count("requests_honoured")
            return
        with self._lock:
            kept = self._cache.get(number)
            held = [] if kept is None else list(kept.blocks)
            if kept is not None and self._made(held) <= min(finest, len(self.maker.block_names) - 1):
                self._asked.append((number, kept.stamp_ns, finest))
        if kept is None:
            self._too_late(number)
            return
        alone = getattr(self.maker, "alone", None)
        if finest >= self.maker.semantic_blocks and held and held[0].stream == self._delta_tag and alone is not None:
            self._link.meaning(self.camera, number, alone(number))
        self._link.submit(self.camera, number, kept.stamp_ns, [one for one in held if one.index <= finest], asked=True)
        self._count("requests_honoured")

    def heard(self, memory: bytes) -> bool:
        """What a receiver's report says of its memory; may be called from any thread. False where no such state was
        sent."""
        remembers: SenderMemory | None = getattr(self.maker, "memory", None)
        if remembers is None:
            return True
        known = remembers.heard(memory)
        self._count("acknowledged" if known else "acknowledged_unknown")
        return known

    # -- what to do next ----------------------------------------------------------------------------------------------

    def next_event(self, now: float) -> float | None:
        """When `begin` may have a job (not before `now`), None until something is offered or asked for.

        To be asked while no job runs.
        """
        with self._lock:
            if self._current is not None or self._asked or getattr(self.maker, "behind", False):
                return now
            return max(now, self._limit.due) if self._waiting else None

    def begin(self, now: float) -> Job | None:
        """The next thing to make, None when there is none at `now`."""
        with self._lock:
            job = self._go_on(now) or self._answer(now)
            if job is None and (not self._waiting or self._limit.waits(now)) and getattr(self.maker, "behind", False):
                job = Job("watch", KeptFrame(-1, 0, [], None), 0, now, look=getattr(self.maker, "look"))  # noqa: B009
            if job is not None or not self._waiting or self._limit.waits(now):
                return job
            waiting = self._waiting.popleft()
        settings, semantic = self.settings, self.maker.semantic_blocks
        advice = self._link.advice(self.camera, settings.max_rate, self._pace.rate)
        self._limit.passed(advice.frames_per_second, now)
        remembers: SenderMemory | None = getattr(self.maker, "memory", None)
        if remembers is not None:
            remembers.delta_bytes = advice.delta_bytes
        self.wished_rate = min(self._pace.rate, advice.frames_per_second or self._pace.rate)
        thin = 0 < advice.frames_per_second != settings.max_rate and self._pace.above(advice.frames_per_second)
        number, most = self.next_frame, advice.semantic_bytes
        room = len(self.maker.block_names) if most is None else semantic  # no picture where meaning hardly fits
        wanted = min(self._link.finest(self.camera) + 1, room)
        kept = settings.keep_frames and settings.accept_requests
        frame = _Current(number, waiting.stamp_ns, [], None, wanted=wanted, begun=now, thin=thin)
        opens = lambda: self.maker.open(waiting.source, number, waiting.stamp_ns, most)  # noqa: E731
        return Job(
            "meaning", frame, semantic if kept else min(wanted, semantic), now, opens, waiting, tag=self._delta_tag
        )

    def finish(self, job: Job, now: float) -> None:
        """Takes what `job`, which was run, has made by `now`."""
        frame = job.frame
        if job.kind == "meaning":
            self._finish_meaning(job, now)
            return
        if job.kind == "watch":
            return
        with self._lock:
            frame.blocks += job.blocks
            if isinstance(frame, _Current) and job.kind == "picture":
                self._picture_made = now
                self._picture_seconds[job.first] = now - job.begun
                frame.pictures += 1
                if not job.blocks or frame.pictures >= frame.wanted - self.maker.semantic_blocks:
                    self._current = None
        if job.kind == "asked" and not job.blocks:
            self._too_late(frame.number)
        self._link.submit(self.camera, frame.number, frame.stamp_ns, job.blocks, asked=job.kind == "asked")

    def failed(self, job: Job) -> None:
        """`job` raised: its frame is given up."""
        with self._lock:
            job.frame.steps = None
            if job.frame is self._current:
                self._current = None

    # -- inside -------------------------------------------------------------------------------------------------------

    def _own_count(self, name: str) -> None:
        self.counters[name] += 1

    def _go_on(self, now: float) -> Job | None:
        """More of the picture of the frame in the making, unless the next frame's meaning comes before it."""
        frame = self._current
        if frame is None:
            return None
        first = frame.pictures == 0
        next_meaning = max(self._limit.due, now if self._waiting else self._pace.next(now))
        patience = 0.0
        if self._waiting and next_meaning <= now:
            patience = PICTURE_PATIENCE
        elif now + self._picture_seconds[first] > next_meaning:
            patience = PICTURE_EVERY
        if patience and not (first and self._without_picture(frame) >= patience):
            if first:
                self._count("pictures_skipped")
            self._current = None
            return None
        return Job("picture", frame, 1, now, first=first)

    def _without_picture(self, frame: _Current) -> float:
        """Seconds since the last picture, as a frame was begun."""
        return 0.0 if self._picture_made is None else frame.begun - self._picture_made

    def _answer(self, now: float) -> Job | None:
        """Blocks that somebody asked for and that no frame had a use for."""
        while self._asked:
            number, stamp_ns, finest = self._asked.popleft()
            frame = self._cache.get(number)
            if frame is None or frame.steps is None or frame.stamp_ns != stamp_ns:
                self._too_late(number)
                continue
            made = self._made(frame.blocks)
            if finest >= made:
                return Job("asked", frame, finest + 1 - made, now, first=made <= self.maker.semantic_blocks)
        return None

    def _too_late(self, number: int) -> None:
        """Blocks of a frame were asked for that is kept no longer, or has no more: whoever asked hears of it."""
        self._count("requests_too_late")
        self._link.gone(self.camera, number)

    def _made(self, blocks: Sequence[Block]) -> int:
        """How far a frame's blocks are made, as the index of the next; a delta is all semantic ones."""
        if not blocks:
            return 0
        last = blocks[-1]
        return self.maker.semantic_blocks if last.stream == self._delta_tag else last.index + 1

    def _finish_meaning(self, job: Job, now: float) -> None:
        frame = job.frame
        assert isinstance(frame, _Current)
        assert job.waiting is not None
        self.encode_seconds = now - job.begun
        self._describe(job.size, job.waiting.frame_id, frame.stamp_ns, now)
        if frame.thin and self._without_picture(frame) < PICTURE_PATIENCE:
            if frame.wanted > self.maker.semantic_blocks:
                self._count("pictures_skipped")
            frame.wanted = min(frame.wanted, self.maker.levels)
        wanted = job.blocks[: frame.wanted]
        self._link.offered(self.camera, wanted)
        self._link.submit(self.camera, frame.number, frame.stamp_ns, wanted)
        settings = self.settings
        with self._lock:
            frame.blocks = job.blocks
            self._cache.frames = settings.keep_frames
            if settings.accept_requests:
                self._cache.put(frame)
            self.next_frame = (frame.number + 1) % FRAMES
            more = frame.wanted > self.maker.semantic_blocks
            self._current = frame if more else None
        self._count("encoded")
        if job.blocks and job.blocks[0].stream == self._delta_tag:
            self._count("deltas")

    def _describe(self, size: tuple[int, int], frame_id: str, stamp_ns: int, now: float) -> None:
        """Announces the stream; as changed with its first frame, whenever anything but its stamp changes, and when
        stamps leave our clock's pace."""
        old, maker = self.info, self.maker
        self.info = info = StreamInfo(
            camera=self.camera,
            frame_id=frame_id,
            width=size[0],
            height=size[1],
            model=maker.name,
            stream_hash=maker.stream_hash,
            model_hash=maker.model_hash,
            stamp_ns=max(0, stamp_ns),
            calibration=self.calibration,
        )
        changed = old is None or replace(old, stamp_ns=info.stamp_ns) != info
        stamp, at = self._told
        changed |= abs((stamp_ns - stamp) / 1e9 - (now - at)) > STAMP_SECONDS
        if changed:
            self._told = (stamp_ns, now)
        self._announce(info, changed)
