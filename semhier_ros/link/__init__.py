"""The link: everything between the blocks of an encoder and the packets of a decoder. Knows only bytes and time.

`Scheduler` orders, packs and paces; `Pacer` is the thread around it; `Transport` is what sends.
`semhier_ros.link.zenoh_transport` (needs `eclipse-zenoh`) and `semhier_ros.link.emulator` are imported by those who use
them.
"""

from semhier_ros.link.pacer import Pacer
from semhier_ros.link.policy import LevelPolicy, default_policies
from semhier_ros.link.scheduler import Scheduler, SchedulerLimits
from semhier_ros.link.status import LevelStatus, SchedulerStatus
from semhier_ros.link.transport import Datagram, MemoryTransport, Transport
from semhier_ros.link.wire import ROS_FASTDDS, UNMETERED, ZENOH_TCP, ZENOH_TLS, ZENOH_UDP, WireModel, wire_model

__all__ = [
    "ROS_FASTDDS",
    "UNMETERED",
    "ZENOH_TCP",
    "ZENOH_TLS",
    "ZENOH_UDP",
    "Datagram",
    "LevelPolicy",
    "LevelStatus",
    "MemoryTransport",
    "Pacer",
    "Scheduler",
    "SchedulerLimits",
    "SchedulerStatus",
    "Transport",
    "WireModel",
    "default_policies",
    "wire_model",
]
