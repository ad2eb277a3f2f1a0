"""The real engine of a replay: processes, Zenoh sessions and datagrams through the link emulator, in real time.

semhier runs as real nodes: camera, encoder, thin link, decoder and recorder as processes; what the recorder wrote down
becomes a `Run`, so that measures and report are those of virtual time. The other codecs run as pairs of processes over
the same kind of link, each on one of its own, with the setting that the search in virtual time finds best. One camera.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median_high
from typing import Any

from semhier_ros.codec.compact import STAMP_UNIT_NS, stamp_units
from semhier_ros.codec.packet import Packet
from semhier_ros.command import CommandError
from semhier_ros.footage.bags import camera_info_of, open_bag
from semhier_ros.footage.lens import lens_of, source_size
from semhier_ros.footage.messages import write_camera
from semhier_ros.footage.recording import Recording, read_recording
from semhier_ros.lab.baselines.search import make_stream
from semhier_ros.lab.processes import Supervisor, free_port, node, ros_environment
from semhier_ros.lab.replay.base import Answer, Run, Sent
from semhier_ros.lab.replay.ends import answers_of, read_log
from semhier_ros.lab.replay.pair import Pair, play, radio_plan
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.replay.store import Store
from semhier_ros.lab.replay.task import BLOCKS, Task, check_codecs
from semhier_ros.lab.replay.traffic import Traffic
from semhier_ros.lab.replay.work import (
    OWN_BYTES,
    Result,
    Tell,
    encode_all,
    judge,
    labelled,
    largest_datagram,
    open_cameras,
)
from semhier_ros.lab.scoring.figures import budget_use
from semhier_ros.link.emulate.emulator import LinkEmulator
from semhier_ros.link.emulate.radio import MAVLINK, RadioEmulator, RadioLink, RadioProfile

CAMERA = "camera"
FOLDERS = ("street", "recording", "logs")
THREADS = 1
"""CPU threads of each network: encoder and decoder run at the same time, and more of them only wait for each other."""
START_SECONDS = 60.0
DISCOVERY_SECONDS = 2.5
"""How long the player waits once somebody hears it, for everybody else."""
BEFORE_SECONDS = 0.3
"""So long before the first frame the link begins its run: before, Zenoh's sessions meet over it."""
DRAIN_SECONDS = 2.5
LATE_SECONDS = 0.1
"""So long a datagram may wait for a processor after the encoder took it for sent (`figures.budget_use`)."""
STAGES = {
    "the footage becomes a bag": 2.0,
    "processes start": 5.0,
    "camera > encoder > link > decoder": 26.0,
    "encoding the frames": 15.0,
    "settings of the others": 15.0,
    "the others over the link": 27.0,
}
"""What a run of 20 s does, and for about how many seconds."""


def check_real(task: Task) -> None:
    """Raises CommandError where the real engine cannot run here, or not so."""
    if importlib.util.find_spec("rclpy") is None:
        raise CommandError(
            "the real engine runs ROS 2 nodes and rclpy is not installed here: run `make demo` in a clone"
        )
    check_codecs(task.codecs)
    if not task.budget:
        raise CommandError("--link: the real engine wants a link with a rate, as in 64kbit,50ms,5%")


def run_real(task: Task, out: Path, tell: Tell, camera: Any = None, judged: Any = None) -> Result:
    """Plays the footage through real processes. camera: the footage (None: of the task's bag). judged: the same footage
    at the instants at which readings are judged (None: those of the camera's frames).

    What is played is a copy of the footage, a bag of JPEGs with an ideal lens and new stamps. Labels and lens are those
    of the footage itself. Raises CommandError, BagError or ChildError.
    """
    check_real(task)
    for name in FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    task = replace(task, cache=task.cache or out / "made.sqlite")  # the processes of other codecs read it too
    reader = Reader.load(task.model, task.device, Store(task.cache), THREADS)
    problems: list[str] = []
    if camera is None:
        cameras, problems = open_cameras(task, reader)
        if len(cameras) != 1:
            raise CommandError(f"--engine real plays one camera, found {len(cameras)}: name one with --topics")
        camera = cameras[0]
    if task.ground is not None:
        lens_of(camera, task.lens)  # before the work, not after it
    began = camera.times_ns[0] / 1e9  # the copy's times count from its first frame
    worlds = labelled(task, [camera], reader, problems)
    worlds = [replace(world, instants=world.instants - began) for world in worlds]
    tell("the footage becomes a bag", 0.0)
    write_camera(camera, out / "street", name=CAMERA, force=True)  # JPEG of high quality, as the player wants it
    (street,) = open_bag(out / "street").cameras
    street.info, street.source_size = camera_info_of(camera), source_size(camera)
    costs = task.costs or reader.measured_costs(street)
    result = Result(task, [street], reader, costs, "real", problems, judged, worlds=worlds)
    if "semhier" in task.codecs:
        recording = _drive_nodes(result, out, tell)
        _take_recording(result, recording, out)
    encode_all(reader, [street], tell)
    others = [name for name in task.codecs if name != "semhier"]
    for place, name in enumerate(others):
        tell("settings of the others", place / len(others))
        result.streams[name] = make_stream(name, task, reader, result.costs, [street])
    if others:
        _drive_others(result, out, tell)
    result.runs = {name: result.runs[name] for name in task.codecs}
    judge(result, tell)
    return result


def radio_parameters(radio: RadioProfile, where: str, name: str = "") -> dict[str, object]:
    """A node's parameters at an end of an emulated radio. `where`: the device of a serial port; where frames are
    datagrams the address, and `name` "peer" or "listen"."""
    if radio.datagrams:
        link: dict[str, object] = {"link.transport": "udp", f"link.udp.{name}": where}
        return link | {f"link.radio.{one}": value for one, value in radio.datagram_settings().items()}
    settings = radio.settings()
    if radio.framing == MAVLINK:
        link = {"link.transport": MAVLINK, "link.mavlink.device": where}
        return link | {f"link.mavlink.{one}": value for one, value in settings.items()}
    link = {"link.transport": "serial", "link.serial.device": where, "link.serial.framing": settings.pop("framing")}
    return link | {f"link.radio.{one}": value for one, value in settings.items()}


def encoder_parameters(task: Task, foot_bits: bool) -> dict[str, object]:
    """What a task asks of the encoder node, but for its link's ends; a stream with foot bits or without."""
    finest = {} if task.finest is None else {"finest_block": task.finest}
    return {
        "camera": CAMERA,
        "input": "compressed",
        "model": task.model,
        "foot_bits": foot_bits,
        "device": task.device,
        "threads": THREADS,
        "max_rate": task.max_rate,
        **finest,
        "motion": "on" if task.motion else "off",
        "memory.enabled": task.memory,
        "link.transport": "zenoh",
        "link.budget_kbit": task.budget * 8 / 1000,
        "link.zenoh.listen": [""],
    }


def _drive_nodes(result: Result, out: Path, tell: Tell) -> Recording:
    """Plays the street through encoder, link and decoder into the recorder's bag. Raises ChildError."""
    task, link, seconds = result.task, result.link, result.cameras[0].times_ns[-1] / 1e9
    codec, environment, port = result.reader.codec, ros_environment(), free_port()
    array, block = "semhier_ros/msg/SemanticDetectionArray", "semhier_ros/msg/SemanticBlock"
    topics = [f"{CAMERA}/detections/level_{level} {array}" for level in range(codec.levels)]
    topics += [f"{CAMERA}/semhier/{name} {block}" for name in codec.block_names]
    topics += [f"{CAMERA}/semhier/info semhier_ros/msg/StreamInfo"]
    topics += [f"{CAMERA}/semhier/link_status semhier_ros/msg/LinkStatus"]
    topics += [f"{CAMERA}/image_raw/compressed sensor_msgs/msg/CompressedImage"]
    nodes: dict[str, tuple[str, dict[str, object]]] = {
        "decoder": (
            "models",
            {
                "cameras": [CAMERA],
                "models": [task.model],
                "device": task.device,
                "threads": THREADS,
                "picture": "picture_blocks",
                "keep_frames": 32,
                "republish_blocks": True,
                "memory": task.memory,
                "link.transport": "zenoh",
                "link.zenoh.listen": [f"udp/127.0.0.1:{port}"],
                "link.zenoh.connect": [""],
            },
        ),
        "recorder": ("recording", {"bag": str(out / "recording"), "topics": topics}),
        "encoder": ("model", encoder_parameters(task, codec.foot_bits)),
    }
    tell("processes start", 0.0)
    radio = link.radio if isinstance(link, RadioLink) else None
    on_air = radio is not None and not radio.datagrams
    with ExitStack() as stack:
        emulator: Any
        if radio is not None and on_air:
            emulator = stack.enter_context(RadioEmulator(radio))
            for name, device in zip(("encoder", "decoder"), emulator.devices, strict=True):
                nodes[name][1].update(radio_parameters(radio, device))
        else:
            emulator = stack.enter_context(LinkEmulator(link.without_events, forward_port=port, keep_log=True))
            nodes["encoder"][1]["link.zenoh.connect"] = [f"udp/127.0.0.1:{emulator.listen_port}"]
            if radio is not None:
                at = f"127.0.0.1:{emulator.listen_port}"
                nodes["encoder"][1].update(radio_parameters(radio, at, "peer"))
                nodes["decoder"][1].update(radio_parameters(radio, f"127.0.0.1:{port}", "listen"))
        if radio is not None and radio.duty < 1.0:
            nodes["encoder"][1]["link.coarse_repeats"] = 0
        children = stack.enter_context(Supervisor(out / "logs"))
        for name, (_, parameters) in nodes.items():
            children.start(name, node(f"{name}_node", parameters), environment)
        for name, (ready, _) in nodes.items():
            children.wait_for(name, ready, START_SECONDS)
        if radio is None:  # a radio's ends meet with the first frame
            children.wait_until(
                lambda: emulator.up.delivered >= 3 and emulator.down.delivered >= 2,
                30.0,
                "encoder and decoder connected",
            )
        others = None
        if radio is not None and radio.others:
            flight_seconds = DISCOVERY_SECONDS + seconds + DRAIN_SECONDS
            others = Traffic(children, "others", emulator.other_devices, radio.others, flight_seconds)
            others.start()
        player = {"bag": str(out / "street"), "stamps": "now", "delay_seconds": DISCOVERY_SECONDS, "wait_seconds": 20.0}
        children.start("player", node("player_node", player), environment)
        children.wait_for("player", "playing", START_SECONDS)
        began, expected = time.monotonic(), DISCOVERY_SECONDS + seconds
        if others is not None:
            others.go()
        ending = ("player",) if others is None else ("player", others.pilot)
        if not on_air:
            children.wait_until(
                lambda: time.monotonic() - began > DISCOVERY_SECONDS - BEFORE_SECONDS, 60.0, "the first frame"
            )
            emulator.set_profile(link, link)
            emulator.rewind()

        def played() -> bool:
            tell("camera > encoder > link > decoder", (time.monotonic() - began) / (expected + DRAIN_SECONDS))
            return not children.running("player")

        children.wait_until(played, expected + 40.0, "playing the bag", finished=ending, blame="player")
        children.check(finished=ending)
        ended = time.monotonic()
        children.wait_until(lambda: time.monotonic() - ended > DRAIN_SECONDS, 60.0, "the last blocks", finished=ending)
        since = emulator.elapsed - seconds - DRAIN_SECONDS - 0.5
        if not on_air:
            emulator.write_json(out / "logs" / "link.json")
            log = [entry for entry in emulator.log if entry[0] == "up"]
        else:
            log = [
                ("up", one.began, one.ended, one.size, one.cause)
                for one in emulator.log
                if one.end == 0 and not one.other
            ]
        datagrams = [entry for entry in log if entry[1] >= since]
        for name in ("recorder", "encoder", "decoder"):
            children.end(name)
        if others is not None:
            others.end()
    way = "Zenoh" if radio is None else f"an emulated radio by {'UDP' if radio.datagrams else radio.transport}"
    run = Run("semhier", f"{codec.name}, real nodes over {way}", [len(result.cameras[0])], seconds=seconds)
    _take_log(result, run, datagrams)
    if others is not None:
        run.link["messages of others"], run.link["bytes of others"] = others.offered
    return read_recording(out / "recording")


def _take_log(result: Result, run: Run, entries: Sequence[Sequence[Any]]) -> None:
    """What the emulator logged of a run towards the receiver.

    The budget is judged from a second after the first datagram on: before, Zenoh declares its publishers.
    """
    zero = entries[0][1] if entries else 0.0
    run.sent = [Sent(entry[1] - zero, 0, 0, entry[3], "datagram", False, entry[4]) for entry in entries]
    causes = [item.cause for item in run.sent]
    run.link = {
        "datagrams": len(run.sent),
        "bytes": sum(item.wire_bytes for item in run.sent),
        "lost": causes.count("loss"),
        "dropped at the full queue": causes.count("queue"),
        "lost in outages": causes.count("outage"),
    }
    settled = [(item.time, item.wire_bytes) for item in run.sent if item.time >= 1.0]
    result.uses[run.codec] = budget_use(
        settled, result.task.budget, largest_datagram(run.codec, result.task.budget), OWN_BYTES, LATE_SECONDS
    )
    result.runs[run.codec] = run


def _take_recording(result: Result, recording: Recording, out: Path) -> None:
    """Readings and blocks of semhier's run, by the run's time; and whether blocks came as they are encoded here."""
    camera, reader, run = result.cameras[0], result.reader, result.runs["semhier"]
    stamps, heard = stamps_of(camera, recording)
    numbers = {stamp: number for number, stamp in enumerate(stamps)}
    radio = isinstance(result.link, RadioLink)
    if radio:  # whose frames tell stamps in units of 8 ms
        numbers |= {stamp_units(stamp) * STAMP_UNIT_NS: number for stamp, number in numbers.items()}
    names = list(reader.block_names)
    for item in recording.readings:
        number = numbers.get(item.stamp_ns)
        if number is not None:
            ready = (item.arrival_ns - item.stamp_ns + camera.times_ns[number]) / 1e9
            purpose = names[min(item.prefix, len(names) - 1)]
            found = (item.level, item.prefix, item.detections, purpose)
            run.answers.append(Answer(0, number, camera.times_ns[number], ready, ready, *found))
    same = compared = 0
    by_delta: set[int] = set()
    for block in recording.blocks:
        number = numbers.get(block.stamp_ns)
        if number is None or block.name not in names:
            continue
        index = names.index(block.name)
        run.blocks.append((0, number, index, (block.arrival_ns - block.stamp_ns + camera.times_ns[number]) / 1e9))
        came = Packet.parse(block.packet).blocks[0]
        run.parts[0, number, index] = came.data
        if came.stream != reader.codec.stream_tag:
            by_delta.add(number)
        if radio or number in by_delta:  # pared so that it fits a frame; or it depends on what was acknowledged then
            continue
        own = reader.encoded(camera, number, whole=index >= reader.semantic_blocks).blocks
        compared += 1
        same += index < len(own) and came.data == own[index]
    if recording.link is not None:
        run.counters = {f"sent_{name}": count for name, count in recording.link.sent.items()}
        run.counters |= {f"dropped_{name}": count for name, count in recording.link.dropped.items()}
    if not radio:
        result.checks["bytes, checked"] = (
            f"{same} of {compared} blocks that arrived are byte for byte those of a second encoding in another process"
        )
    if by_delta:
        result.checks["frames that referred to earlier ones"] = f"{len(by_delta)} of {len(camera)}"
    result.checks["frames heard by the recorder"] = f"{heard} of {len(camera)}"


def stamps_of(camera: Any, recording: Recording) -> tuple[list[int], int]:
    """The stamps (ns, wall clock) that a camera's frames had when they were played, and how many of them the recorder
    heard itself, in order, perhaps not all; those of the others follow from the bag's timing and from readings."""
    keys = [camera.key(number) for number in range(len(camera))]
    heard: dict[int, int] = {}
    for stamp in recording.frames:
        following = range(max(heard, default=-1) + 1, len(keys))
        number = next((one for one in following if keys[one] == recording.frame_keys.get(stamp)), None)
        if number is not None:
            heard[number] = stamp
    if not heard:
        raise CommandError("the recorder saw none of the camera's frames")
    offset = median_high(stamp - camera.times_ns[number] for number, stamp in heard.items())
    stamps = [heard.get(number, at + offset) for number, at in enumerate(camera.times_ns)]
    guessed = [number not in heard for number in range(len(stamps))]
    correct_stamps(stamps, guessed, {item.stamp_ns for item in recording.readings})
    return stamps, len(heard)


def correct_stamps(stamps: list[int], guessed: list[bool], read: set[int]) -> None:
    """Puts what readings tell of stamps in the place of guesses: a busy player is late, and a reading whose frame
    nobody knows would count for nothing. A stamp is of the guess that is nearest, if within half a frame distance."""
    if len(stamps) < 2:
        return
    near = (stamps[-1] - stamps[0]) / (len(stamps) - 1) / 2
    for stamp in sorted(read - set(stamps)):
        index = min(range(len(stamps)), key=lambda place: abs(stamps[place] - stamp))
        if guessed[index] and abs(stamps[index] - stamp) < near:
            stamps[index], guessed[index] = stamp, False


def _drive_others(result: Result, out: Path, tell: Tell) -> None:
    """Sends the street by all codecs but semhier at the same time, each over a link of its own. Raises ChildError."""
    task, camera, seconds = result.task, result.cameras[0], result.cameras[0].times_ns[-1] / 1e9
    pairs: dict[str, Pair] = {}
    with ExitStack() as stack, Supervisor(out / "logs") as children:
        for name, stream in result.streams.items():
            how = getattr(stream, "how", None)
            plan = {
                "codec": name,
                "setting": asdict(how) if how is not None else {},
                "bag": str(out / "street"),
                "model": task.model,
                "device": task.device,
                "store": str(task.cache),
                "costs": asdict(replace(result.costs, jpeg=0.0, webp=0.0)),  # of pictures they are real
                "budget": result.task.budget,
                "frames_per_second": task.max_rate,
                "memory": task.memory and name == "semhier",
            }
            radio = result.link.radio if isinstance(result.link, RadioLink) else None
            if radio is not None:
                plan |= radio_plan(radio)
            pairs[name] = stack.enter_context(Pair(children, name, plan, result.link, radio))
        what, stage = "sending the other codecs", partial(tell, "the others over the link")
        beside = None
        (air,) = {pair.radio for pair in pairs.values()} if len(pairs) == 1 else (None,)
        if air is not None and air.profile.others:
            beside = Traffic(children, "others", air.other_devices, air.profile.others, seconds)
        settle = 2 * result.link.delay_s + 0.7
        play(children, list(pairs.values()), seconds, what, stage, others=beside, settle=settle)
    for name, pair in pairs.items():
        stream, told = result.streams[name], read_log(pair.log["send"])[1]
        run = Run(name, stream.setting, [len(camera)], seconds=seconds, counters=told["counters"])
        pictures = None if name in BLOCKS else stream
        run.answers = list(answers_of(pair.log["receive"], [camera], told["start"], pictures))
        _take_log(result, run, pair.datagrams)
