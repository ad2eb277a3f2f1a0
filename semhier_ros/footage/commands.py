"""Bags for people without one, and a look into those they have.

semhier bag info drive.mcap                 topics, cameras, frames, gaps and what cannot be read
semhier bag from-video street.mp4 --out street
semhier bag from-images pictures/*.jpg --fps 10 --out pictures-bag
semhier bag cut drive.mcap --from 10 --seconds 5 --out part
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from semhier_ros import options as shared
from semhier_ros.footage.bags import cut_bag, open_bag
from semhier_ros.footage.messages import ENCODINGS, check_new_bag, write_camera
from semhier_ros.footage.video import PictureCamera, VideoCamera, natural_order, picture_files

RATE = shared.real(0.01, 1000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of `semhier bag`."""
    commands = parser.add_subparsers(dest="what", metavar="<what>", required=True)
    info = commands.add_parser("info", help="what a bag holds, whatever state it is in")
    info.add_argument("bag", type=Path)
    info.add_argument("--json", action="store_true", help="as JSON")
    info.set_defaults(run=run_info)
    video = commands.add_parser("from-video", help="a bag of one camera from a video file")
    video.add_argument("video", type=Path)
    _writing(video)
    video.add_argument("--fps", type=RATE, help="at most so many frames a second (default: all)")
    video.add_argument("--seconds", type=shared.real(1e-3, 1e9), help="only the first so many seconds")
    loops = shared.whole(1, 10_000)
    video.add_argument("--loops", type=loops, default=1, help="how often the video is repeated (default: 1)")
    video.set_defaults(run=run_from_video)
    images = commands.add_parser("from-images", help="a bag of one camera from picture files, in order of their names")
    images.add_argument("images", type=Path, nargs="+", help="files, or one folder of them")
    _writing(images)
    images.add_argument("--fps", type=RATE, default=10.0, help="frames a second (default: %(default)s)")
    images.set_defaults(run=run_from_images)
    cut = commands.add_parser("cut", help="a part of a bag, all its topics or some")
    cut.add_argument("bag", type=Path)
    cut.add_argument("--out", type=Path, required=True, help="folder of the new bag")
    cut.add_argument(
        "--from", dest="begin", type=shared.real(0, 1e9), default=0.0, help="seconds after its start (default: 0)"
    )
    cut.add_argument("--seconds", type=shared.real(1e-9, 1e9), default=1e9, help="how much (default: to its end)")
    cut.add_argument("--force", action="store_true", help="replace an older recording at --out")
    cut.add_argument("--topics", nargs="+", default=[], help="only these (default: all)")
    cut.set_defaults(run=run_cut)


def _writing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder of the new bag")
    parser.add_argument("--force", action="store_true", help="replace an older recording at --out")
    parser.add_argument("--camera", default="camera", help="name of the camera's topics (default: %(default)s)")
    parser.add_argument("--frame-id", default="camera_optical_frame", help="(default: %(default)s)")
    parser.add_argument("--encoding", default="jpeg", choices=ENCODINGS)
    parser.add_argument(
        "--max-width", type=shared.whole(16, 1 << 16), help="wider frames are scaled down to so many pixels"
    )


def run_info(options: argparse.Namespace) -> int:
    """`semhier bag info`."""
    bag = open_bag(options.bag)
    cameras: list[dict[str, Any]] = []
    for camera in bag.cameras:
        steps = [(later - earlier) / 1e9 for earlier, later in pairwise(camera.times_ns)]
        usual = sorted(steps)[len(steps) // 2] if steps else 0.0
        cameras.append(
            {
                "topic": camera.topic,
                "type": camera.kind,
                "size": list(camera.size),
                "frame_id": camera.frame_id,
                "frames": len(camera),
                "seconds": round(camera.times_ns[-1] / 1e9, 3),
                "frames_per_second": round(1 / usual, 2) if usual else None,
                "gaps": sum(step > 3 * usual for step in steps),
                "longest_gap_s": round(max(steps, default=0.0), 3),
            }
        )
    found = {"path": str(options.bag), "cameras": cameras, "topics": bag.topics, "problems": bag.problems}
    bag.close()
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    for text in found["problems"]:
        print(f"note: {text}")
    for item in cameras:
        print(
            f"{item['topic']}: {item['frames']} frames of {item['size'][0]}x{item['size'][1]} in {item['seconds']} s"
            f" ({item['frames_per_second']} a second, {item['gaps']} gaps, longest {item['longest_gap_s']} s)"
        )
    print(f"topics: {', '.join(f'{topic} ({kind})' for topic, kind in sorted(bag.topics.items()))}")
    return 0


def run_from_video(options: argparse.Namespace) -> int:
    """`semhier bag from-video`."""
    check_new_bag(options.out, options.force, options.video)  # before the video is read through
    camera = VideoCamera(
        options.video, seconds=options.seconds, rate=options.fps, loops=options.loops, width=options.max_width
    )
    return _write(camera, options)


def run_from_images(options: argparse.Namespace) -> int:
    """`semhier bag from-images`."""
    files = options.images
    if len(files) == 1 and files[0].is_dir():
        files = picture_files(files[0])
    return _write(PictureCamera(sorted(files, key=natural_order), options.fps, options.max_width), options)


def _write(camera: Any, options: argparse.Namespace) -> int:
    topic = write_camera(
        camera,
        options.out,
        name=options.camera,
        frame_id=options.frame_id,
        encoding=options.encoding,
        force=options.force,
    )
    count = len(camera.times_ns)
    height, width = camera.image(count - 1).shape[:2]
    print(f"{options.out}: {count} frames of {width}x{height} on {topic}")
    return 0


def run_cut(options: argparse.Namespace) -> int:
    """`semhier bag cut`: messages as they are, byte for byte, in the order of the source."""
    count, problems = cut_bag(options.bag, options.out, options.begin, options.seconds, options.topics, options.force)
    for text in problems:
        print(f"note: {text}", file=sys.stderr)
    print(f"{options.out}: {count} messages")
    return 0
