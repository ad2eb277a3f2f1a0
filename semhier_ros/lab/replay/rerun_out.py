"""A replay as a Rerun recording (extra `rerun`): pictures, boxes per codec, ages and bytes over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semhier_ros.lab.replay.work import Result
from semhier_ros.lab.report.page import webp

WIDTH = 560


def write_rerun(result: Result, path: Path) -> None:
    """Writes `path` (.rrd), by rerun-sdk."""
    import rerun as rr

    recording = rr.RecordingStream("semhier_replay")
    recording.save(str(path))
    for camera in result.cameras:
        scale = min(1.0, WIDTH / camera.size[0])
        for number, time in enumerate(camera.times_ns):
            recording.set_time("run", duration=time / 1e9)
            picture = rr.EncodedImage(contents=webp(camera.image(number), WIDTH), media_type="image/webp")
            recording.log(f"{camera.name}/street", picture)
        for name, run in result.runs.items():
            for item in sorted(run.answers, key=lambda one: one.ready):
                if result.cameras[item.camera] is not camera:
                    continue
                recording.set_time("run", duration=item.ready)
                boxes = np.array([found.box for found in item.detections], float).reshape(-1, 4) * scale
                labels = [found.names[-1] for found in item.detections]
                drawn = rr.Boxes2D(array=boxes, array_format=rr.Box2DFormat.XYXY, labels=labels)
                recording.log(f"{camera.name}/street/{name}", drawn)
                recording.log(f"age_ms/{name}", rr.Scalars((item.ready - item.stamp_ns / 1e9) * 1e3))
    recording.flush()
