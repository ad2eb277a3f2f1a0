"""An HTML page with a tree that a person can zoom: an icicle drawn by a few lines of own script, no network needed."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semhier_ros.taxonomy.tree import Node, Taxonomy

TEMPLATE = Path(__file__).with_name("icicle.html")


def plot(taxonomy: Taxonomy, counts: Sequence[int] | None = None) -> str:
    """The page's text. counts: examples per leaf, which give the widths; without them every leaf counts 1.

    Raises ValueError where the counts do not fit the leaves.
    """
    if counts is not None and (len(counts) != taxonomy.leaf_count or min(counts) < 0):
        raise ValueError(f"counts: {taxonomy.leaf_count} numbers of 0 or more expected, {len(counts)} given")

    def subtree(node: Node) -> dict[str, Any]:
        if node.level == taxonomy.depth - 1:
            return {"n": node.name, "c": 1 if counts is None else int(counts[node.index])}
        below = [taxonomy.levels[node.level + 1][child] for child in taxonomy.children(node)]
        return {"n": node.name, "k": [subtree(child) for child in below]}

    tree = {"n": taxonomy.name, "k": [subtree(node) for node in taxonomy.levels[0]]}
    data = json.dumps(tree, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    unit = "classes" if counts is None else "examples"
    page = TEMPLATE.read_text(encoding="utf-8")
    for key, value in (
        ("TITLE", html.escape(taxonomy.name)),
        ("ABOUT", html.escape(taxonomy.description)),
        ("LEVELS", html.escape(" → ".join(taxonomy.level_names))),
        ("UNIT", unit),
        ("DATA", data),
    ):
        page = page.replace(f"__{key}__", value)
    return page
