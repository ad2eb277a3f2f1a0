"""Why nothing comes on a topic: what a beginner would have to ask `ros2 topic list` and `ros2 topic info` for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rclpy.node import Node

OURS = ("/picture", "/overlay")
"""How the topics of a decoder's own images end: what comes out of a stream is nothing to make one of."""

NAMED = 4
"""Topics that a sentence names at most."""


def why_silent(node: Node, topic: str, kind: Any, others: Sequence[Any] = ()) -> str:
    """Why `node` hears nothing on `topic`, where messages of the class `kind` are wanted, as the end of a sentence.

    Names what others publish elsewhere, of `kind` or one of the classes `others`.
    """
    topic = node.resolve_topic_name(topic)
    wanted = {_type(one) for one in (kind, *others)}
    own = (node.get_name(), node.get_namespace())
    elsewhere = [
        f"{name} ({', '.join(types)})"
        for name, types in node.get_topic_names_and_types()
        if name != topic
        and not name.endswith(OURS)
        and wanted.intersection(types)
        and any((info.node_name, info.node_namespace) != own for info in node.get_publishers_info_by_topic(name))
    ]
    return explained(_type(kind), [info.topic_type for info in node.get_publishers_info_by_topic(topic)], elsewhere)


def explained(kind: str, offered: Sequence[str], elsewhere: Sequence[str]) -> str:
    """Why nothing of the type `kind` comes: `offered` are the types of those who publish there, `elsewhere` the topics
    on which somebody publishes what is wanted."""
    if kind in offered:
        return "it has a publisher, which sends nothing that arrives here"
    if offered:
        return f"what is published there is {', '.join(sorted(set(offered)))}, expected {kind}"
    if not elsewhere:
        return "nobody publishes it"
    more = f" and {len(elsewhere) - NAMED} more" if len(elsewhere) > NAMED else ""
    return f"nobody publishes it, but there is {', '.join(elsewhere[:NAMED])}{more}"


def _type(kind: Any) -> str:
    """The name of a message class, as `sensor_msgs/msg/Image`."""
    package, _, rest = kind.__module__.partition(".")
    return f"{package}/{rest.partition('.')[0]}/{kind.__name__}"
