"""ROS 2 messages of packages that no registry ships (of vision, Autoware, Foxglove, tf2), as strict as generated ones.

Fields come from definitions read by `rosbags`; a misspelt field, a value of the wrong type or a number outside its
range raises, as it would with the real package. `to_cdr` proves that a message can be sent: it goes through the
serialiser of `rosbags` and back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

VISION = {  # interfaces of vision_msgs 4
    "Point2D": "float64 x\nfloat64 y",
    "Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size",
    "ObjectHypothesis": "string class_id\nfloat64 score",
    "ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose",
    "Detection2D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
    "vision_msgs/BoundingBox2D bbox\nstring id",
    "Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
    "Detection3D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
    "vision_msgs/BoundingBox3D bbox\nstring id",
    "Detection3DArray": "std_msgs/Header header\nvision_msgs/Detection3D[] detections",
    "Classification": "std_msgs/Header header\nvision_msgs/ObjectHypothesis[] results",
    "VisionClass": "uint16 class_id\nstring class_name",
    "LabelInfo": "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold",
}


class Message:
    """The base of all stand-ins; `_fields` holds the definitions of its type's fields."""

    _fields: dict[str, Any]
    _type: str
    _library: Library

    def __init__(self, **values: Any) -> None:
        for name, definition in self._fields.items():
            object.__setattr__(self, name, self._library.default(definition))
        for name, value in values.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._fields:
            raise AttributeError(f"{self._type} has no field {name!r}; it has {', '.join(self._fields)}")
        kind, detail = self._fields[name]
        if kind is Nodetype.SEQUENCE and detail[0][0] is Nodetype.NAME and isinstance(value, np.ndarray):
            value = [self._library.of_row(detail[0][1], iter(row.tolist())) for row in value]
        problem = self._library.problem(self._fields[name], value)
        if problem:
            raise AssertionError(f"{self._type}.{name}: {problem}")
        object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(getattr(self, n) == getattr(other, n) for n in self._fields)

    def __repr__(self) -> str:
        return f"{self._type}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"


class Library:
    """The message types of a package, and of all that their fields are made of.

    definitions: name -> text of the .msg file. Attributes of `module` are the types, as in `package.msg`.
    """

    def __init__(self, package: str, definitions: dict[str, str]) -> None:
        self._store = get_typestore(Stores.ROS2_JAZZY)
        for name, text in definitions.items():
            self._store.register(get_types_from_msg(text, f"{package}/msg/{name}"))
        self._made: dict[str, type[Message]] = {}
        self.module = SimpleNamespace(**{name: self.type_of(f"{package}/msg/{name}") for name in definitions})

    @classmethod
    def of_file(cls, path: Path) -> dict[str, SimpleNamespace]:
        """What stands for `package.msg`, by package; each definition stands under a line `=== package/msg/Name`."""
        library = cls("", {})
        names = []
        for part in path.read_text(encoding="utf-8").split("=== ")[1:]:
            name, _, text = part.partition("\n")
            library._store.register(get_types_from_msg(text, name))
            names.append(name)
        found: dict[str, SimpleNamespace] = {}
        for name in names:
            package, _, short = name.split("/")
            setattr(found.setdefault(package, SimpleNamespace(library=library)), short, library.type_of(name))
        return found

    def type_of(self, name: str) -> type[Message]:
        """The class of a message type, `package/msg/Name`."""
        if name not in self._made:
            fields = dict(self._store.fielddefs[name][1])
            values = {constant: value for constant, _, value in self._store.fielddefs[name][0]}
            values |= {"_fields": fields, "_type": name, "_library": self, "__hash__": None}
            self._made[name] = type(name.rpartition("/")[2], (Message,), values)
        return self._made[name]

    def default(self, definition: Any) -> Any:
        """What a field holds before anybody sets it."""
        kind, detail = definition
        if kind is Nodetype.NAME:
            return self.type_of(detail)()
        if kind is Nodetype.BASE:
            return {"string": "", "bool": False}.get(detail[0], 0.0 if detail[0].startswith("float") else 0)
        if kind is Nodetype.SEQUENCE:
            return []
        return np.zeros(detail[1]) if detail[0][0] is Nodetype.BASE else [self.default(detail[0])] * detail[1]

    def of_row(self, name: str, numbers: Iterator[float]) -> Message:
        """A message of nothing but numbers, which an array's row holds one after the other (`light_messages`)."""
        made = self.type_of(name)()
        for field, (kind, detail) in made._fields.items():
            setattr(made, field, self.of_row(detail, numbers) if kind is Nodetype.NAME else next(numbers))
        return made

    def problem(self, definition: Any, value: Any) -> str:
        """Why a field cannot hold `value`; empty when it can."""
        kind, detail = definition
        if kind is Nodetype.NAME:  # a generated message of the same name will do
            name = detail.rpartition("/")[2]
            return "" if type(value).__name__ == name else f"{name} wanted, not {type(value).__name__}"
        if kind is Nodetype.BASE:
            return _base_problem(*detail, value)
        if isinstance(value, str | bytes | dict) or not hasattr(value, "__len__"):
            return f"a sequence wanted, not {type(value).__name__}"
        if kind is Nodetype.ARRAY and len(value) != detail[1]:
            return f"{detail[1]} values wanted, not {len(value)}"
        if kind is Nodetype.SEQUENCE and detail[1] and len(value) > detail[1]:
            return f"at most {detail[1]} values, not {len(value)}"
        return next((text for item in value if (text := self.problem(detail[0], item))), "")

    def to_cdr(self, message: Any) -> bytes:
        """The message as it would leave. Raises when a list was filled with what its field cannot hold."""
        name = message._type
        raw = self._store.serialize_cdr(self._plain(message, name), name)
        self._store.deserialize_cdr(raw, name)
        return bytes(raw)

    def _plain(self, message: Any, name: str) -> Any:
        values = {}
        for field, definition in self._store.fielddefs[name][1]:
            value = getattr(message, field)
            problem = self.problem(definition, value)
            assert not problem, f"{name}.{field}: {problem}"
            kind, detail = definition
            if kind is Nodetype.NAME:
                value = self._plain(value, detail)
            elif kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
                inner, what = detail[0]
                if inner is Nodetype.NAME:
                    value = [self._plain(item, what) for item in value]
                elif what[0] != "string":
                    value = np.asarray(value, dtype=what[0])
            values[field] = value
        return self._store.types[name](**values)


def _base_problem(name: str, most: int, value: Any) -> str:
    if name == "string":
        if not isinstance(value, str):
            return f"str wanted, not {type(value).__name__}"
        return f"at most {most} characters, not {len(value)}" if most and len(value) > most else ""
    if name == "bool":
        return "" if isinstance(value, bool | np.bool_) else f"bool wanted, not {type(value).__name__}"
    if name.startswith("float"):
        return "" if isinstance(value, float | np.floating) else f"float wanted, not {type(value).__name__}"
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        return f"int wanted, not {type(value).__name__}"
    bounds = np.iinfo("uint8" if name in ("byte", "octet", "char") else name)
    return "" if bounds.min <= value <= bounds.max else f"{value} is outside {bounds.min}..{bounds.max}"


def vision_library() -> Library:
    """Stand-ins for `vision_msgs.msg`."""
    return Library("vision_msgs", VISION)


def planner_modules() -> dict[str, SimpleNamespace]:
    """Stand-ins for `autoware_perception_msgs.msg`, `foxglove_msgs.msg` and `tf2_msgs.msg`, by package; the attribute
    `library` of each serialises them."""
    return Library.of_file(Path(__file__).parent / "messages" / "planner_types.msg")


def cpm_module() -> SimpleNamespace:
    """Stand-ins for `etsi_its_cpm_ts_msgs.msg`, from the definitions of ika-rwth-aachen/etsi_its_messages."""
    return Library.of_file(Path(__file__).parent / "messages" / "etsi_cpm.msg")["etsi_its_cpm_ts_msgs"]
