"""ROS messages as plain Python classes that write their own CDR bytes.

rclpy's own classes check every field as it is set, and are read field by field when they are published: 20 boxes with
names and ellipses for RViz took some ten milliseconds. A light class has the same name, fields, defaults and constants
as the generated class that it stands for, and `cdr` gives the bytes that rclpy would send (`Publisher.publish` takes
them). It is made from the installed definition, so that it says what the installed package says.

    geometry = light_package("geometry_msgs")
    publisher.publish(geometry.PoseStamped(header=header, pose=geometry.Pose()).cdr())

Numbers of a field that holds many may be given as any array; a sequence of messages that have nothing but numbers of
one kind, such as points or poses, may be given as an array of rows. What the field cannot hold raises when it is
written.

Many messages that differ in a few fields only, such as the markers of a frame, come out of a `mould`: that writes one
in a call or two of `struct`, without making it first (`cast`). A sequence of messages may be given as `Casts`.
"""

from __future__ import annotations

import importlib
import re
import struct
from array import array
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

ENCAPSULATION = b"\x00\x01\x00\x00"
"""Plain CDR, little endian."""
NUMBERS = {
    "boolean": "?", "octet": "c", "uint8": "B", "int8": "b", "uint16": "H", "int16": "h", "uint32": "I", "int32": "i",
    "uint64": "Q", "int64": "q", "float": "f", "double": "d",
}  # fmt: skip
"""Names of numbers in definitions, and what `struct` calls them."""
_FIELD = re.compile(
    r"(?:sequence<(?P<item>[\w/]+(?:<\d+>)?)(?:, (?P<most>\d+))?>|(?P<one>[\w/]+(?:<\d+>)?)(?:\[(?P<length>\d+)\])?)"
)


class Light:
    """The base of all light classes. `_of`: the generated class; `_write(out, message)` appends the message."""

    __slots__ = ()
    _of: Any
    _write: Any

    def cdr(self, last: np.ndarray | None = None) -> bytes:
        """The serialised message. Raises ValueError, TypeError or struct.error for what a field cannot hold.

        last: bytes (uint8) of the message's last field, such as a picture's, which is empty in the message: they are
        copied once.
        """
        out = bytearray()
        type(self)._write(out, self)
        if last is None:
            out += _PADS[-len(out) & 3]
            return ENCAPSULATION + out
        out[-4:] = _LENGTHS[0](last.size)
        return b"".join((ENCAPSULATION, out, last.reshape(-1).data, _PADS[-(len(out) + last.size) & 3]))


class LightPackage:
    """The messages of a package as light classes, made when they are first asked for."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        made = light(getattr(self._module, name))
        setattr(self, name, made)
        return made


@cache
def light_package(package: str) -> Any:
    """What stands for `package.msg`. Raises ImportError when the package is not installed."""
    return LightPackage(importlib.import_module(f"{package}.msg"))


class _Kind(NamedTuple):
    """What a field is made of: `base` (a number, `string`, or `package/Name`), and how many: `length` of an array,
    `many` a sequence, of `most` at most."""

    base: str
    many: bool
    most: int | None
    length: int | None

    @property
    def number(self) -> str | None:
        """What `struct` calls it, if it is a number."""
        return NUMBERS.get(self.base)

    @property
    def text(self) -> bool:
        return self.base.partition("<")[0] == "string"


def _kinds(kind: Any) -> dict[str, _Kind]:
    """The fields of a generated class. Raises TypeError for what is not known here, such as wide strings."""
    found = {}
    for name, said in kind.get_fields_and_field_types().items():
        match = _FIELD.fullmatch(said)
        base = (match["item"] or match["one"]) if match else ""
        if match is None or not ("/" in base or base in NUMBERS or base.partition("<")[0] == "string"):
            raise TypeError(f"{kind.__module__}.{kind.__name__}.{name}: {said} is not known here")
        most = int(match["most"]) if match["most"] else None
        found[name] = _Kind(base, match["item"] is not None, most, int(match["length"]) if match["length"] else None)
    return found


def _class_of(base: str) -> type[Light]:
    package, _, name = base.partition("/")
    return light(getattr(importlib.import_module(f"{package}.msg"), name))


@cache
def light(kind: Any) -> type[Light]:
    """The light class of a generated message class.

    Raises:
        TypeError: a field is of a kind that is not known here.
    """
    kinds = _kinds(kind)
    usual = kind()
    names: dict[str, Any] = {}
    heads, sets = ["self"], []
    for name, field in kinds.items():
        if "/" in field.base and not field.many and field.length is None:
            names[f"make_{name}"] = _class_of(field.base)
            heads.append(f"{name}=None")
            sets.append(f"self.{name} = make_{name}() if {name} is None else {name}")
        elif "/" in field.base and field.length is not None:
            names[f"make_{name}"] = _class_of(field.base)
            heads.append(f"{name}=None")
            sets.append(f"self.{name} = [make_{name}() for _ in range({field.length})] if {name} is None else {name}")
        elif field.many:
            heads.append(f"{name}=None")
            sets.append(f"self.{name} = [] if {name} is None else {name}")
        else:
            value = getattr(usual, name)
            names[f"usual_{name}"] = _unchanging(value) if field.length is not None else value
            heads.append(f"{name}=usual_{name}")
            sets.append(f"self.{name} = {name}")
    source = f"def __init__({', '.join(heads)}):\n " + ("\n ".join(sets) or "pass")
    exec(source, names)  # of an installed definition, as `dataclasses` does
    constants = {name: value for name, value in type(kind).__prepare__("", ()).items() if "__" not in name}
    own = {"__slots__": tuple(kinds), "__init__": names["__init__"], "_of": kind, "__module__": kind.__module__}
    made: type[Light] = type(kind.__name__, (Light,), constants | own)
    made._write = staticmethod(_Writer(kinds).function())
    return made


def _unchanging(values: Any) -> Any:
    """What an array holds before anybody sets it, for all messages to share."""
    if not isinstance(values, np.ndarray):
        return tuple(values)
    kept = values.copy()
    kept.flags.writeable = False
    return kept


class _Writer:
    """Makes the function that writes a message: numbers that follow each other go out in one call of `struct`."""

    def __init__(self, kinds: dict[str, _Kind]) -> None:
        self._names: dict[str, Any] = {
            "numbers": _write_numbers,
            "text": _write_text,
            "length": _write_length,
            "rows": _write_rows,
            "ndarray": np.ndarray,
            "Casts": Casts,
        }
        self._lines: list[str] = []
        self._run: list[tuple[str, str]] = []
        self._made = 0
        self._fields("m", kinds)
        self._flush()
        if not kinds:
            self._lines.append('out += b"\\0"')  # a message of nothing takes a byte

    def function(self) -> Any:
        """`write(out, message)`."""
        exec("def write(out, m):\n " + "\n ".join(self._lines or ["pass"]), self._names)
        return self._names["write"]

    def _name(self, prefix: str, value: Any = None) -> str:
        self._made += 1
        name = f"{prefix}{self._made}"
        if value is not None:
            self._names[name] = value
        return name

    def _flush(self) -> None:
        """Ends a run of numbers."""
        if self._run:
            codes = [code for code, _ in self._run]
            packs = self._name("pack", tuple(_packer(codes, start) for start in range(8)))
            self._lines.append(f"out += {packs}[len(out) & 7]({', '.join(value for _, value in self._run)})")
            self._run = []

    def _fields(self, owner: str, kinds: dict[str, _Kind]) -> None:
        for name, kind in kinds.items():
            value = f"{owner}.{name}"
            if kind.many or kind.length is not None:
                self._flush()
                self._several(value, kind)
            elif kind.number:
                self._run.append((kind.number, value))
            elif kind.text:
                self._flush()
                self._lines.append(f"text(out, {value})")
            else:
                inner = self._name("v")
                self._lines.append(f"{inner} = {value}")
                kinds_inside = _kinds(_class_of(kind.base)._of)
                if kinds_inside:
                    self._fields(inner, kinds_inside)
                else:
                    self._run.append(("B", "0"))

    def _several(self, value: str, kind: _Kind) -> None:
        if kind.number:
            form = np.dtype("?" if kind.number == "?" else "u1" if kind.number == "c" else "<" + kind.number)
            self._lines.append(f"numbers(out, {value}, {self._name('form', form)}, {kind.length}, {kind.most})")
            return
        each = self._name("v")
        if kind.text:
            self._lines.append(f"length(out, {value}, {kind.length}, {kind.most})")
            self._lines.append(f"for {each} in {value}: text(out, {each})")
            return
        item = _class_of(kind.base)
        write = self._name("write", item._write)
        inside = _numbers_inside(item)
        whole = len(set(inside)) == 1 and inside[0] not in (None, "c", "?")
        self._lines.append(f"length(out, {value}, {kind.length}, {kind.most})")
        if whole:
            rows = self._name("form", np.dtype("<" + str(inside[0])))
            self._lines.append(f"if type({value}) is ndarray: rows(out, {value}, {rows}, {len(inside)})")
            self._lines.append("else:")
            self._lines.append(f" for {each} in {value}: {write}(out, {each})")
        else:
            self._lines.append(f"if type({value}) is Casts: {value}.write(out)")
            self._lines.append("else:")
            self._lines.append(f" for {each} in {value}: {write}(out, {each})")


def _numbers_inside(kind: type[Light]) -> list[str | None]:
    """What `struct` calls the fields of a message and of the messages in it, one after the other; None: no number."""
    found: list[str | None] = []
    for field in _kinds(kind._of).values():
        single = not field.many and field.length is None
        inner = single and "/" in field.base
        found += _numbers_inside(_class_of(field.base)) if inner else [field.number if single else None]
    return found


class Casts:
    """Messages for a field that holds many: for each, the mould that it comes out of and its values."""

    def __init__(self, casts: Sequence[tuple[Any, Sequence[Any]]]) -> None:
        self._casts = casts

    def __len__(self) -> int:
        return len(self._casts)

    def write(self, out: bytearray) -> None:
        """Appends them all."""
        for write, values in self._casts:
            write(out, *values)


def cast(write: Any, *values: Any) -> bytes:
    """The serialised message that comes out of a mould with these values."""
    out = bytearray()
    write(out, *values)
    out += _PADS[-len(out) & 3]
    return ENCAPSULATION + bytes(out)


def mould(message: Light, *fields: str) -> Any:
    """A function `write(out, *values)` that appends `message` as it is now, but with other `values` in `fields`.

    fields: paths of numbers, of texts and of fields that hold many, such as `pose.position.x` or `points`.

    Raises:
        TypeError: a field is none of these.
    """
    return _Mould(message, fields).function()


class _Mould(_Writer):
    """Makes the function: all between two texts that differ goes out in one call of `struct`."""

    def __init__(self, message: Light, fields: Sequence[str]) -> None:
        self._given = {path: f"given{number}" for number, path in enumerate(fields)}
        self._arguments = list(self._given.values())
        super().__init__({})
        self._lines = []
        self._message("", message, _kinds(type(message)._of))
        self._flush()
        if self._given:
            raise TypeError(f"{type(message).__name__}: no number, text or sequence {', '.join(self._given)}")

    def function(self) -> Any:
        exec(f"def write({', '.join(['out', *self._arguments])}):\n " + "\n ".join(self._lines), self._names)
        return self._names["write"]

    def _message(self, path: str, message: Any, kinds: dict[str, _Kind]) -> None:
        for name, kind in kinds.items():
            value = getattr(message, name)
            several = kind.many or kind.length is not None
            if several and path + name in self._given:
                self._flush()
                self._several(self._given.pop(path + name), kind)
            elif several:
                if kind.many:
                    self._run.append(("I", str(len(value))))
                for number, one in enumerate(value):
                    self._one(f"{path}{name}.{number}", kind, one)
            else:
                self._one(path + name, kind, value)
        if not kinds:
            self._run.append(("B", "0"))

    def _one(self, path: str, kind: _Kind, value: Any) -> None:
        if kind.number:
            given = self._given.pop(path, None)
            self._run.append((kind.number, given or self._name("value", value)))
        elif not kind.text:
            self._message(path + ".", value, _kinds(_class_of(kind.base)._of))
        elif (given := self._given.pop(path, None)) is not None:
            self._flush()
            self._lines.append(f"text(out, {given})")
        else:
            raw = value.encode() + b"\0"
            self._run += [("I", str(len(raw))), (f"{len(raw)}s", self._name("value", raw))]


def _packer(codes: Sequence[str], start: int) -> Any:
    """Packs a run of numbers that begins `start` bytes after a multiple of 8, each aligned to its own size; and of
    bytes, which are not."""
    form, at = "<", start
    for code in codes:
        size = struct.calcsize("<" + code)
        gap = 0 if code.endswith("s") else -at % size
        form += "x" * gap + code
        at += gap + size
    return struct.Struct(form).pack


_LENGTHS = tuple(_packer("I", start) for start in range(8))
_PADS = tuple(bytes(count) for count in range(8))


def _write_text(out: bytearray, value: str) -> None:
    raw = value.encode()
    out += _LENGTHS[len(out) & 7](len(raw) + 1)
    out += raw
    out += b"\0"


def _write_length(out: bytearray, value: Any, count: int | None, most: int | None) -> None:
    number = len(value)
    if count is not None:
        if number != count:
            raise ValueError(f"{number} items, expected {count}")
        return
    if most is not None and number > most:
        raise ValueError(f"{number} items, expected at most {most}")
    out += _LENGTHS[len(out) & 7](number)


def _write_numbers(out: bytearray, value: Any, form: Any, count: int | None, most: int | None) -> None:
    _write_length(out, value, count, most)
    if isinstance(value, bytes | bytearray | memoryview) or (isinstance(value, array) and value.itemsize == 1):
        if form.itemsize != 1:
            raise TypeError(f"bytes for numbers of {form.itemsize} bytes")
        out += value
    elif type(value) is np.ndarray and value.dtype == form and value.flags.c_contiguous:
        if value.size:
            out += _PADS[-len(out) & (form.itemsize - 1)]
            out += value.data
    elif len(value):
        if isinstance(value, list | tuple) and isinstance(value[0], bytes):  # rclpy's way to hold an octet
            value = [item[0] for item in value]
        out += _PADS[-len(out) & (form.itemsize - 1)]
        out += np.ascontiguousarray(value, form).reshape(-1).view(np.uint8).data


def _write_rows(out: bytearray, value: Any, form: Any, columns: int) -> None:
    if value.ndim != 2 or value.shape[1] != columns:
        raise ValueError(f"an array of shape {value.shape}, expected rows of {columns}")
    if len(value):
        out += _PADS[-len(out) & (form.itemsize - 1)]
        out += np.ascontiguousarray(value, form).data
