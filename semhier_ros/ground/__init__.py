"""From a box in a picture to a place on the ground, in metres, with its uncertainty. No ROS in here.

`Lens` (pixel to ray), `Mount` (where the camera sits), `locate` (boxes to `Located` objects); `frames` resolves trees
of transforms, `surface` reads depth images and point clouds, `earth` goes on to WGS84, `doors` says it to the tools of
people who have no ROS.
"""

from semhier_ros.ground.box_error import BoxError
from semhier_ros.ground.lens import GroundError, Lens
from semhier_ros.ground.locate import Located, locate, ranges
from semhier_ros.ground.mount import Mount
from semhier_ros.ground.sizes import Size, SizeTable

__all__ = ["BoxError", "GroundError", "Lens", "Located", "Mount", "Size", "SizeTable", "locate", "ranges"]
