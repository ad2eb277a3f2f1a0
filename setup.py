"""What `pip install .` puts together without ROS 2: the Python package, its compiled kernels, models/ and config/ as
data inside it. Without a C++ compiler the kernels are left out, and Python computes the same, more slowly.

Everything that can be said declaratively is in pyproject.toml. ROS 2 builds use CMakeLists.txt and never run this file.
"""

from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import find_packages, setup

present = [name for name in ("models", "config") if Path(name).is_dir()]

KERNELS = Pybind11Extension(
    "semhier_ros._native",
    ["native/module.cpp"],
    depends=sorted(str(path) for path in Path("native").glob("*.?pp")),
    cxx_std=17,
    extra_compile_args=["-O3", "-ffp-contract=off"],
    optional=True,
)

setup(
    ext_modules=[KERNELS],
    packages=[*find_packages(include=["semhier_ros", "semhier_ros.*"]), *(f"semhier_ros.{name}" for name in present)],
    package_dir={f"semhier_ros.{name}": name for name in present},
    package_data={
        "semhier_ros": ["py.typed"],
        "semhier_ros.training.trees": ["*.html"],
        "semhier_ros.footage": ["*.msg"],
        "semhier_ros.lab.report": ["*.j2", "*.css", "*.js", "*.mplstyle"],
        **{f"semhier_ros.{name}": ["**/*"] for name in present},
    },
    include_package_data=False,
)
