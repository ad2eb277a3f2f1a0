#!/usr/bin/env bash
# Says in one line what is missing on this machine before anything is installed.
set -euo pipefail

python="${PYTHON:-python3}"
fail() {
  echo "semhier_ros: $1" >&2
  exit 1
}

command -v "$python" >/dev/null || fail "no '$python' found; install it: sudo apt install python3 python3-venv"
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' ||
  fail "$("$python" --version) is not supported; set PYTHON= to a Python 3.10 to 3.13 (3.11 is tested)"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
  fail "Python's venv is missing; install it: sudo apt install python3-venv"
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"))' ||
  fail "Python's headers are missing; install them: sudo apt install python3-dev"
{ command -v c++ && command -v cc; } >/dev/null ||
  fail "no C and C++ compiler found; install them: sudo apt install build-essential"
if [ -n "${ROS_DISTRO:-}" ]; then
  command -v colcon >/dev/null || fail "no colcon found; install it: sudo apt install python3-colcon-common-extensions"
elif [ "$(uname -sm)" != "Linux x86_64" ]; then
  fail "ROS 2 wheels exist for x86-64 Linux only (this is $(uname -sm)): source a ROS 2 first, or use 'pip install .' without it"
fi
