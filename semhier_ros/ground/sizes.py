"""How large things are: what the name of an object says of its length, width and height in metres.

The numbers are everyday ones (a passenger car of the middle class, a grown person standing); their spread holds what
differs between two of a kind. A user's own table replaces or adds names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from semhier_ros.ground.lens import GroundError

MOST = 100.0
MOST_PATHS = 4096
"""Label paths whose size a table keeps in mind: more than any taxonomy has."""


@dataclass(frozen=True, slots=True)
class Size:
    """length (along its own front), width, height in metres, 0.01 to 100; spread: the standard deviation of height and
    width as a share of them, 0.01 to 2."""

    length: float
    width: float
    height: float
    spread: float

    def __post_init__(self) -> None:
        for name in ("length", "width", "height"):
            if not 0.01 <= getattr(self, name) <= MOST:
                raise GroundError(f"{name}: {getattr(self, name)}, expected 0.01 to {MOST:g} m")
        if not 0.01 <= self.spread <= 2:
            raise GroundError(f"spread: {self.spread}, expected 0.01 to 2")


_PERSON, _CAR = Size(0.4, 0.5, 1.7, 0.08), Size(4.4, 1.8, 1.5, 0.08)
_CYCLE, _SCOOTER = Size(1.8, 0.6, 1.6, 0.15), Size(1.9, 0.7, 1.5, 0.15)
_VAN, _BUS, _TRUCK = Size(4.9, 1.9, 2.0, 0.12), Size(11.0, 2.5, 3.1, 0.12), Size(8.0, 2.4, 3.0, 0.25)
_RICKSHAW = Size(2.7, 1.3, 1.8, 0.12)

SIZES: dict[str, Size] = {
    "person": _PERSON,
    "pedestrian": _PERSON,
    "people": _PERSON,
    "rider": _PERSON,
    "on foot": _PERSON,
    "riding": _PERSON,
    "vulnerable": Size(0.6, 0.55, 1.65, 0.12),
    "cyclist": _CYCLE,
    "bicycle": _CYCLE,
    "motorbike": _SCOOTER,
    "motorcycle": _SCOOTER,
    "scooter": _SCOOTER,
    "two-wheeler": Size(1.8, 0.65, 1.55, 0.2),
    "auto rickshaw": _RICKSHAW,
    "rickshaw": _RICKSHAW,
    "three wheelers (CNG)": _RICKSHAW,
    "wheelbarrow": Size(1.4, 0.7, 0.8, 0.3),
    "three-wheeler": Size(2.6, 1.2, 1.7, 0.2),
    "car": _CAR,
    "suv": Size(4.6, 1.9, 1.75, 0.08),
    "taxi": _CAR,
    "policecar": _CAR,
    "minivan": Size(4.6, 1.8, 1.8, 0.1),
    "van": _VAN,
    "ambulance": Size(5.8, 2.0, 2.5, 0.12),
    "car-like": Size(4.6, 1.85, 1.7, 0.2),
    "pickup": Size(5.3, 1.9, 1.8, 0.1),
    "minibus": Size(6.5, 2.1, 2.6, 0.12),
    "human hauler": Size(4.5, 1.7, 2.0, 0.15),
    "garbagevan": Size(7.0, 2.3, 2.8, 0.2),
    "army vehicle": Size(6.5, 2.3, 2.6, 0.25),
    "bus": _BUS,
    "truck": _TRUCK,
    "heavy": Size(7.5, 2.3, 2.7, 0.3),
    "bus-like": Size(9.0, 2.4, 2.9, 0.2),
    "truck-like": Size(7.0, 2.2, 2.7, 0.3),
    "train": Size(20.0, 2.9, 3.8, 0.15),
    "vehicle": Size(4.5, 1.8, 1.8, 0.4),
    "dog": Size(0.8, 0.3, 0.55, 0.3),
    "cat": Size(0.45, 0.2, 0.3, 0.2),
    "horse": Size(2.3, 0.6, 1.7, 0.12),
    "cow": Size(2.3, 0.7, 1.5, 0.12),
    "sheep": Size(1.2, 0.4, 0.8, 0.15),
    "bird": Size(0.3, 0.2, 0.25, 0.4),
    "wild animal": Size(1.5, 0.5, 1.0, 0.6),
    "large animal": Size(2.0, 0.6, 1.4, 0.3),
    "small animal": Size(0.6, 0.25, 0.4, 0.5),
    "animal": Size(1.2, 0.4, 0.8, 0.6),
    "stop sign": Size(0.1, 0.75, 0.75, 0.1),
    "other sign": Size(0.1, 0.7, 0.7, 0.3),
    "sign": Size(0.1, 0.7, 0.7, 0.3),
    "light": Size(0.3, 0.35, 0.9, 0.2),
    "traffic control": Size(0.2, 0.5, 0.8, 0.4),
    "traffic light": Size(0.3, 0.35, 0.9, 0.2),
    "fire hydrant": Size(0.35, 0.35, 0.75, 0.15),
    "bench": Size(0.6, 1.5, 0.85, 0.15),
    "chair": Size(0.5, 0.5, 0.85, 0.15),
    "couch": Size(0.9, 1.9, 0.85, 0.15),
    "suitcase": Size(0.3, 0.45, 0.65, 0.2),
}
UNKNOWN = Size(1.0, 1.0, 1.0, 1.0)
"""What is said of an object whose names are in no table: next to nothing."""


class SizeTable:
    """Sizes by name, case ignored.

    own: names and sizes that replace those of SIZES or add to them.
    """

    def __init__(self, own: Mapping[str, Size] | None = None) -> None:
        named = {name.casefold(): size for name, size in (SIZES | dict(own or {})).items()}
        self.sizes = (UNKNOWN, *named.values())
        """Every size of the table, UNKNOWN first."""
        self._numbers = {name: number for number, name in enumerate(named, 1)}
        self._found: dict[tuple[str, ...], int] = {}

    @classmethod
    def of_dict(cls, values: Any) -> SizeTable:
        """A table from what a YAML file holds: name -> [length, width, height, spread].

        Raises:
            GroundError: naming the entry that cannot be read.
        """
        if not isinstance(values, Mapping):
            raise GroundError(f"sizes: expected names and [length, width, height, spread], got {type(values).__name__}")
        own = {}
        for name, numbers in values.items():
            try:
                length, width, height, spread = (float(number) for number in numbers)
                own[str(name)] = Size(length, width, height, spread)
            except (TypeError, ValueError) as error:
                raise GroundError(f"sizes: {name!r}: {error}") from None
        return cls(own)

    def find(self, names: Iterable[str]) -> Size:
        """The size of the finest name of a label path (coarse first) that is known; UNKNOWN where none is."""
        return self.sizes[self.number(tuple(names))]

    def number(self, names: tuple[str, ...]) -> int:
        """Where `find`'s answer stands in `sizes`."""
        number = self._found.get(names)
        if number is None:
            known = (self._numbers.get(name.casefold()) for name in reversed(names))
            number = next((one for one in known if one is not None), 0)
            if len(self._found) >= MOST_PATHS:
                self._found.clear()
            self._found[names] = number
        return number
