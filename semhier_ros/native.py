"""The compiled kernels, where this package was built with a C++ compiler; `kernels` is None where it was not.

A kernel does faster what a few lines of Python say beside its call, bit for bit the same; these lines are its
definition, and what runs without it. Sources: native/; built by CMakeLists.txt in a ROS 2 workspace, by setup.py for
pip.
"""

from __future__ import annotations

import types
from importlib import import_module

kernels: types.ModuleType | None
try:
    kernels = import_module("semhier_ros._native")
except ImportError:
    kernels = None
