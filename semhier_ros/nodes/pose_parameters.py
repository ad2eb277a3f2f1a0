"""Parameters of what the encoder node tells of the robot's pose."""

from __future__ import annotations

from semhier_ros.nodes.parameter_checks import topic_or_none_problem, topic_problem
from semhier_ros.nodes.parameters import Parameter

SOURCES = ("off", "tf", "odometry", "pose")


def pose_parameters() -> list[Parameter]:
    """The encoder's parameters of what it tells of the robot's pose."""
    return [
        Parameter(
            "pose.source",
            "off",
            "What says where the robot is, for the base, on transports without topics (docs/planners.md): tf"
            " (`pose.child` in `pose.frame`), odometry (nav_msgs/Odometry), pose (a"
            " geometry_msgs/PoseWithCovarianceStamped). AMCL says a pose only where the robot moved: tf is for it.",
            choices=SOURCES,
        ),
        Parameter("pose.topic", "", 'Topic of odometry or pose; "": odom, amcl_pose.', check=topic_or_none_problem),
        Parameter("pose.frame", "map", "Frame that the pose is told in (tf)."),
        Parameter("pose.child", "base_footprint", "Frame of the robot whose plane z = 0 is the ground (tf)."),
        Parameter("pose.earth", False, "Where on the earth the robot is, is told too: `pose.fix` and `pose.heading`."),
        Parameter("pose.fix", "fix", "Topic of a NavSatFix (WGS84).", check=topic_problem),
        Parameter(
            "pose.heading",
            "imu",
            "Topic of an Imu whose orientation's yaw is the robot's heading (ENU).",
            check=topic_problem,
        ),
        Parameter(
            "pose.moved",
            0.1,
            "A pose is told where the base, which leads the last ones on, would be wrong by so many metres.",
            low=0.01,
            high=100.0,
            live=True,
        ),
        Parameter("pose.turned", 0.02, "The same in radians.", low=0.001, high=3.1416, live=True),
        Parameter(
            "pose.every",
            2.0,
            "A pose that comes is told after so many seconds anyhow, after half a second while the robot drives; one"
            " that does not come is not repeated.",
            low=0.1,
            high=2.5,
            live=True,
        ),
        Parameter(
            "pose.rate",
            5.0,
            "Poses a second at most. One costs 14 to 64 bytes and what the transport adds, within the budget.",
            low=0.1,
            high=50.0,
            live=True,
        ),
    ]
