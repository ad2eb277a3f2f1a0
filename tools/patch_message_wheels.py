"""Make the ROS 2 message wheels of a virtual environment fit to build against.

Their CMake exports carry the include folders of the machine that built the wheels (`/opt/python/cp3XX-cp3XX/…`). This
replaces them by those of the Python that runs this script. Running it again changes nothing; run it after every newly
installed message wheel.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy

FOREIGN_NUMPY = re.compile(r'/opt/python/[^/;"]+/lib/python[^/;"]+/site-packages/numpy/(?:_core|core)/include')
FOREIGN_PYTHON = re.compile(r'/opt/python/[^/;"]+/include/python[^/;"]+')


def patch(prefix: Path) -> int:
    """Patch every export below `prefix`/share and return the number of files that changed."""
    changed = 0
    for export in sorted(prefix.glob("share/*/cmake/export_*Export.cmake")):
        text = export.read_text()
        patched = FOREIGN_NUMPY.sub(lambda _: numpy.get_include(), text)
        patched = FOREIGN_PYTHON.sub(lambda _: sysconfig.get_paths()["include"], patched)
        if "/opt/python/" in patched:
            raise SystemExit(f"{export}: holds a path below /opt/python that this script does not know")
        if patched != text:
            export.write_text(patched)
            changed += 1
    return changed


if __name__ == "__main__":
    print(f"patched {patch(Path(sys.prefix))} CMake exports of message wheels")
