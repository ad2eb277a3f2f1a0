"""The parameters of every node, and the command that writes config/*.yaml and the tables of docs/nodes.md from them:

`python -m semhier_ros.nodes.parameter_tables [--check]`
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from semhier_ros.camera.fleet import Limits
from semhier_ros.link.carriers import TRANSPORTS
from semhier_ros.link.zenoh.config import RANGES, ZenohOptions
from semhier_ros.nodes.parameter_checks import (
    camera_problem,
    cameras_problem,
    endpoints_problem,
    key_problem,
    models_problem,
    prefix_problem,
    topic_problem,
    zero_or_from,
)
from semhier_ros.nodes.parameters import Parameter, ParameterTable
from semhier_ros.nodes.planner_parameters import planner_parameters
from semhier_ros.nodes.pose_parameters import pose_parameters
from semhier_ros.paths import DEFAULT_MODEL
from semhier_ros.scene.remembering import LEAST_OVERLAP, MOST_OVERLAP, OVERLAP

TRANSPORT_CHOICES = ("ros", *TRANSPORTS)


def _autostart() -> Parameter:
    return Parameter(
        "autostart",
        True,
        "Configure and activate at start, so that `ros2 run` just works; false: wait for the lifecycle services.",
    )


def _device(who: str) -> Parameter:
    return Parameter(
        "device", "auto", f"Where {who} runs; auto: CUDA where there is one.", choices=("auto", "cpu", "cuda")
    )


def _detector() -> list[Parameter]:
    return [
        Parameter(
            "detector.file",
            "",
            "ONNX file of a detector to use instead of the model's, as models/coco80 needs one; \"\": the model's own.",
        ),
        Parameter(
            "detector.layout",
            "",
            "How its tensors are read: a layout of docs/adopt.md or a YAML file;"
            ' "": as the model says, or as they suggest.',
        ),
        Parameter(
            "detector.names",
            "",
            'Its classes: coco80, coco91 or a text file, one a line; "": as the model says.',
        ),
        Parameter(
            "detector.engine",
            "auto",
            "What runs a detector that is not ours; auto: OpenVINO, or CUDA by ONNX Runtime on `device: cuda`.",
            choices=("auto", "openvino", "onnxruntime", "cuda", "tensorrt"),
        ),
        Parameter(
            "detector.looks",
            "",
            "At which sizes the model's own detector sees pictures, such as 800x480 on a slow computer or"
            ' 1088x640:0-166@0.25,544x320:64- (docs/street.md); "": as the model says.',
        ),
    ]


def _detections() -> list[Parameter]:
    return [
        Parameter(
            "detections.topic",
            "detections",
            "Topic of the vision_msgs/Detection2DArray messages, below the camera's name unless it begins with `/`.",
            check=topic_problem,
        ),
        Parameter(
            "detections.label_info",
            "detections/label_info",
            "Topic of the vision_msgs/LabelInfo that says which number is which class, named in the same way (not"
            " `<camera>/label_info`, where our decoder numbers the nodes of its tree).",
            check=topic_problem,
        ),
        Parameter(
            "detections.width",
            0,
            "Width of the pictures that boxes are in; 0: as `<camera>/camera_info` or the picture says.",
            low=0,
            high=16384,
        ),
        Parameter("detections.height", 0, "Their height, with `detections.width`.", low=0, high=16384),
    ]


def _threads() -> Parameter:
    return Parameter("threads", 0, "CPU threads of the networks; 0: the runtime's own choice.", low=0, high=256)


def _reliable(how: str) -> Parameter:
    return Parameter(
        "link.ros.reliable",
        "semantic",
        f"Block topics on which reliable delivery (DDS resends what is lost) is {how}; the others are best effort.",
        choices=("none", "coarse", "semantic", "all"),
    )


def _zenoh(connect: str, listen: str) -> list[Parameter]:
    defaults: dict[str, Any] = {field.name: field.default for field in fields(ZenohOptions)}

    def number(name: str, description: str) -> Parameter:
        low, high = RANGES[name]
        return Parameter(f"link.zenoh.{name}", defaults[name], description, low=low, high=high)

    return [
        Parameter(
            "link.key",
            "",
            "Key that both ends share, as hexadecimal digits: every packet, report and request carries a proof (8 bytes"
            ' on zenoh, 4 on radios, 16 with chacha20poly1305), and nothing is taken twice; "": none.',
            check=key_problem,
        ),
        Parameter(
            "link.key_file",
            "",
            "File with the key's digits, instead of `link.key`, which `ros2 param dump` shows to everybody.",
        ),
        Parameter(
            "link.zenoh.mode",
            "peer",
            "peer: this end connects to the other; client: both connect to a Zenoh router.",
            choices=("peer", "client"),
        ),
        number(
            "lease",
            "Seconds without a sign of life after which the session is given up: longer than the outages that it should"
            " outlive.",
        ),
        number(
            "open_timeout",
            "Seconds that one try to open the session may take: two round trips at least, more below 16 kbit/s.",
        ),
        number("batch", "The largest datagram that Zenoh makes (bytes): below the MTU of a tunnel on the way."),
        Parameter("link.zenoh.root_ca", "", "PEM file of the authority that `tls/` endpoints are checked by."),
        Parameter("link.zenoh.certificate", "", "PEM file of this end's certificate (needed to listen on `tls/`)."),
        Parameter(
            "link.zenoh.private_key",
            "",
            "PEM file of its private key; with root_ca and certificate on both ends, each checks the other.",
        ),
        Parameter("link.zenoh.user", "", "User name for Zenoh's user and password check."),
        Parameter("link.zenoh.password", "", "Its password; `ros2 param dump` shows it, so better in a file."),
        Parameter("link.zenoh.password_file", "", "File with the password, instead of `link.zenoh.password`."),
        Parameter(
            "link.zenoh.dictionary",
            "",
            "On the listening end: file of `user:password` lines; others are refused.",
        ),
        Parameter(
            "link.zenoh.prefix",
            "semhier",
            "First part of the Zenoh keys `<prefix>/<camera>/<block>`; the same on both ends.",
            check=prefix_problem,
        ),
        Parameter(
            "link.zenoh.connect",
            [connect],
            'Zenoh endpoints to connect to, tried until they answer; [""]: none.',
            check=endpoints_problem,
        ),
        Parameter(
            "link.zenoh.listen",
            [listen],
            'Zenoh endpoints to listen on; [""]: none.',
            check=endpoints_problem,
        ),
    ]


def _radio() -> list[Parameter]:
    return [
        Parameter("link.udp.listen", "", 'host:port to receive at; "": a port of the system\'s choice.'),
        Parameter("link.udp.peer", "", 'host:port of the other end; "": whose frame was the last that holds.'),
        Parameter("link.serial.device", "", "Serial port of the radio, or a URL of pyserial; opened again for ever."),
        Parameter("link.serial.baud", 57_600, "Its speed.", low=300, high=4_000_000),
        Parameter(
            "link.serial.framing",
            "cobs",
            "cobs: the radio carries bytes; kiss: it is a packet modem that speaks KISS; meshtastic: its radio.",
            choices=("cobs", "kiss", "meshtastic"),
        ),
        Parameter("link.mavlink.device", "", "Serial port to the MAVLink network, instead of UDP."),
        Parameter("link.mavlink.baud", 57_600, "Its speed.", low=300, high=4_000_000),
        Parameter("link.mavlink.listen", "", "host:port to hear MAVLink at, without `link.mavlink.device`."),
        Parameter("link.mavlink.peer", "", "host:port of the router or autopilot."),
        Parameter("link.mavlink.system", 1, "MAVLink system of this end.", low=1, high=255),
        Parameter("link.mavlink.component", 191, "Its component; 191: onboard computer.", low=1, high=255),
        Parameter("link.mavlink.target_system", 0, "System of the other end; 0: all.", low=0, high=255),
        Parameter("link.mavlink.target_component", 0, "Its component; 0: all.", low=0, high=255),
        Parameter(
            "link.mavlink.share",
            1000.0,
            "Bytes a second that this end may take of the MAVLink link, whatever `link.budget_kbit` says.",
            low=10.0,
            high=1_000_000.0,
        ),
        Parameter(
            "link.radio.frame_bytes",
            240,
            "udp, serial, mavlink: largest frame of the radio in bytes, check included; on mavlink at most 128.",
            low=24,
            high=1200,
        ),
        Parameter(
            "link.radio.rate_kbit",
            0.0,
            "What the air carries in kbit/s; 0: as the serial line (10 bits a byte) or the share, unmetered on udp.",
            low=0.0,
            high=1_000_000.0,
        ),
        Parameter(
            "link.radio.turnaround_ms",
            0.0,
            "Half duplex: milliseconds that the radio takes from receiving to sending; 0: both ends may speak at once.",
            low=0.0,
            high=60_000.0,
        ),
        Parameter(
            "link.radio.frame_extra",
            0,
            "Bytes of airtime that a frame costs besides its own: preamble, the radio's headers.",
            low=0,
            high=1000,
        ),
        Parameter(
            "link.radio.duty_percent",
            100.0,
            "Share of any hour in which this end may be on the air.",
            low=0.01,
            high=100.0,
        ),
        Parameter(
            "link.radio.check",
            "32",
            "Bits of a frame's check without a key; 16 where the radio's own frames have a check too.",
            choices=("16", "32"),
        ),
        Parameter(
            "link.radio.answers",
            True,
            "Whether the receiver speaks, when it has the turn; false: a one-way link.",
        ),
        Parameter(
            "link.radio.encrypt",
            "none",
            "With link.key, whether the bodies of frames are hidden: chacha20 adds no byte to the key's 4-byte proof, "
            "chacha20poly1305 has a proof of 16 bytes.",
            choices=("none", "chacha20", "chacha20poly1305"),
        ),
    ]


ENCODER = ParameterTable(
    "encoder_node",
    "encoder_node: camera images in, blocks out, coarse meaning first, under a byte budget.",
    [
        _autostart(),
        Parameter(
            "camera", "camera", "Name of the camera stream and of its topics.", check=camera_problem, also="cameras"
        ),
        Parameter(
            "input",
            "raw",
            "raw: `<camera>/image_raw` (Image); compressed: `<camera>/image_raw/compressed` (CompressedImage).",
            choices=("raw", "compressed"),
        ),
        Parameter(
            "model", DEFAULT_MODEL, "Model that encodes: a name under models/, or a model folder.", also="models"
        ),
        Parameter(
            "foot_bits",
            True,
            "Whether block 0 says where objects stand by two bits an object more: what coding adds to a range error"
            " falls to about half or less until the last semantic block, which leaves less to gain; the detector's own"
            " error stays. Decoders older than this refuse the stream; models of whole pictures have no feet.",
        ),
        Parameter(
            "source",
            "images",
            "images: the model's detector runs here; detections: another node's does, and its Detection2DArray comes in"
            " (docs/adopt.md).",
            choices=("images", "detections"),
        ),
        *_detector(),
        *_detections(),
        _device("the encoder"),
        _threads(),
        Parameter(
            "precision",
            "auto",
            "Arithmetic of the networks on a CPU; auto: bf16 where the CPU has it, and its bytes decode alike.",
            choices=("auto", "f32", "bf16"),
        ),
        Parameter(
            "max_rate",
            10.0,
            "Most frames per second that are encoded, the newest each time; 0: as many as the machine can.",
            low=0.0,
            high=240.0,
            live=True,
        ),
        Parameter(
            "finest_block",
            15,
            "Index of the finest block that is sent unless a BlockRequest asks otherwise; 15: all there are.",
            low=0,
            high=15,
            live=True,
        ),
        Parameter(
            "keep_frames",
            8,
            "Encoded frames that are kept to answer a BlockRequest for one frame.",
            low=0,
            high=256,
        ),
        Parameter(
            "motion",
            "off",
            "on: how camera and objects move is measured in every picture and sent with the coarse block"
            " (docs/living.md); receivers older than this parameter refuse such packets.",
            choices=("off", "on"),
        ),
        Parameter("accept_requests", True, "Whether BlockRequests of receivers are honoured.", live=True),
        Parameter(
            "memory.enabled",
            False,
            "On zenoh and radios that answer: frames say only what the receiver would get wrong of what it"
            " acknowledged; the decoder's `memory` must be true too. Models that find objects.",
            live=True,
            also="memory",
        ),
        Parameter(
            "memory.overlap",
            0.0,
            "An object is told anew where its box and the receiver's own forecast of it overlap by less than this, at"
            f" least {LEAST_OVERLAP}; for unsure objects the bound is up to 0.1 lower. Above {OVERLAP} new objects are"
            f" told at once. 0: what the model says (`memory_overlap` in model.json, else {OVERLAP}), over radios"
            f" {OVERLAP}.",
            low=0.0,
            high=MOST_OVERLAP,
            live=True,
            check=zero_or_from(LEAST_OVERLAP),
        ),
        Parameter(
            "memory.whole_every",
            0.0,
            "Seconds between frames that stand alone, for bags and receivers that cannot ask, at least 0.2; 0: 2, over"
            " radios 12.",
            low=0.0,
            high=60.0,
            live=True,
            check=zero_or_from(0.2),
        ),
        Parameter(
            "link.transport",
            "ros",
            "ros: one topic per block is the link; zenoh: a Zenoh session is, and topics stay on the robot; udp,"
            " serial, mavlink: compact frames to one receiver (docs/radios.md).",
            choices=TRANSPORT_CHOICES,
        ),
        Parameter(
            "link.budget_kbit",
            1000.0,
            "Uplink budget in kbit/s (1000 bits), what the transport adds included; 0: unlimited.",
            low=0.0,
            high=10_000_000.0,
            live=True,
        ),
        Parameter(
            "link.adapt",
            True,
            "On zenoh: follow the link below the budget, from 8 kbit/s to 10 Mbit/s, by what the receiver reports.",
        ),
        Parameter(
            "link.coarse_repeats",
            -1,
            "Further copies of the coarse blocks against loss; -1: as many (0 to 3) as the measured loss asks for and"
            " the budget allows, 0 on ros (where DDS resends).",
            low=-1,
            high=8,
        ),
        Parameter(
            "link.coarse_lifespan",
            1.0,
            "Seconds after which a coarsest block that could not leave is dropped.",
            low=0.05,
            high=60.0,
        ),
        Parameter(
            "link.semantic_lifespan",
            0.5,
            "The same for the other semantic blocks.",
            low=0.05,
            high=60.0,
        ),
        Parameter("link.picture_lifespan", 2.0, "The same for picture blocks.", low=0.05, high=60.0),
        Parameter(
            "link.calibration",
            True,
            "On all but ros: what `<camera>/camera_info` says travels with the stream's description (some 45 bytes"
            " every ten seconds), so that a base can place objects; false: for receivers of a release before it.",
        ),
        _reliable("offered"),
        *_zenoh("", "udp/0.0.0.0:7447"),
        *_radio(),
        *pose_parameters(),
    ],
)

DECODER = ParameterTable(
    "decoder_node",
    "decoder_node: blocks in, readings out that get finer while blocks arrive, and a picture if wanted.",
    [
        _autostart(),
        Parameter(
            "cameras", ["camera"], "Camera streams that are decoded, by name.", check=cameras_problem, also="camera"
        ),
        Parameter(
            "models",
            [DEFAULT_MODEL],
            "Models that may decode, names under models/ or folders; a stream's hash picks one of them.",
            check=models_problem,
            also="model",
        ),
        _device("the decoder"),
        _threads(),
        Parameter(
            "precision",
            "auto",
            "Arithmetic of the networks that paint; auto: f32 on a CPU, float16 on CUDA.",
            choices=("auto", "f32", "bf16"),
        ),
        Parameter(
            "picture",
            "on_complete",
            "When a picture is published: never, once a frame's last block is there, at every picture block, or at "
            "every block (a blur from meaning alone first).",
            choices=("off", "on_complete", "picture_blocks", "every_block"),
            live=True,
        ),
        Parameter(
            "keep_frames",
            16,
            "Frames per camera that late blocks may still refine.",
            low=1,
            high=256,
        ),
        Parameter(
            "follow",
            False,
            "Objects keep their ids over frames, and their names do not flicker; which one the topic `target` is of,"
            " `planner.target` says.",
        ),
        Parameter(
            "memory",
            False,
            "Frames are remembered and acknowledged (2 bytes of a report, or of a radio's word), so that an encoder"
            " whose `memory.enabled` is true may refer to them.",
            also="memory.enabled",
        ),
        Parameter(
            "least_score",
            0.0,
            "Objects whose coarsest score, the surest of their path, is lower are not published; 0: all are, also those"
            " hardly believed in (0.3 suits readers that take each for real). Planner topics have their own bound,"
            " `planner.least_score`.",
            low=0.0,
            high=1.0,
            live=True,
        ),
        Parameter(
            "scene_rate",
            0.0,
            "Scenes a second on <camera>/scene: the objects foretold to now (0: none); above 0, `follow` is on.",
            low=0.0,
            high=50.0,
        ),
        Parameter(
            "queue",
            Limits().packets,
            "Packets per camera that may wait for decoding; beyond it the oldest goes and is counted.",
            low=1,
            high=10_000,
        ),
        Parameter(
            "fleet.queue_bytes",
            Limits().bytes,
            "Bytes per camera that may wait for decoding; beyond them the oldest packet goes.",
            low=1 << 16,
            high=1 << 31,
        ),
        Parameter(
            "fleet.company_ms",
            3.0,
            "With several cameras: milliseconds that a picture may wait for those of others, to be made with them.",
            low=0.0,
            high=1000.0,
        ),
        Parameter(
            "fleet.together",
            0,
            "With several cameras: pictures made together at most; 0: 64 on CUDA, 4 on a CPU.",
            low=0,
            high=1024,
        ),
        Parameter(
            "stale_seconds",
            2.0,
            "Age of the newest reading from which on the diagnostics warn; ten times that: error.",
            low=0.1,
            high=3600.0,
            live=True,
        ),
        Parameter(
            "republish_blocks",
            False,
            "On all but ros: publish what arrives on `<camera>/semhier/…` here, for bags and other nodes.",
        ),
        Parameter(
            "ask",
            "off",
            "uncertain: ask the encoder (its `finest_block` set coarse) for the finer blocks of frames whose reading is"
            " uncertain; off: only pass on BlockRequests of others.",
            choices=("off", "uncertain"),
        ),
        Parameter(
            "ask_below",
            0.6,
            "A reading is uncertain when some object's finest known name has less than this share of its coarsest"
            " score.",
            low=0.0,
            high=1.0,
        ),
        Parameter("ask_above", 0.3, "Objects of a lower coarsest score are not asked about.", low=0.0, high=1.0),
        Parameter(
            "ask_near", 0.2, "Objects lower than this share of the picture are not asked about.", low=0.0, high=1.0
        ),
        Parameter("ask_finest", 15, "Index of the finest block that is asked for; 15: the picture.", low=0, high=15),
        Parameter("ask_per_second", 5.0, "Frames a second that are asked for at most.", low=0.1, high=20.0),
        Parameter(
            "link.transport",
            "ros",
            "ros: blocks come on one topic per block; zenoh: through a Zenoh session; udp, serial, mavlink: in compact"
            " frames. The encoder's must be the same.",
            choices=TRANSPORT_CHOICES,
        ),
        _reliable("asked for; the encoder must offer as much"),
        *_zenoh("udp/127.0.0.1:7447", ""),
        *_radio(),
        *planner_parameters(),
    ],
)

PLAYER = ParameterTable(
    "player_node",
    "player_node: plays the images of a bag, or other topics, in the bag's timing (needs only rosbags).",
    [
        _autostart(),
        Parameter("bag", "", "MCAP file or bag folder."),
        Parameter(
            "topics",
            [""],
            'Topics of the bag that are played, those of the recorder too; [""]: every image and camera_info topic.',
        ),
        Parameter("rate", 1.0, "Playing speed; 1: as recorded.", low=0.01, high=100.0),
        Parameter("loop", False, "Start again at the end."),
        Parameter(
            "stamps",
            "now",
            "now: header stamps are set to the time of publishing, so that latencies mean something; bag: left alone.",
            choices=("now", "bag"),
        ),
        Parameter("clock", False, "Publish the bag's time on /clock, for nodes with use_sim_time."),
        Parameter("reliable", False, "Publish pictures reliably; cameras are usually best effort."),
        Parameter("wait_seconds", 10.0, "Longest wait for a first subscriber.", low=0.0, high=3600.0),
        Parameter(
            "delay_seconds", 0.5, "Pause between the first subscriber and the first message.", low=0.0, high=3600.0
        ),
        Parameter("exit_at_end", True, "End the process after the last message."),
    ],
)

RECORDER = ParameterTable(
    "recorder_node",
    "recorder_node: records readings, link status, stream descriptions and pictures into an MCAP bag.",
    [
        _autostart(),
        Parameter("bag", "", "Folder of the new bag; it must not exist yet."),
        Parameter("cameras", ["camera"], "Camera streams that are recorded.", check=cameras_problem),
        Parameter("levels", 4, "Levels of the model's taxonomy: detections/level_0 … are recorded.", low=1, high=16),
        Parameter("pictures", True, "Record `<camera>/picture`."),
        Parameter(
            "images",
            "off",
            "Record the source images too, `<camera>/image_raw` or `<camera>/image_raw/compressed`.",
            choices=("off", "raw", "compressed"),
        ),
        Parameter("blocks", False, "Record the blocks themselves, `<camera>/semhier/<block>`."),
        Parameter("topics", [""], 'Instead of the standard set: entries "<topic> <type>".'),
        Parameter("max_megabytes", 4000.0, "Size from which on nothing more is recorded.", low=0.001, high=1e6),
    ],
)

TABLES = (ENCODER, DECODER, PLAYER, RECORDER)


def config_file(table: ParameterTable) -> str:
    """Name of a node's file in config/."""
    return table.node.removesuffix("_node") + ".yaml"


def with_tables(text: str) -> str:
    """The documentation `text` with the table between each pair of marks written anew.

    Raises ValueError when the marks of a node are missing.
    """
    for table in TABLES:
        begin, end = f"<!-- parameters of {table.node} -->", f"<!-- end of {table.node} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"documentation: expected one {begin!r} and one {end!r}")
        head, rest = text.split(begin)
        tail = rest.split(end)[1]
        text = f"{head}{begin}\n{table.markdown()}{end}{tail}"
    return text


def generated(root: Path) -> dict[Path, str]:
    """Path and right content of every file that is made from the tables."""
    files = {root / "config" / config_file(table): table.yaml() for table in TABLES}
    docs = root / "docs" / "nodes.md"
    files[docs] = with_tables(docs.read_text(encoding="utf-8"))
    return files


def main(arguments: list[str] | None = None) -> int:
    """Writes the files, or with --check says which differ (exit code 1)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2], help="the checkout")
    options = parser.parse_args(arguments)
    stale = []
    for path, content in generated(options.root).items():
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        stale.append(str(path))
        if not options.check:
            path.write_text(content, encoding="utf-8")
    print("\n".join(stale) if stale else "all files are as the tables say")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
