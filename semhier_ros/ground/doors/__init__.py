"""Places on the ground for tools that know no ROS: Cursor on Target, GeoJSON, MAVLink, and the wires they go out by."""
