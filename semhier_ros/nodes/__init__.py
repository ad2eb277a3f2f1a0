"""The ROS 2 nodes: the only modules of this package that import rclpy."""

from semhier_ros.threads import one_thread_for_small_matrices

one_thread_for_small_matrices()  # before rclpy imports numpy

try:
    import rclpy  # noqa: F401
except ImportError as error:
    raise ImportError(
        "semhier_ros.nodes needs ROS 2: source a ROS 2 installation (Jazzy, Kilted) and build this package with colcon,"
        f" or run `make` in a checkout of semhier_ros ({error})",
        name="rclpy",
    ) from error
