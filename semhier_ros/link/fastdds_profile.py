"""The Fast DDS profile for level topics: one flow controller that paces, and a priority for each block's topic.

For `link.transport: ros` on rmw_fastrtps_cpp, whose writers otherwise send at once and alike. Fast DDS then paces by
itself, most urgent topic first; the rate that comes out is about two thirds of what the controller is given when
samples are larger than a period's share (measured with 3.2.3), hence periods of 100 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

PERIOD_MS = 100
LARGEST_UDP = 1400
"""UDP payloads above this are cut into DDS fragments, of which a lost one is resent alone."""
FIRST, LAST = -10, 10
"""Fast DDS's own scale of priorities, most urgent first."""


def fastdds_profile(cameras: Sequence[str], blocks: Sequence[str], semantic: int, budget_kbit: float) -> str:
    """The XML for these cameras' block topics, coarse first in `blocks`, of which the first `semantic` are semantic.

    `budget_kbit`: what the writers of one process may send together. Raises ValueError naming what is out of range.
    """
    if not cameras or not blocks:
        raise ValueError("cameras and blocks must name at least one each")
    if not 1.0 <= budget_kbit <= 1e7:
        raise ValueError(f"budget must be 1 to 1e7 kbit/s, not {budget_kbit:g}")
    if not 1 <= semantic <= len(blocks):
        raise ValueError(f"semantic must be 1 to {len(blocks)}, not {semantic}")
    budget = max(200, round(budget_kbit * 125 * PERIOD_MS / 1000))
    writers = "\n".join(
        _writer(camera, name, _priority(place, len(blocks)), place < semantic)
        for camera in cameras
        for place, name in enumerate(blocks)
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!-- Made by `semhier link fastdds-profile`. Use it with
     FASTDDS_DEFAULT_PROFILES_FILE=<this file> RMW_FASTRTPS_USE_QOS_FROM_XML=1 RMW_IMPLEMENTATION=rmw_fastrtps_cpp -->
<dds xmlns="http://www.eprosima.com">
 <profiles>
  <transport_descriptors>
   <transport_descriptor>
    <transport_id>semhier_udp</transport_id>
    <type>UDPv4</type>
    <maxMessageSize>{LARGEST_UDP}</maxMessageSize>
   </transport_descriptor>
  </transport_descriptors>
  <participant profile_name="semhier" is_default_profile="true">
   <rtps>
    <flow_controller_descriptor_list>
     <flow_controller_descriptor>
      <name>semhier</name>
      <scheduler>HIGH_PRIORITY</scheduler>
      <max_bytes_per_period>{budget}</max_bytes_per_period>
      <period_ms>{PERIOD_MS}</period_ms>
     </flow_controller_descriptor>
    </flow_controller_descriptor_list>
    <useBuiltinTransports>false</useBuiltinTransports>
    <userTransports><transport_id>semhier_udp</transport_id></userTransports>
   </rtps>
  </participant>
{writers}
 </profiles>
</dds>
"""


def _priority(place: int, count: int) -> int:
    """-10 for the coarsest block to 10 for the finest."""
    return FIRST if count == 1 else round(FIRST + (LAST - FIRST) * place / (count - 1))


def _writer(camera: str, block: str, priority: int, reliable: bool) -> str:
    topic = escape(f"/{camera}/semhier/{block}", {'"': "&quot;"})
    kind = "RELIABLE" if reliable else "BEST_EFFORT"
    depth = 2 if reliable else 1
    return f"""  <data_writer profile_name="{topic}">
   <topic><historyQos><kind>KEEP_LAST</kind><depth>{depth}</depth></historyQos></topic>
   <qos>
    <reliability><kind>{kind}</kind></reliability>
    <publishMode><kind>ASYNCHRONOUS</kind><flow_controller_name>semhier</flow_controller_name></publishMode>
   </qos>
   <historyMemoryPolicy>PREALLOCATED_WITH_REALLOC</historyMemoryPolicy>
   <propertiesPolicy><properties><property>
    <name>fastdds.sfc.priority</name><value>{priority}</value>
   </property></properties></propertiesPolicy>
  </data_writer>"""
