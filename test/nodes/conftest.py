"""Real processes and a probe: what the multi-process tests of the nodes share."""

from __future__ import annotations

import array
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from strict_messages import vision_library

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "road" / "model.json"
PATIENCE = 3.0
"""How many times as long as a test says is waited: what it says suits a quiet machine."""
SETTLING, ASKED_AGAIN = 0.5, 5.0  # seconds: a new client waits, and a lost answer is asked for again
STOPPING = 10.0
"""Seconds that a node may take to stop, when its test has ended. A killed one may take the probe with it: where a peer
was killed, Fast DDS 3.2 now and then locks shared memory that is mapped no more (SharedMemChannelResource::release, in
destroy_node)."""
SECOND = 1_000_000_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of this folder may take as long as their waits do."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))


class NodeProcess:
    """A node in a process of its own. `log()` is what it wrote; `end` asks it to stop and checks how it did."""

    def __init__(
        self, module: str, parameters: dict[str, Any], folder: Path, *, name: str, arguments: list[str]
    ) -> None:
        self.name = name
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}), encoding="utf-8")
        self._log = folder / f"{name}.log"
        command = [sys.executable, "-m", f"semhier_ros.nodes.{module}", *arguments, "--ros-args"]
        command += ["--params-file", str(file), "-r", f"__node:={name}"]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)

    def log(self) -> str:
        """Everything that was written so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def send(self, number: int) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = 30.0) -> int:
        """The exit code, once the process has ended by itself."""
        return self._process.wait(PATIENCE * timeout)

    def running(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def end(self, number: int = signal.SIGINT, within: float = 60.0) -> None:
        """Ends the node by a signal: exit code 0, no traceback, in so many seconds."""
        assert self.running(), f"{self.name} ended by itself:\n{self.log()}"
        self._process.send_signal(number)
        code = self._process.wait(within)
        assert code == 0, f"{self.name} ended with {code}:\n{self.log()}"
        assert "Traceback" not in self.log(), self.log()

    def put_away(self, by: float) -> None:
        """Ends it, if it still runs: it may stop until `by`, a moment of time.monotonic(), and is killed then."""
        try:
            self._process.wait(max(0.0, by - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


class Probe:
    """A ROS node in this process, in the test's own domain: publishes images, collects what others publish."""

    def __init__(self, domain: int) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("probe", context=self.context, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._clients: dict[str, Any] = {}
        self._publishers: dict[str, Any] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._stopping.is_set():
            self._executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        """Ends the probe."""
        import rclpy

        self._stopping.set()
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def listen(self, kind: Any, topic: str, qos: Any = 50) -> list[Any]:
        """A list to which every message on `topic` is appended."""
        messages: list[Any] = []
        self.node.create_subscription(kind, topic, messages.append, qos)
        return messages

    def publisher(self, kind: Any, topic: str, qos: Any = 10) -> Any:
        """A publisher, the same one for the same topic."""
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(kind, topic, qos)
        return self._publishers[topic]

    def publish_image(self, camera: str, rgb: np.ndarray, stamp_ns: int, frame_id: str = "lens") -> None:
        """Publishes an rgb8 image with sensor-data quality of service."""
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import Image

        height, width = rgb.shape[:2]
        message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, SECOND)
        message.header.frame_id = frame_id
        message.data = array.array("B", rgb.tobytes())
        self.publisher(Image, f"{camera}/image_raw", qos_profile_sensor_data).publish(message)

    def wait(self, condition: Callable[[], Any], timeout: float = 30.0, what: str = "what the test waits for") -> Any:
        """Waits until `condition()` is true and returns its value; fails after `PATIENCE` times `timeout` seconds."""
        end = time.monotonic() + PATIENCE * timeout
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.02)
        pytest.fail(f"not within {PATIENCE * timeout:g} s: {what}")

    def call(self, kind: Any, service: str, request: Any, timeout: float = 40.0) -> Any:
        """The answer of a service.

        A client knows when its requests can arrive, not when the server has found the way back: an answer to a new
        client may be lost, on a busy machine more often. So clients are kept, a new one waits a moment, and what may be
        asked twice (all but transitions) is asked again when no answer comes.
        """
        client = self._clients.get(service)
        if client is None:
            client = self._clients[service] = self.node.create_client(kind, service)
            assert client.wait_for_service(timeout), f"no service {service}"
            time.sleep(SETTLING)
        end = time.monotonic() + timeout
        while True:
            future = client.call_async(request)
            last = service.endswith("/change_state") or time.monotonic() + ASKED_AGAIN >= end
            until = end if last else time.monotonic() + ASKED_AGAIN
            while not future.done() and time.monotonic() < until:
                time.sleep(0.02)
            if future.done():
                return future.result()
            if last:
                pytest.fail(f"not within {timeout:g} s: an answer of {service}")

    def set_parameter(self, node: str, name: str, value: Any) -> Any:
        """Sets a parameter of a running node; the result with `successful` and `reason`."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, f"{node}/set_parameters", request).results[0]


class Camera:
    """Publishes images in a thread, `rate` a second, each with the stamp of its moment. `sent`: stamp -> picture."""

    def __init__(self, probe: Probe, name: str, pictures: list[np.ndarray], rate: float = 5.0) -> None:
        self.sent: dict[int, np.ndarray] = {}
        self._probe, self._name, self._pictures, self._rate = probe, name, pictures, rate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Camera:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        start, number = time.monotonic(), 0
        while not self._stopping.wait(max(0.0, start + number / self._rate - time.monotonic())):
            picture = self._pictures[number % len(self._pictures)]
            stamp_ns = time.time_ns()
            self._probe.publish_image(self._name, picture, stamp_ns)
            self.sent[stamp_ns] = picture
            number += 1


class BlockCameras:
    """Cameras whose blocks are made once and published over ROS topics, as their encoders would."""

    def __init__(self, probe: Probe, codec: Any, pictures: list[np.ndarray], cameras: Sequence[str]) -> None:
        self._probe, self._codec = probe, codec
        self._size = pictures[0].shape[1::-1]
        self._blocks = {camera: codec.encode(pictures[n % len(pictures)]) for n, camera in enumerate(cameras)}

    def announce(self, *others: str) -> None:
        """Describes these cameras, and `others` that are only described; returns once a decoder listens to all blocks
        of these."""
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from semhier_ros.msg import SemanticBlock
        from semhier_ros.msg import StreamInfo as StreamInfoMessage

        from semhier_ros.codec.stream_info import StreamInfo
        from semhier_ros.nodes.conversions import stream_info_to_message
        from semhier_ros.nodes.ros_link import LATCHED, block_topic

        reliable = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        codec = self._codec
        for camera in (*self._blocks, *others):
            info = StreamInfo(camera, "lens", *self._size, codec.name, codec.stream_hash, codec.model_hash, 1)
            publisher = self._probe.publisher(StreamInfoMessage, block_topic(camera, "info"), LATCHED)
            publisher.publish(stream_info_to_message(info))
        for camera in self._blocks:
            for name in codec.block_names:
                publisher = self._probe.publisher(SemanticBlock, block_topic(camera, name), reliable)
                self._probe.wait(publisher.get_subscription_count, 60, "the decoder's subscriptions")

    def send(self, frame: int) -> int:
        """Publishes a frame of every camera; its stamp."""
        from semhier_ros.msg import SemanticBlock

        from semhier_ros.codec.packet import Packet
        from semhier_ros.nodes.conversions import block_message
        from semhier_ros.nodes.ros_link import block_topic

        stamp_ns = time.time_ns()
        for camera, blocks in self._blocks.items():
            for block in blocks:
                message = block_message(stamp_ns, frame, Packet.pack([replace(block, frame=frame)]))
                topic = block_topic(camera, self._codec.block_names[block.index])
                self._probe.publisher(SemanticBlock, topic).publish(message)
        return stamp_ns


@pytest.fixture
def block_cameras(probe: Probe, codec: Any, street: list[np.ndarray]) -> Callable[[Sequence[str]], BlockCameras]:
    """Cameras of these names that show the street."""
    return lambda cameras: BlockCameras(probe, codec, street, cameras)


@pytest.fixture
def probe(ros_domain: int) -> Iterator[Probe]:
    """The test's probe."""
    pytest.importorskip("rclpy", reason="the nodes need ROS 2")
    pytest.importorskip("semhier_ros.msg", reason="the messages are generated by `make` or colcon")
    made = Probe(ros_domain)
    yield made
    made.close()


@pytest.fixture
def start(ros_domain: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., NodeProcess]]:
    """Starts nodes: start(module, parameters, name=…, arguments=[…]); those that still run at the end are stopped."""
    if not MODEL.is_file():
        pytest.skip("models/road is missing")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])))
    started: list[NodeProcess] = []

    def run(
        module: str, parameters: dict[str, Any] | None = None, *, name: str = "", arguments: list[str] | None = None
    ) -> NodeProcess:
        usual: dict[str, Any] = {}
        if module in ("encoder_node", "decoder_node"):
            usual = {"device": "cpu", "threads": 1}
        if module == "encoder_node":
            usual |= {"model": "road", "precision": "f32"}  # as the codec that tests compare with
        if module == "decoder_node":
            usual |= {"models": ["road"]}
        process = NodeProcess(
            module, usual | (parameters or {}), tmp_path, name=name or module, arguments=arguments or []
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.running():
            process.send(signal.SIGTERM)
            process.send(signal.SIGCONT)
    by = time.monotonic() + STOPPING
    for process in started:
        process.put_away(by)


@pytest.fixture
def camera(probe: Probe) -> Callable[..., Camera]:
    """Makes cameras: camera(name, pictures, rate); use them as context managers."""
    return lambda name, pictures, rate=5.0: Camera(probe, name, pictures, rate)


@pytest.fixture(scope="session")
def codec() -> Any:
    """The road model in this process, with the stream and the arithmetic that the started nodes use."""
    if not MODEL.is_file():
        pytest.skip("models/road is missing")
    from semhier_ros import Codec

    return Codec.load("road", device="cpu", threads=1, precision="f32", foot_bits=True)


@pytest.fixture
def pace(codec: Any, street: list[np.ndarray]) -> float:
    """Frames per second that this machine encodes with ease just now: at most 4, at least 1."""
    begin = time.monotonic()
    for picture in (street * 3)[:3]:
        codec.encode(picture)
    return min(4.0, max(1.0, 0.4 * 3 / (time.monotonic() - begin)))


@pytest.fixture(scope="session")
def street(codec: Any) -> list[np.ndarray]:
    """Pictures of the demo's street in which the model finds something, 640x272 RGB."""
    from semhier_ros.footage.video import FootageError, default_video, read_video

    try:
        video = default_video()
    except FootageError as error:
        pytest.skip(f"no footage: {error}")
    pictures = [frame.image for frame in islice(read_video(video), 140, 200, 20)]
    found = [picture for picture in pictures if expected_readings(codec, picture)[0].detections]
    if not found:
        pytest.skip("the model finds nothing in the street video: is it trained?")
    return found


@pytest.fixture(scope="session")
def empty_scene() -> np.ndarray:
    """A picture without anything in it, of odd size."""
    return np.full((135, 241, 3), 90, np.uint8)


def expected_readings(codec: Any, picture: np.ndarray) -> list[Any]:
    """The readings that this process makes of a picture, one per block."""
    decoder = codec.decoder(image_size=(picture.shape[1], picture.shape[0]))
    return [decoder.push(block) for block in codec.encode(picture)]


@pytest.fixture(scope="session")
def readings_of(codec: Any) -> Callable[[np.ndarray], list[Any]]:
    """Readings of a picture, one per block, by this process."""
    kept: dict[bytes, list[Any]] = {}

    def read(picture: np.ndarray) -> list[Any]:
        key = picture.tobytes()
        if key not in kept:
            kept[key] = expected_readings(codec, picture)
        return kept[key]

    return read


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Finds UDP ports of 127.0.0.1 that nobody uses now."""

    def find() -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe_socket:
            probe_socket.bind(("127.0.0.1", 0))
            return int(probe_socket.getsockname()[1])

    return find


@pytest.fixture
def vision() -> Any:
    """The module vision_msgs.msg, or where it is not installed, stand-ins that are as strict."""
    try:
        import vision_msgs.msg as found
    except ImportError:
        return vision_library().module
    return found
