"""Detectors that are not ours: layouts described as data, engines that run a file, and what they find as objects."""
