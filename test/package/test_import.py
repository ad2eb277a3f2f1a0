"""What importing costs, and what works with parts missing. Every case is a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("openvino", "cv2", "torch", "numpy", "zenoh")

needs_messages = pytest.mark.skipif(
    importlib.util.find_spec("semhier_ros.msg") is None, reason="the messages are not built: run make"
)
needs_model = pytest.mark.skipif(not (ROOT / "models" / "road").is_dir(), reason="models/road is not in this tree")


def run(code: str, *, without: tuple[str, ...] = (), folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Runs `code` in a fresh Python in which the modules `without` cannot be imported."""
    block = "".join(f"sys.modules[{name!r}] = None; " for name in without)
    return subprocess.run(
        [sys.executable, "-c", f"import sys; {block}\n{code}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def output(code: str, *, without: tuple[str, ...] = (), folder: Path = ROOT) -> str:
    result = run(code, without=without, folder=folder)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_package_alone_loads_nothing_heavy() -> None:
    assert output(f"import semhier_ros; print([n for n in {HEAVY} if n in sys.modules])") == "[]"


@needs_messages
def test_messages_load_neither_openvino_nor_opencv_nor_torch() -> None:
    code = f"from semhier_ros.msg import SemanticBlock; print([n for n in {HEAVY[:3]} if n in sys.modules])"
    assert output(code) == "[]"


@needs_messages
def test_messages_and_codec_import_from_a_foreign_folder_too(tmp_path: Path) -> None:
    code = "from semhier_ros.msg import SemanticBlock; from semhier_ros import Codec; print(Codec.__name__)"
    assert output(code, folder=tmp_path) == "Codec"


def test_the_codec_is_there_at_first_use() -> None:
    assert output("import semhier_ros; print('Codec' in dir(semhier_ros), semhier_ros.Codec.__name__)") == "True Codec"


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert "has no attribute 'Kodec'" in run("import semhier_ros; semhier_ros.Kodec").stderr


def test_nodes_without_ros_say_in_one_line_what_to_install() -> None:
    result = run("import semhier_ros.nodes.encoder_node", without=("rclpy",))
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: semhier_ros.nodes needs ROS 2")
    assert "make" in last


def test_every_room_but_the_nodes_lives_without_ros_and_torch() -> None:
    code = (
        "import semhier_ros.api, semhier_ros.cli, semhier_ros.codec, semhier_ros.taxonomy\n"
        "import semhier_ros.link, semhier_ros.scene, semhier_ros.whole_image, semhier_ros.lab\n"
        "print(any(n.partition('.')[0] in ('torch', 'rclpy') and sys.modules[n] for n in sys.modules))"
    )
    assert output(code, without=("torch", "rclpy", "torchvision", "timm")) == "False"


@needs_model
def test_encoder_and_decoder_run_with_torch_absent() -> None:
    code = (
        "import numpy as np\n"
        "from semhier_ros import Codec\n"
        "codec = Codec.load('road', device='auto')\n"
        "blocks = codec.encode(np.full((360, 640, 3), 90, np.uint8), frame=7)\n"
        "decoder = codec.decoder(image_size=(640, 360))\n"
        "readings = [decoder.push(block) for block in blocks]\n"
        "assert readings[-1].frame == 7\n"
        "print(len(blocks) == len(codec.block_names), decoder.picture(7).shape)"
    )
    assert output(code, without=("torch", "torchvision", "timm", "compressai")) == "True (360, 640, 3)"


def test_help_is_quick_and_loads_no_room() -> None:
    code = (
        "from semhier_ros.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([n for n in {HEAVY} if n in sys.modules])"
    )
    assert output(code).endswith("[]")
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "semhier_ros.cli", "--help"], cwd=ROOT, capture_output=True, check=True)
        times.append(time.perf_counter() - start)
        empty = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], cwd=ROOT, capture_output=True, check=True)
        times[-1] -= time.perf_counter() - empty  # Python's own start depends on the machine, not on us
    assert min(times) < 0.3


def test_programs_keep_small_matrices_on_one_thread() -> None:
    """The command and the nodes set it before numpy is there; who has set it already keeps their word."""
    code = "import os, semhier_ros.cli as c; c.one_thread_for_small_matrices(); "
    code += "print(os.environ['OPENBLAS_NUM_THREADS'], 'numpy' in __import__('sys').modules)"
    for given, wanted in ((None, "1 False"), ("3", "3 False")):
        own = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
        own |= {"OPENBLAS_NUM_THREADS": given} if given else {}
        found = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == wanted
