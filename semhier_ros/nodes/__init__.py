"""The ROS 2 nodes: the only modules of this package that import rclpy."""

from semhier_ros.threads import one_thread_for_small_matrices

one_thread_for_small_matrices()  # before rclpy imports numpy

try:
    import rclpy  # noqa: F401
except ImportError as error:
    raise ImportError(
        "semhier_ros.nodes needs ROS 2: source a ROS 2 installation (Jazzy, Kilted), or run `make` in a checkout of"
        " semhier_ros, or `pip install ros-rclpy ros-rmw-fastrtps-cpp` and the message wheels that README.md lists"
        f" ({error})",
        name="rclpy",
    ) from error
