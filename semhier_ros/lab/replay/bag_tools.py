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

from semhier_ros.cli import CommandError


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
    video.add_argument("--fps", type=float, help="at most so many frames a second (default: all)")
    video.add_argument("--seconds", type=float, help="only the first so many seconds")
    video.add_argument("--loops", type=int, default=1, help="how often the video is repeated (default: 1)")
    video.set_defaults(run=run_from_video)
    images = commands.add_parser("from-images", help="a bag of one camera from picture files, in order of their names")
    images.add_argument("images", type=Path, nargs="+", help="files, or one folder of them")
    _writing(images)
    images.add_argument("--fps", type=float, default=10.0, help="frames a second (default: %(default)s)")
    images.set_defaults(run=run_from_images)
    cut = commands.add_parser("cut", help="a part of a bag, all its topics or some")
    cut.add_argument("bag", type=Path)
    cut.add_argument("--out", type=Path, required=True, help="folder of the new bag")
    cut.add_argument("--from", dest="begin", type=float, default=0.0, help="seconds after its start (default: 0)")
    cut.add_argument("--seconds", type=float, default=1e9, help="how much (default: to its end)")
    cut.add_argument("--topics", nargs="+", default=[], help="only these (default: all)")
    cut.set_defaults(run=run_cut)


def _writing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder of the new bag")
    parser.add_argument("--camera", default="camera", help="name of the camera's topics (default: %(default)s)")
    parser.add_argument("--frame-id", default="camera_optical_frame", help="(default: %(default)s)")
    parser.add_argument("--encoding", default="jpeg", choices=("jpeg", "png", "rgb8", "bgr8"))
    parser.add_argument("--max-width", type=int, help="wider frames are scaled down to so many pixels")


def run(options: argparse.Namespace) -> int:
    """Not called: every sub-command has its own function."""
    return int(options.run(options))


def run_info(options: argparse.Namespace) -> int:
    """`semhier bag info`."""
    from semhier_ros.lab.bag import BagError
    from semhier_ros.lab.replay.footage import open_bag

    try:
        bag = open_bag(options.bag)
    except BagError as error:
        raise CommandError(str(error)) from error
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
    others = [f"{topic} ({kind})" for topic, kind in sorted(bag.topics.items())]
    print(f"topics: {', '.join(others)}")
    return 0


def run_from_video(options: argparse.Namespace) -> int:
    """`semhier bag from-video`."""
    from tqdm import tqdm

    from semhier_ros.lab.bag import BagError, bag_from_video
    from semhier_ros.lab.footage import FootageError

    with tqdm(unit="frame", disable=not sys.stderr.isatty()) as bar:

        def tell(count: int) -> None:
            bar.update(count - bar.n)

        try:
            made = bag_from_video(
                options.video,
                options.out,
                camera=options.camera,
                frame_id=options.frame_id,
                encoding=options.encoding,
                frames_per_second=options.fps,
                seconds=options.seconds,
                loops=options.loops,
                max_width=options.max_width,
                progress=tell,
            )
        except (BagError, FootageError) as error:
            raise CommandError(str(error)) from error
    print(f"{made.path}: {made.frames} frames of {made.width}x{made.height} on {made.topic}")
    return 0


def run_from_images(options: argparse.Namespace) -> int:
    """`semhier bag from-images`."""
    import cv2
    from tqdm import tqdm

    from semhier_ros.lab.bag import DEFAULT_START_NS, BagError, BagWriter, at_most, camera_messages

    files = options.images
    if len(files) == 1 and files[0].is_dir():
        files = [
            file for file in files[0].iterdir() if file.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp", ".bmp")
        ]
    if not 0.01 <= options.fps <= 1000:
        raise CommandError(f"--fps: {options.fps:g}, 0.01 to 1000 expected")
    if not files:
        raise CommandError(f"{options.images[0]}: holds no picture (.jpg, .png, .webp, .bmp)")
    count = 0
    try:
        with BagWriter(options.out) as bag:
            for file in tqdm(sorted(files), unit="picture", disable=not sys.stderr.isatty()):
                bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)
                if bgr is None:
                    raise CommandError(f"{file}: no picture that OpenCV decodes")
                picture = at_most(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), options.max_width)
                stamp = DEFAULT_START_NS + round(count * 1e9 / options.fps)
                topics = camera_messages(
                    bag.store.types, picture, stamp, options.camera, options.frame_id, options.encoding
                )
                for topic, message in topics:
                    bag.write(topic, message, stamp)
                count += 1
    except BagError as error:
        raise CommandError(str(error)) from error
    print(f"{options.out}: {count} frames")
    return 0


def run_cut(options: argparse.Namespace) -> int:
    """`semhier bag cut`: messages as they are, byte for byte, in the order of the source."""
    from semhier_ros.lab.bag import BagError
    from semhier_ros.lab.replay.cut import cut_bag

    try:
        count, problems = cut_bag(options.bag, options.out, options.begin, options.seconds, options.topics)
    except BagError as error:
        raise CommandError(str(error)) from error
    for text in problems:
        print(f"note: {text}", file=sys.stderr)
    print(f"{options.out}: {count} messages")
    return 0
