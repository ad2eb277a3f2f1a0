"""Whether an ARM computer and this one read each other's blocks: aarch64 under user-mode emulation, no root needed.

    python tools/check_arm.py [--frames 100] [--networks 10] [--models street,road,imagenet] [--plain]

Needs Debian's or Ubuntu's apt-get, dpkg-deb and qemu-user-static, and a package registry with aarch64 wheels. It makes
a folder with a Python of Debian's arm64 packages, PyPI's aarch64 wheels of requirements/runtime.txt, and this package
with its kernels, compiled for aarch64 by PyPI's `ziglang` (about 1.5 GB; the system is not touched), and then, for each
model:

1. this machine encodes frames of the demo's video; ARM decodes every block and codes what it read anew: every
   symbol and every byte is compared;
2. ARM encodes the first `--networks` frames itself, networks and all; this machine decodes them and codes them anew.
   Networks may round otherwise there and choose other symbols: that is told, and no fault.

With --plain, ARM works without the kernels, in plain Python. Emulation says nothing of speed. Ends with status 1 where
a symbol or byte differs.
"""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libpython3-dev", "libstdc++6", "libgomp1", "zlib1g")
PLATFORMS = ("manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 37)))
"""Up to Debian 12's C library."""
NEEDED = ("runtime.txt", "report.txt")
COMPILER = "ziglang==0.17.1"
QEMU = ("qemu-aarch64-static", "qemu-aarch64")


def say(text: str) -> None:
    """A line on the way."""
    print(f"-- {text}", flush=True)


def quiet(command: list[str], what: str) -> None:
    """Runs a command; its output is shown only when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"{what} failed ({done.returncode}):\n{done.stdout[-3000:]}")


def make_root(root: Path) -> None:
    """A folder with Debian's arm64 Python, from packages that apt finds and dpkg-deb unpacks."""
    apt = root.parent / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    status = apt / "status"
    status.write_text("")
    options = ["APT::Architecture=arm64", "APT::Architectures=arm64", f"Dir::State={apt}/state"]
    options += [f"Dir::Cache={apt}/cache", f"Dir::State::status={status}", "Debug::NoLocking=1"]
    options += ["APT::Install-Recommends=0", "APT::Sandbox::User="]
    get = ["apt-get", *(part for option in options for part in ("-o", option)), "-qq"]
    say("asking apt for Debian's arm64 packages")
    quiet([*get, "update"], "apt-get update for arm64")
    quiet([*get, "--download-only", "-y", "install", *PACKAGES], "fetching arm64 packages")
    packages = sorted((apt / "cache" / "archives").glob("*.deb"))
    say(f"unpacking {len(packages)} packages")
    made = root.with_name("root.part")
    shutil.rmtree(made, ignore_errors=True)
    for package in packages:
        quiet(["dpkg-deb", "-x", str(package), str(made)], package.name)
    made.rename(root)


def python_of(root: Path) -> tuple[Path, str]:
    """The arm64 Python in a root and its version (`3.11`)."""
    found = sorted(
        path for path in (root / "usr" / "bin").glob("python3.[0-9]*") if path.name[7:].replace(".", "").isdigit()
    )
    if not found:
        sys.exit(f"{root}: no python3 in it; remove the folder and start again")
    return found[-1], found[-1].name.removeprefix("python")


def install_wheels(site: Path, version: str) -> None:
    """PyPI's aarch64 wheels of what the runtime needs, into a folder."""
    from packaging.requirements import Requirement  # which the ARM side has no use for

    say(f"installing aarch64 wheels for Python {version}")
    made = site.with_name("site.part")
    shutil.rmtree(made, ignore_errors=True)
    digits = version.replace(".", "")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(made), "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", version, "--no-compile"]
    command += [part for name in PLATFORMS for part in ("--platform", name)]
    command += [part for name in (f"cp{digits}", "abi3", "none") for part in ("--abi", name)]
    lines = [line for name in NEEDED for line in (ROOT / "requirements" / name).read_text().splitlines()]
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    command += [f"{one.name}{one.specifier}" for one in wanted]
    command += ["-c", str(ROOT / "requirements" / "constraints.txt")]
    quiet(command, "pip install for aarch64")
    made.rename(site)


def copy_package(root: Path, version: str, folder: Path, *, kernels: bool) -> Path:
    """This package as ARM imports it, with the kernels compiled for it or with none."""
    import pybind11

    package = folder / "package"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(ROOT / "semhier_ros", package / "semhier_ros", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("models", "config", "package.xml"):
        (package / name).symlink_to(ROOT / name)
    if not kernels:
        return package
    compiler = folder / "ziglang"
    if not compiler.is_dir():
        say("installing a compiler for aarch64")
        made = compiler.with_name("ziglang.part")
        quiet([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(made), COMPILER], "pip install")
        made.rename(compiler)
    say("compiling the kernels for aarch64")
    made = package / "semhier_ros" / "_native.so"
    command = [str(compiler / "ziglang" / "zig"), "c++", "-target", "aarch64-linux-gnu.2.31", "-shared", "-std=c++17"]
    command += ["-O3", "-ffp-contract=off", "-fvisibility=hidden", "-fPIC", "-Wno-macro-redefined"]
    command += ["-isystem", pybind11.get_include(), "-isystem", str(root / "usr" / "include" / f"python{version}")]
    command += ["-idirafter", str(root / "usr" / "include"), "-o", str(made), str(ROOT / "native" / "module.cpp")]
    quiet(command, "compiling for aarch64")
    return package


class Machine:
    """Runs this script's inner steps: here, or under emulation."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name, self._command = name, command

    def run(self, step: str, model: str, folder: Path, *arguments: str) -> float:
        """Runs a step; returns its seconds."""
        begin = time.monotonic()
        command = [*self._command, str(Path(__file__).resolve()), "--inside", step, model, str(folder), *arguments]
        done = subprocess.run(command, check=False)
        if done.returncode:
            sys.exit(f"{step} of {model} on {self.name} ended with status {done.returncode}")
        return time.monotonic() - begin


def machines(folder: Path, *, kernels: bool) -> tuple[Machine, Machine]:
    """This machine, and an ARM one with all that the package needs."""
    emulator = next((found for name in QEMU if (found := shutil.which(name))), None)
    if emulator is None:
        sys.exit("no qemu-aarch64-static found; install it: sudo apt install qemu-user-static")
    root, site = folder / "root", folder / "site"
    folder.mkdir(parents=True, exist_ok=True)
    if not root.is_dir():
        make_root(root)
    python, version = python_of(root)
    if not site.is_dir():
        install_wheels(site, version)
    package = copy_package(root, version, folder, kernels=kernels)
    values = {"PYTHONPATH": f"{site}:{package}", "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
    given = [part for name, value in values.items() for part in ("-E", f"{name}={value}")]
    unset = [part for name in ("OPENBLAS_CORETYPE", "VIRTUAL_ENV") for part in ("-U", name)]
    arm = Machine("ARM", [emulator, "-cpu", "max", "-L", str(root), *unset, *given, str(python)])
    return Machine("this machine", [sys.executable]), arm


# -- inside: one step in a process of its own, on either machine ------------------------------------------------------


def frames(count: int) -> Any:
    """The first frames of the demo's video."""
    from semhier_ros.footage.video import default_video, read_video

    return (frame.image for frame in islice(read_video(default_video()), count))


def inside(step: str, model: str, folder: Path, arguments: list[str]) -> None:
    """`pictures N`: frames of the video. `encode NAME N`: the first N of them become blocks, kept as NAME with the
    symbols that were coded. `decode NAME`: its blocks are read, and what was read is coded anew; all is compared."""
    from semhier_ros.api import Codec
    from semhier_ros.lab.studies import exactness
    from semhier_ros.native import kernels

    def load(name: str) -> Any:
        with (folder / f"{name}.pickle").open("rb") as file:
            return pickle.load(file)

    def keep(name: str, value: Any) -> None:
        with (folder / f"{name}.pickle").open("wb") as file:
            pickle.dump(value, file)

    if step == "pictures":
        keep("pictures", list(frames(int(arguments[0]))))
        return
    if step == "encode":
        arithmetic = exactness.Arithmetic(model, "openvino", 1, "f32")
        keep(arguments[0], arithmetic.encode(load("pictures")[: int(arguments[1])]))
        return
    model_codec: Any = Codec.load(model, "cpu", threads=1, precision="f32").model
    names = ("frames", "blocks", "bytes", "symbols", "symbols_that_differ", "blocks_that_differ")
    told: dict[str, int] = dict.fromkeys(names, 0)
    for sent, blocks in load(arguments[0]):
        code = None
        for index, data in enumerate(blocks):
            code = model_codec.decode(index, data, code)
        compared, different = exactness.differences(sent, exactness.symbols(code))
        again = [model_codec.stream.encode(index, code) for index in range(len(blocks))]
        told["frames"] += 1
        told["blocks"] += len(blocks)
        told["bytes"] += sum(map(len, blocks))
        told["symbols"] += compared
        told["symbols_that_differ"] += different
        told["blocks_that_differ"] += sum(one != other for one, other in zip(again, blocks, strict=True))
    (folder / f"{arguments[0]}.json").write_text(json.dumps(told | {"kernels": kernels is not None}))


def check(model: str, folder: Path, here: Machine, arm: Machine, options: argparse.Namespace) -> dict[str, Any]:
    """Runs a model's steps; returns what was compared."""
    here.run("pictures", model, folder, str(options.frames))
    here.run("encode", model, folder, "x86", str(options.frames))
    say(f"{model}: ARM decodes {options.frames} frames and codes them anew")
    seconds = arm.run("decode", model, folder, "x86")
    found = {"decoded on ARM": json.loads((folder / "x86.json").read_text()) | {"seconds": round(seconds)}}
    if options.networks:
        say(f"{model}: ARM encodes {options.networks} frames, networks and all")
        seconds = arm.run("encode", model, folder, "arm", str(options.networks))
        here.run("decode", model, folder, "arm")
        ours, theirs = (pickle.loads((folder / f"{name}.pickle").read_bytes()) for name in ("x86", "arm"))
        same = sum(one == other for (_, one), (_, other) in zip(ours, theirs, strict=False))
        told = json.loads((folder / "arm.json").read_text())
        found["encoded on ARM"] = told | {"seconds": round(seconds), "frames_with_the_same_bytes_as_here": same}
    return found


def tell(figures: dict[str, Any], path: Path | None) -> None:
    """Prints what was compared, and keeps it where `semhier results --add arm=FILE` takes it in."""
    from semhier_ros.lab.results import installed_hashes, keep, provenance
    from semhier_ros.lab.studies.tables import Table

    fields = ("frames", "blocks", "symbols", "symbols_that_differ", "blocks_that_differ")
    head = ["model", "direction", "frames", "blocks", "symbols", "symbols that differ", "blocks that differ"]
    rows = [
        [model, direction, *(step[field] for field in fields)]
        for model, found in figures.items()
        for direction, step in found.items()
    ]
    same = ", ".join(
        f"{model} {step['frames_with_the_same_bytes_as_here']} of {step['frames']}"
        for model, found in figures.items()
        for step in found.values()
        if "frames_with_the_same_bytes_as_here" in step
    )
    kernels = {step["kernels"] for found in figures.values() for step in found.values()}
    note = "aarch64 under QEMU's user-mode emulation, " + ("compiled kernels" if kernels == {True} else "plain Python")
    note += ": every block was read on the other machine and coded anew. Speed and GPUs are not measured."
    if same:
        note += f" Frames that ARM encoded, networks and all, to the bytes of here: {same}."
    table = Table("arm", "x86-64 and ARM read each other's blocks", head, rows, note)
    print(table.markdown())
    if path is not None:
        hashes = {name: value for name, value in installed_hashes().items() if name in figures}
        keep(path, "arm", {**provenance(), "command": "python " + " ".join(sys.argv)}, figures, [table], hashes)


def main() -> int:
    """Runs all steps and prints what was compared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="street,road,imagenet", help="model folders, between commas (%(default)s)")
    parser.add_argument("--frames", type=int, default=100, help="frames whose symbols are compared (%(default)s)")
    parser.add_argument("--networks", type=int, default=10, help="frames that ARM encodes itself (%(default)s)")
    parser.add_argument("--plain", action="store_true", help="without the compiled kernels on ARM")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "arm64", help="where the ARM Python is kept")
    parser.add_argument("--json", type=Path, help="also keep the figures in this file")
    options = parser.parse_args()
    here, arm = machines(options.folder.resolve(), kernels=not options.plain)
    work = options.folder.resolve() / "work"
    work.mkdir(exist_ok=True)
    figures = {model: check(model, work, here, arm, options) for model in options.models.split(",")}
    tell(figures, options.json)
    told = [step for found in figures.values() for step in found.values()]
    return int(any(step["symbols_that_differ"] or step["blocks_that_differ"] for step in told))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.argv[5:])
    else:
        sys.exit(main())
