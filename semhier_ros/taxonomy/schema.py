"""The YAML form of a taxonomy and its checks.

    format: 1
    name: road21
    levels: [any, group, type]         # a name for every level, coarse first
    leaves: [ambulance, bicycle]       # in class-index order; `{name: tench, id: n01440764}` keeps a key
    tree:                              # one nesting per level; the innermost lists hold leaf names
      vehicle:
        two-wheeler: [bicycle]
        car-like: [ambulance]

Rules: every leaf stands once in `leaves` and once in `tree`, exactly at the last level; no node is empty; names are
unique in their level; no node bears the name of an ancestor (unless it is its only child) and no inner node that of one
of several leaves under it. A broken rule gives one `TaxonomyError` naming line, node and rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

FORMAT = 1
MAX_LEVELS = 15
MAX_LEAVES = 65535
MAX_NAME = 80
MAX_CHARACTERS = 8_000_000


class TaxonomyError(ValueError):
    """A taxonomy that breaks a rule; the message names line (where there is one), node and rule."""


@dataclass
class Draft:
    """What a taxonomy file says, checked: names and parent indices per level, ids per leaf."""

    name: str
    description: str
    level_names: tuple[str, ...]
    names: list[list[str]]
    parents: list[list[int]]
    ids: list[str]


@dataclass
class _Entry:
    """A YAML or Python value with the line it came from: `value` is str, list[_Entry] or list[(_Entry, _Entry)]."""

    kind: str
    value: Any
    line: int | None = None


@dataclass
class _Place:
    name: str
    line: int | None
    parent: int = -1
    trail: tuple[str, ...] = field(default_factory=tuple)


def draft_from_text(text: str, source: str) -> Draft:
    """Parse and check YAML text. Raises TaxonomyError only."""
    if len(text) > MAX_CHARACTERS:
        raise TaxonomyError(f"{source}: {len(text)} characters; at most {MAX_CHARACTERS} are read")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        root = yaml.compose(text, Loader=loader)
        entry = _Entry("map", []) if root is None else _entry_from_yaml(root, source, ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}, line {mark.line + 1}" if mark else source
        raise TaxonomyError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise TaxonomyError(f"{source}: nested too deep; at most {MAX_LEVELS} levels are allowed") from None
    return _Checker(source).check(entry)


def draft_from_mapping(data: Mapping[str, Any], source: str) -> Draft:
    """Check Python data in the file's form; a mapping may also be a list of (key, value) tuples."""
    return _Checker(source).check(_entry_from_python(data, source, ()))


def draft_to_yaml(data: Mapping[str, Any]) -> str:
    """Write the mapping form as YAML that reads well: one line per innermost group and per leaf."""
    lines: list[str] = [f"format: {data['format']}", f"name: {_scalar(data['name'])}"]
    if data.get("description"):
        lines.append(f"description: {_scalar(data['description'])}")
    lines.append(f"levels: [{', '.join(_scalar(name) for name in data['levels'])}]")
    lines.append("leaves:")
    for leaf in data["leaves"]:
        if isinstance(leaf, Mapping):
            lines.append(f"- {{name: {_scalar(leaf['name'])}, id: {_scalar(leaf['id'])}}}")
        else:
            lines.append(f"- {_scalar(leaf)}")
    lines.append("tree:")
    _write_tree(data["tree"], 1, lines)
    return "\n".join(lines) + "\n"


def _write_tree(tree: Mapping[str, Any], indent: int, lines: list[str]) -> None:
    for name, below in tree.items():
        head = "  " * indent + _scalar(name) + ":"
        if isinstance(below, Mapping):
            lines.append(head)
            _write_tree(below, indent + 1, lines)
            continue
        row = head + " ["
        for position, leaf in enumerate(below):
            piece = _scalar(leaf) + ("]" if position == len(below) - 1 else ",")
            if len(row) + 1 + len(piece) > 120:
                lines.append(row)
                row = "  " * (indent + 2) + piece
            else:
                row += piece if row.endswith("[") else " " + piece
        lines.append(row)


def _scalar(text: str) -> str:
    """One string as YAML for flow or block context, quoted only where needed."""
    dumped: str = yaml.safe_dump([text], default_flow_style=True, width=100_000, allow_unicode=True)
    return dumped.strip()[1:-1]


def _entry_from_yaml(node: yaml.Node, source: str, stack: tuple[int, ...]) -> _Entry:
    line = node.start_mark.line + 1
    if id(node) in stack:
        raise TaxonomyError(f"{source}, line {line}: a node lies under itself (rule: no cycle)")
    stack = (*stack, id(node))
    if len(stack) > MAX_LEVELS + 5:
        raise TaxonomyError(f"{source}, line {line}: nested too deep; at most {MAX_LEVELS} levels are allowed")
    if isinstance(node, yaml.MappingNode):
        pairs = [
            (_entry_from_yaml(key, source, stack), _entry_from_yaml(value, source, stack)) for key, value in node.value
        ]
        return _Entry("map", pairs, line)
    if isinstance(node, yaml.SequenceNode):
        return _Entry("list", [_entry_from_yaml(item, source, stack) for item in node.value], line)
    empty = node.tag == "tag:yaml.org,2002:null"
    return _Entry("nothing" if empty else "text", "" if empty else str(node.value), line)


def _entry_from_python(value: Any, source: str, stack: tuple[int, ...]) -> _Entry:
    if value is None:
        return _Entry("nothing", "")
    if isinstance(value, (str, int)):
        return _Entry("text", str(value))
    if id(value) in stack:
        raise TaxonomyError(f"{source}: a node lies under itself (rule: no cycle)")
    stack = (*stack, id(value))
    if isinstance(value, Mapping):
        value = list(value.items())
        if not value:
            return _Entry("map", [])
    if not isinstance(value, Sequence):
        raise TaxonomyError(f"{source}: {type(value).__name__} found where text, a list or a mapping is allowed")
    if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        return _Entry("map", [tuple(_entry_from_python(part, source, stack) for part in item) for item in value])
    return _Entry("list", [_entry_from_python(item, source, stack) for item in value])


class _Checker:
    def __init__(self, source: str) -> None:
        self.source = source

    def fail(self, line: int | None, message: str) -> TaxonomyError:
        where = self.source if line is None else f"{self.source}, line {line}"
        return TaxonomyError(f"{where}: {message}")

    def check(self, root: _Entry) -> Draft:
        if root.kind != "map":
            raise self.fail(root.line, "a mapping with format, name, levels, leaves and tree is expected")
        fields: dict[str, _Entry] = {}
        for key, value in root.value:
            if key.value in fields:
                raise self.fail(key.line, f"field {key.value!r} stands twice")
            if key.value not in ("format", "name", "description", "levels", "leaves", "tree"):
                raise self.fail(
                    key.line,
                    f"field {key.value!r} is unknown; allowed are format, name, description, levels, leaves, tree",
                )
            fields[key.value] = value
        for wanted in ("format", "name", "levels", "leaves", "tree"):
            if wanted not in fields:
                raise self.fail(root.line, f"field {wanted!r} is missing")
        if fields["format"].kind != "text" or fields["format"].value != str(FORMAT):
            raise self.fail(fields["format"].line, f"format {fields['format'].value!r}: allowed is {FORMAT}")
        name = self.text(fields["name"], "name")
        description = fields.get("description", _Entry("nothing", ""))
        if description.kind not in ("text", "nothing"):
            raise self.fail(description.line, "description: text is expected")
        level_names = [self.text(item, "levels") for item in self.items(fields["levels"], "levels")]
        if not 2 <= len(level_names) <= MAX_LEVELS:
            raise self.fail(fields["levels"].line, f"{len(level_names)} levels: 2..{MAX_LEVELS} are allowed")
        leaves, ids = self.leaves(fields["leaves"])
        names, parents = self.tree(fields["tree"], leaves, len(level_names))
        return Draft(name, description.value, tuple(level_names), names, parents, ids)

    def text(self, entry: _Entry, what: str) -> str:
        if entry.kind != "text":
            raise self.fail(entry.line, f"{what}: text is expected, a {entry.kind} found")
        if not 1 <= len(entry.value) <= MAX_NAME or entry.value != entry.value.strip() or not entry.value.isprintable():
            raise self.fail(
                entry.line,
                f"{what} {entry.value!r}: 1..{MAX_NAME} printable characters without space at the ends are allowed",
            )
        return str(entry.value)

    def items(self, entry: _Entry, what: str) -> list[_Entry]:
        if entry.kind != "list":
            raise self.fail(entry.line, f"{what}: a list is expected, a {entry.kind} found")
        items: list[_Entry] = entry.value
        return items

    def leaves(self, entry: _Entry) -> tuple[list[_Place], list[str]]:
        places: list[_Place] = []
        ids: list[str] = []
        seen: dict[str, int | None] = {}
        for item in self.items(entry, "leaves"):
            identity = ""
            leaf = item
            if item.kind == "map":
                parts = {key.value: value for key, value in item.value}
                if len(item.value) != len(parts) or not {"name"} <= set(parts) <= {"name", "id"}:
                    raise self.fail(item.line, "leaves: a leaf is a name or a mapping with name and id")
                leaf = parts["name"]
                identity = self.text(parts["id"], "leaf id") if "id" in parts else ""
            name = self.text(leaf, "leaf name")
            if name in seen:
                raise self.fail(item.line, f"leaf {name!r} stands twice in leaves (rule: names are unique in a level)")
            seen[name] = item.line
            places.append(_Place(name, item.line))
            ids.append(identity)
        if not 1 <= len(places) <= MAX_LEAVES:
            raise self.fail(entry.line, f"leaves: {len(places)} found, 1..{MAX_LEAVES} are allowed")
        return places, ids

    def tree(self, root: _Entry, leaves: list[_Place], depth: int) -> tuple[list[list[str]], list[list[int]]]:
        numbers = {leaf.name: index for index, leaf in enumerate(leaves)}
        inner: list[list[_Place]] = [[] for _ in range(depth - 1)]
        placed: dict[int, _Place] = {}
        seen: list[dict[str, _Place]] = [{} for _ in range(depth - 1)]
        if root.kind != "map" or not root.value:
            raise self.fail(root.line, "tree: a mapping from the coarsest nodes' names to what lies under them")

        def visit(pairs: list[tuple[_Entry, _Entry]], level: int, parent: int, trail: tuple[str, ...]) -> None:
            for key, below in pairs:
                name = self.text(key, "node name")
                if name in seen[level]:
                    first = seen[level][name].line
                    raise self.fail(
                        key.line,
                        f"node {name!r} stands twice at level {level}"
                        + (f", first in line {first}" if first else "")
                        + " (rule: names are unique in a level)",
                    )
                if name in trail and len(pairs) > 1:
                    raise self.fail(key.line, f"node {name!r} lies under a node of its own name (rule: no cycle)")
                place = _Place(name, key.line, parent, (*trail, name))
                seen[level][name] = place
                inner[level].append(place)
                if below.kind == "nothing" or (below.kind in ("map", "list") and not below.value):
                    raise self.fail(key.line, f"node {name!r} is empty (rule: every node has a leaf)")
                if level < depth - 2:
                    if below.kind != "map":
                        raise self.fail(
                            below.line,
                            f"node {name!r} of level {level} holds a {below.kind}; with {depth} levels a mapping of"
                            f" nodes is expected (rule: all leaves lie at level {depth - 1})",
                        )
                    visit(below.value, level + 1, len(inner[level]) - 1, place.trail)
                    continue
                if below.kind != "list":
                    raise self.fail(
                        below.line,
                        f"node {name!r} of level {level} holds a {below.kind}; a list of leaves is expected"
                        f" (rule: all leaves lie at level {depth - 1})",
                    )
                for item in below.value:
                    self.place_leaf(item, place, len(inner[level]) - 1, numbers, placed)

        visit(root.value, 0, -1, ())
        for index, leaf in enumerate(leaves):
            if index not in placed:
                raise self.fail(leaf.line, f"leaf {leaf.name!r} is missing from tree (rule: every leaf has a parent)")
        self.check_names(inner, leaves, placed)
        names = [[place.name for place in level] for level in inner] + [[leaf.name for leaf in leaves]]
        parents = [[place.parent for place in level] for level in inner] + [
            [placed[index].parent for index in range(len(leaves))]
        ]
        return names, parents

    def place_leaf(
        self, item: _Entry, parent: _Place, parent_index: int, numbers: dict[str, int], placed: dict[int, _Place]
    ) -> None:
        name = self.text(item, f"leaf under {parent.name!r}")
        if name not in numbers:
            raise self.fail(item.line, f"leaf {name!r} under {parent.name!r} is not in leaves")
        index = numbers[name]
        if index in placed:
            raise self.fail(
                item.line,
                f"leaf {name!r} lies under {placed[index].trail[-1]!r} and under {parent.name!r} (rule: one parent)",
            )
        placed[index] = _Place(name, item.line, parent_index, parent.trail)

    def check_names(self, inner: list[list[_Place]], leaves: list[_Place], placed: dict[int, _Place]) -> None:
        """No inner node with several leaves may bear the name of one of them."""
        covered: dict[tuple[str, ...], int] = {}
        for place in placed.values():
            for end in range(1, len(place.trail) + 1):
                covered[place.trail[:end]] = covered.get(place.trail[:end], 0) + 1
        for index, leaf in enumerate(leaves):
            trail = placed[index].trail
            for level, name in enumerate(trail):
                if name == leaf.name and covered[trail[: level + 1]] > 1:
                    line = next(place.line for place in inner[level] if place.trail == trail[: level + 1])
                    raise self.fail(
                        line, f"node {name!r} covers more than its leaf of the same name (rule: a name of its own)"
                    )
