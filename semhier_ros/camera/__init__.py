"""The two ends of a camera, without ROS: from frames to datagrams, and from datagrams to readings."""
