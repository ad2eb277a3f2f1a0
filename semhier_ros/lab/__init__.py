"""Laboratory: replays, studies, statistics, reference codecs, the demo and its report.

Nothing here is imported by the nodes, and nothing here imports ROS 2.
"""
