"""The Zenoh session that a thin link wants: no scouting, quick reconnects, one datagram a message."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semhier_ros.link.transport import LinkDependencyError

_ENDPOINT = re.compile(r"^(udp|tcp|tls|quic|ws|unixsock-stream)/\S{1,200}$")
_NAME = re.compile(r"^[A-Za-z0-9_.\-]{1,64}(/[A-Za-z0-9_.\-]{1,64}){0,7}")


def zenoh_module() -> Any:
    """The `zenoh` module; LinkDependencyError saying what to install where it is missing."""
    try:
        import zenoh
    except ImportError as error:
        raise LinkDependencyError(
            "the zenoh transport needs the Python package eclipse-zenoh: pip install eclipse-zenoh==1.10.2"
        ) from error
    return zenoh


def is_name(value: str) -> bool:
    """Whether `value` can be part of a key: up to eight chunks of letters, digits, `_`, `-`, `.`."""
    return _NAME.fullmatch(value) is not None


def check_name(field: str, value: str) -> str:
    """`value` if it can be part of a key (`is_name`), else ValueError."""
    if not is_name(value):
        raise ValueError(
            f"{field} must be 1 to 8 chunks of letters, digits, '_', '-' or '.', separated by '/', not {value!r}"
        )
    return value


RANGES: dict[str, tuple[float, float]] = {
    "lease": (1.0, 600.0),
    "open_timeout": (0.1, 60.0),
    "retry": (0.01, 0.25),
    "batch": (500, 65_000),
}
"""What the numbers of `ZenohOptions` may be, from and to."""

_REMEDIES = (
    ("Address already in use", "give `listen` another port, and `connect` of the other end too, or end the other one"),
    ("Cannot assign requested address", "no interface of this machine has an address of `listen`: {listen}"),
    ("lookup address", "a host name of these is not known here: {both}"),
    ("invalid socket address", "an endpoint looks like udp/host:port: {both}"),
    ("Permission denied", "this user may not use an endpoint or a file of the session: {both}"),
    ("Unable to connect", "no Zenoh router answers at {connect}; it is tried again and again"),
    ("TLS", "look at root_ca, certificate and private_key: PEM files that belong together"),
)
_SOURCE = re.compile(r"\s+at /\S+\.rs:\d+\.?")


def opening_trouble(error: Exception, options: ZenohOptions) -> str:
    """Why a session cannot open, in one line: what Zenoh or the system says, and what to do about it."""
    said = " ".join(_SOURCE.sub("", str(error)).split())
    listen, connect = ", ".join(options.listen) or "nowhere", ", ".join(options.connect) or "nowhere"
    both = f"listen {listen}; connect {connect}"
    for sign, remedy in _REMEDIES:
        if sign in said:
            said += f": {remedy.format(listen=listen, connect=connect, both=both)}"
            break
    return f"the Zenoh session cannot open ({both.replace(';', ',')}): {said}"


@dataclass(frozen=True, slots=True)
class ZenohOptions:
    """Where and how a Zenoh session connects.

    `connect`, `listen`: endpoints such as `udp/10.0.0.1:7447`, `tcp/…`, `tls/…` (udp where loss repair is ours).
    `prefix`: first part of every key. `mode`: `peer`, or `client` (then a router must be among `connect`).
    `lease`: seconds without a sign of life after which a session is given up (1 to 600): longer than the outages it
    should outlive. `open_timeout`: seconds that one try to open may take (0.1 to 60): two round trips at least.
    `retry`: seconds between tries (0.01 to 0.25). `batch`: the largest datagram Zenoh makes (bytes, 500 to 65000).
    `root_ca`, `certificate`, `private_key`: PEM files for `tls/` endpoints; with all three both ends check each other.
    `user`, `password`: Zenoh's user/password check; `dictionary`: file of `user:password` lines on the listening end.
    Raises ValueError naming field, value and range.
    """

    connect: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    prefix: str = "semhier"
    mode: str = "peer"
    lease: float = 60.0
    open_timeout: float = 1.0
    retry: float = 0.25
    batch: int = 1400
    root_ca: str = ""
    certificate: str = ""
    private_key: str = ""
    user: str = ""
    password: str = ""
    dictionary: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "connect", tuple(self.connect))
        object.__setattr__(self, "listen", tuple(self.listen))
        for field, endpoints in (("connect", self.connect), ("listen", self.listen)):
            for endpoint in endpoints:
                if not _ENDPOINT.match(endpoint):
                    raise ValueError(f"{field} endpoints look like udp/host:port, tcp/… or tls/…, not {endpoint!r}")
        if not self.connect and not self.listen:
            raise ValueError("connect or listen must name at least one endpoint, both are empty")
        check_name("prefix", self.prefix)
        if self.mode not in ("peer", "client"):
            raise ValueError(f"mode must be peer or client, not {self.mode!r}")
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be {low} to {high}, not {value}")

    def check_files(self) -> None:
        """Raises OSError naming the field and the file that cannot be read: Zenoh says nothing of some of them."""
        for field in ("root_ca", "certificate", "private_key", "dictionary"):
            name = getattr(self, field)
            if name:
                try:
                    with Path(name).open("rb"):
                        pass
                except OSError as error:
                    raise OSError(f"{field}: {name!r} cannot be read: {error.strerror}") from None

    def config(self) -> Any:
        """The `zenoh.Config` for these options."""
        zenoh = zenoh_module()
        config = zenoh.Config()
        retry = {
            "period_init_ms": int(self.retry * 1000),
            "period_max_ms": int(self.retry * 1000),
            "period_increase_factor": 1,
        }
        timeout = int(self.open_timeout * 1000)
        settings: dict[str, Any] = {
            "mode": self.mode,
            "connect/endpoints": list(self.connect),
            "connect/timeout_ms": -1 if self.mode == "peer" else 0,
            "connect/exit_on_failure": self.mode == "client",
            "connect/retry": retry,
            "listen/endpoints": list(self.listen),
            "listen/exit_on_failure": True,
            "scouting/multicast/enabled": False,
            "scouting/gossip/enabled": False,
            "timestamping/enabled": False,
            "transport/unicast/open_timeout": timeout,
            "transport/unicast/accept_timeout": timeout,
            "transport/shared_memory/enabled": False,
            "transport/link/tx/lease": int(self.lease * 1000),
            "transport/link/tx/keep_alive": 4,
            "transport/link/tx/batch_size": self.batch,
            "transport/link/rx/max_message_size": 131_072,
        }
        if self.root_ca:
            settings["transport/link/tls/root_ca_certificate"] = self.root_ca
        if self.certificate and self.private_key:
            for end in ("listen", "connect"):
                settings[f"transport/link/tls/{end}_certificate"] = self.certificate
                settings[f"transport/link/tls/{end}_private_key"] = self.private_key
            if self.root_ca:
                settings["transport/link/tls/enable_mtls"] = True
        if self.user:
            settings["transport/auth/usrpwd/user"] = self.user
            settings["transport/auth/usrpwd/password"] = self.password
        if self.dictionary:
            settings["transport/auth/usrpwd/dictionary_file"] = self.dictionary
        for key, value in settings.items():
            config.insert_json5(key, json.dumps(value))
        return config
