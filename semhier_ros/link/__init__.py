"""The link: everything between the blocks of an encoder and the packets of a decoder. Knows only bytes and time.

`Scheduler` orders, packs and paces; `Pacer` is the thread around it; `Transport` is what sends.
`semhier_ros.link.zenoh` (needs `eclipse-zenoh`) and `semhier_ros.link.emulate` are imported by those who use them.
"""

from semhier_ros.link.schedule.pacer import Pacer
from semhier_ros.link.schedule.policy import LevelPolicy, default_policies
from semhier_ros.link.schedule.scheduler import Scheduler, SchedulerLimits
from semhier_ros.link.schedule.status import LevelStatus, SchedulerStatus
from semhier_ros.link.schedule.wire import (
    ROS_FASTDDS,
    UNMETERED,
    ZENOH_TCP,
    ZENOH_TLS,
    ZENOH_UDP,
    WireModel,
    wire_model,
)
from semhier_ros.link.transport import Datagram, MemoryTransport, Transport

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
