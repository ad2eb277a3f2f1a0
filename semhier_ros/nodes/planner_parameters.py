"""Parameters of what the decoder node says to planners, maps and people: where objects stand, and on which topics."""

from __future__ import annotations

from pathlib import Path

from semhier_ros.ground.doors.outlet import outlet_problem
from semhier_ros.nodes.parameter_checks import topic_problem
from semhier_ros.nodes.parameters import Parameter

PLANNER_TOPICS = (
    "detections_3d",
    "polygons",
    "obstacles",
    "target",
    "tracked_objects",
    "predicted_objects",
    "markers",
    "annotations",
    "scene_update",
    "overlay",
    "cpm",
)
"""What `planner.topics` may name; each is the last part of its topic's name."""


def topics_problem(names: list[str]) -> str | None:
    wrong = next((name for name in names if name and name not in PLANNER_TOPICS), None)
    if wrong is not None:
        return f"{wrong!r}: expected {' | '.join(PLANNER_TOPICS)}"
    return None if len(set(names)) == len(names) else "a topic is named twice"


def door_problem(target: str) -> str | None:
    return outlet_problem(target) if target else None


def file_problem(path: str) -> str | None:
    return None if not path or Path(path).is_file() else "no such file"


def planner_parameters() -> list[Parameter]:
    """The parameters, in the order of their documentation."""
    return [
        Parameter(
            "planner.topics",
            [""],
            "What is published for planners and people (docs/planners.md): any of"
            f' {", ".join(PLANNER_TOPICS)}; [""]: nothing.',
            check=topics_problem,
        ),
        Parameter(
            "planner.least_score",
            0.35,
            "Objects of a lower coarsest score are not published there.",
            low=0.0,
            high=1.0,
            live=True,
        ),
        Parameter(
            "planner.from_level",
            0,
            "Readings that reached only a coarser level of the taxonomy are not published there.",
            low=0,
            high=15,
            live=True,
        ),
        Parameter(
            "planner.frame",
            "",
            "Frame of what is published there, by TF or by the pose that the robot tells over the link"
            ' (`pose.source` of its encoder); "": that of `ground.frame`.',
        ),
        Parameter(
            "planner.pose_age",
            5.0,
            "Seconds that such a pose is led on; later nothing is published there, and nothing goes to `people.*`.",
            low=0.1,
            high=60.0,
            live=True,
        ),
        Parameter(
            "planner.target",
            "",
            'Name of what `target` is of, such as "person"; "": whatever is nearest. `follow` is another thing: objects'
            " keep their ids.",
            live=True,
            also="planner.follow",
        ),
        Parameter(
            "planner.cloud_height",
            0.3,
            "Height in metres of the points of `obstacles`, between a costmap's least and greatest.",
            low=0.0,
            high=10.0,
            live=True,
        ),
        Parameter(
            "planner.cloud_step",
            0.1,
            "Distance in metres of the points of `obstacles` along a footprint.",
            low=0.01,
            high=2.0,
            live=True,
        ),
        Parameter(
            "planner.clear_range",
            15.0,
            "Range in metres of `obstacles_clearing`, which lets a costmap layer forget objects that left; 0: none.",
            low=0.0,
            high=1000.0,
        ),
        Parameter(
            "planner.lifetime",
            1.0,
            "Seconds that markers and scenes stay after their newest message.",
            low=0.05,
            high=60.0,
            live=True,
        ),
        Parameter("ground.frame", "base_footprint", "Frame whose plane z = 0 is the ground, x forward, y to the left."),
        Parameter(
            "ground.mount",
            "tf",
            "Where the camera's pose comes from: tf, or fixed (the parameters below).",
            choices=("tf", "fixed"),
        ),
        Parameter("ground.height", 1.2, "Metres from the ground up to the camera (fixed).", low=0.01, high=10_000.0),
        Parameter("ground.pitch", 0.0, "Radians that the camera looks down (fixed).", low=-3.1416, high=3.1416),
        Parameter("ground.roll", 0.0, "Radians that it is tipped to its right (fixed).", low=-3.1416, high=3.1416),
        Parameter("ground.yaw", 0.0, "Radians that it is turned to the left (fixed).", low=-3.1416, high=3.1416),
        Parameter("ground.x", 0.0, "Metres that it is before the frame's origin (fixed).", low=-1000.0, high=1000.0),
        Parameter("ground.y", 0.0, "Metres that it is to the left of it (fixed).", low=-1000.0, high=1000.0),
        Parameter(
            "ground.tilt_sigma",
            0.01,
            "Standard deviation of pitch and of roll in radians: bumps, and a ground that is not quite flat.",
            low=0.0,
            high=0.5,
        ),
        Parameter(
            "ground.height_sigma", 0.02, "Standard deviation of the camera's height in metres.", low=0.0, high=100.0
        ),
        Parameter(
            "ground.max_range", 60.0, "Metres beyond which objects are not placed.", low=1.0, high=10_000.0, live=True
        ),
        Parameter(
            "ground.rectified", False, "The encoder's pictures are rectified: CameraInfo's P counts, not K and D."
        ),
        Parameter(
            "ground.surface",
            "plane",
            "plane; or depth: `<camera>/depth/image_raw`, cloud: `<camera>/points` say how far objects are, where they"
            " are there.",
            choices=("plane", "depth", "cloud"),
        ),
        Parameter(
            "ground.max_apart",
            0.1,
            "Seconds that stamps of depth or cloud and of a frame may be apart.",
            low=0.0,
            high=10.0,
            live=True,
        ),
        Parameter(
            "ground.sizes",
            "",
            "YAML file `name: [length, width, height, spread]` that adds to or replaces the usual sizes in metres.",
            check=file_problem,
        ),
        Parameter(
            "people.cot",
            "",
            'Cursor on Target goes to udp://HOST:PORT (multicast too) or tcp://HOST:PORT; "": nowhere.',
            check=door_problem,
        ),
        Parameter(
            "people.geojson",
            "",
            'GeoJSON lines go to file:PATH, udp://HOST:PORT or tcp://HOST:PORT; "": nowhere.',
            check=door_problem,
        ),
        Parameter(
            "people.mavlink",
            "",
            'MAVLink of the followed object goes to udp://HOST:PORT or tcp://HOST:PORT; "": nowhere.',
            check=door_problem,
        ),
        Parameter("people.mavlink_system", 1, "System id of the vehicle in MAVLink.", low=1, high=255),
        Parameter("people.station", 1, "Station id in `cpm` messages.", low=0, high=2_147_483_647),
        Parameter("people.rate", 1.0, "Messages a second of each object; 0: with every reading.", low=0.0, high=100.0),
        Parameter("people.stale", 5.0, "Seconds after which maps shall fade an object.", low=0.1, high=3600.0),
        Parameter(
            "people.fix",
            "fix",
            "Topic of the robot's NavSatFix (WGS84); without one, and without `pose.earth` at its encoder, no door says"
            " anything.",
            check=topic_problem,
        ),
        Parameter(
            "people.heading",
            "imu",
            "Topic of an Imu whose orientation's yaw is the robot's heading (ENU).",
            check=topic_problem,
        ),
        Parameter(
            "people.fix_age",
            3.0,
            "Seconds after which a fix or a heading counts as lost.",
            low=0.1,
            high=3600.0,
            live=True,
        ),
    ]
