"""From a node's `link.*` parameters to the carrier of its link."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

from semhier_ros.codec.envelope import read_key
from semhier_ros.link.carriers import Carrier, RadioSettings, ZenohCarrier, carrier
from semhier_ros.link.radio.ports import device_trouble
from semhier_ros.link.zenoh.config import ZenohOptions

MOST_SECRET_BYTES = 4096
"""The longest file that a secret is read from."""


def secret(field: str, value: str, file: str) -> str:
    """What a secret parameter `field` is: `value`, or the text of `file`, which `ros2 param dump` does not show.

    Raises ValueError when both are given, OSError naming the field when the file cannot be read.
    """
    if not file:
        return value
    if value:
        raise ValueError(f"{field} and {field}_file: both are given, expected only one of them")
    try:
        with Path(file).open("rb") as opened:
            data = opened.read(MOST_SECRET_BYTES + 1)
        if len(data) > MOST_SECRET_BYTES:
            raise ValueError(f"{field}_file: {file!r} is longer than {MOST_SECRET_BYTES} bytes")
        return data.decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"{field}_file: {file!r} is not UTF-8 text") from None
    except OSError as error:
        raise OSError(f"{field}_file: {file!r} cannot be read: {error.strerror}") from None


def shared_key(values: SimpleNamespace) -> bytes | None:
    """The key of `link.key` or `link.key_file`, None without one. Raises ValueError or OSError naming the field."""
    return read_key(secret("link.key", values.link_key, values.link_key_file))


_OWN = {
    "udp": ["listen", "peer"],
    "serial": ["device", "baud", "framing"],
    "mavlink": [
        "device",
        "baud",
        "listen",
        "peer",
        "system",
        "component",
        "target_system",
        "target_component",
        "share",
    ],
}


def node_carrier(values: SimpleNamespace) -> Carrier:
    """The carrier that `link.transport`, which is not `ros`, asks for. Raises ValueError or OSError naming the field
    that is wrong, ImportError where a package is missing."""
    name, key = values.link_transport, shared_key(values)
    if name == "zenoh":
        return ZenohCarrier(zenoh_options(values), key)
    settings = {field: getattr(values, f"link_{name}_{field}") for field in _OWN[name]}
    for field in fields(RadioSettings):
        settings[field.name] = getattr(values, f"link_radio_{field.name}")
    settings["check"] = int(settings["check"])
    try:
        return carrier(name, settings, key)
    except ValueError as error:
        wrong = str(error).split(":")[0].split(" ")[0]
        raise ValueError(f"link.{name if wrong in _OWN[name] else 'radio'}.{error}") from None


def link_at_first_sight(values: SimpleNamespace) -> str:
    """Why the link that the parameters ask for cannot open now, in a line, empty when nothing is seen: for a node to
    tell before it loads what takes long. Raises as `node_carrier` does."""
    if values.link_transport == "ros":
        return ""
    node_carrier(values)
    devices = {"serial": values.link_serial_device, "mavlink": values.link_mavlink_device}
    device = devices.get(values.link_transport)
    return device_trouble(device) if device else ""


def zenoh_options(values: SimpleNamespace) -> ZenohOptions:
    """The session that the parameters ask for. Raises ValueError or OSError naming the field that is wrong."""
    return ZenohOptions(
        connect=tuple(item for item in values.link_zenoh_connect if item),
        listen=tuple(item for item in values.link_zenoh_listen if item),
        prefix=values.link_zenoh_prefix,
        mode=values.link_zenoh_mode,
        lease=values.link_zenoh_lease,
        open_timeout=values.link_zenoh_open_timeout,
        batch=values.link_zenoh_batch,
        root_ca=values.link_zenoh_root_ca,
        certificate=values.link_zenoh_certificate,
        private_key=values.link_zenoh_private_key,
        user=values.link_zenoh_user,
        password=secret("link.zenoh.password", values.link_zenoh_password, values.link_zenoh_password_file),
        dictionary=values.link_zenoh_dictionary,
    )


def meeting_place(values: SimpleNamespace) -> str:
    """Where this end looks for the other, in words, for an operator whose two ends do not meet."""
    name = values.link_transport
    if name == "ros":
        return "on its block topics"
    if name == "serial":
        return f"at {values.link_serial_device}"
    if name == "mavlink" and values.link_mavlink_device:
        return f"at {values.link_mavlink_device}"
    own = {"zenoh": ("connect", "listen"), "udp": ("peer", "listen"), "mavlink": ("peer", "listen")}[name]
    there, here = (getattr(values, f"link_{name}_{field}") for field in own)
    places = [", ".join(place) if isinstance(place, list) else place for place in (there, here)]
    said = [f"{word} {place}" for word, place in zip(("at", "listening on"), places, strict=True) if place]
    return " or ".join(said) or "nowhere"
