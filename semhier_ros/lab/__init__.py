"""Evaluation room: footage, bags, statistics, reference codecs, the demo and its report.

Nothing here is imported by the nodes, and nothing here imports ROS 2: bags are read and written by `rosbags`.
"""
