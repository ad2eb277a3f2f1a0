"""Names for inner nodes, from a general vocabulary that lies in the classes' own embedding space.

A name scores by its mean cosine to the leaves it is to cover, less a part of its cosine to the nearest sibling, plus a
little where it is a plain or general word ("dog" heads "shepherd dog" and "pug-dog"). A second name joins it ("hat &
helmet") where that brings the leaves clearly nearer to a name. A head noun that at least half of the leaves share
("terrier", "beetle") goes before. No two nodes of a level share a name, no node bears that of an ancestor, and none
that of any single leaf.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semhier_ros.training.trees.features import FloatArray, Vocabulary, plain_name

IntArray = NDArray[np.int64]
SIBLING_SHARE = 0.25
HEAD_SHARE = 0.5
HEAD_HOME = 0.4
GENERAL = 0.015
PLAIN = 0.02
PAIR_GAIN = 0.05
PAIR_SHARE = 0.25
ROUNDING = 1e-9


def singular(word: str) -> str:
    """A rough singular, enough to see that `beds` and `bed` are one name."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def head_noun(name: str) -> str:
    """The last word of a class name in small letters, singular: what kind of thing it says it is."""
    words = plain_name(name).lower().replace("/", " ").split()
    return singular(words[-1]) if words else ""


def usable(name: str) -> bool:
    """Whether a vocabulary entry reads as one common name (no lists with a slash, no `other ...`)."""
    return "/" not in name and not name.lower().startswith("other ") and name.isascii() and name == name.strip()


def name_nodes(
    points: FloatArray,
    leaf_names: Sequence[str],
    parents: Sequence[IntArray],
    vocabulary: Vocabulary,
    given: Sequence[dict[int, str]] | None = None,
) -> list[list[str]]:
    """Name every inner node; returns the names per inner level, coarse first.

    points: leaves (n, d); parents: as `cluster.nest` returns them; given: per inner level node -> name fixed by hand.
    """
    levels = len(parents)
    given = given or [{} for _ in range(levels)]
    owners: list[IntArray] = [np.asarray(parents[-1])]
    for level in range(levels - 2, -1, -1):
        owners.insert(0, np.asarray(parents[level])[owners[0]])
    kept = [row for row, name in enumerate(vocabulary.names) if usable(name)]
    words = [vocabulary.names[row] for row in kept]
    cosine = _unit(vocabulary.points[kept]) @ _unit(points).T if kept else np.zeros((0, len(points)))
    heads = [head_noun(name) for name in leaf_names]
    leaf_keys = {_key(name) for name in leaf_names}
    bonus = _bonus(words)
    allowed = np.array([_key(word) not in leaf_keys for word in words], dtype=bool)
    names: list[list[str]] = []
    for level in range(levels):
        count = int(owners[level].max()) + 1
        members = [np.flatnonzero(owners[level] == node) for node in range(count)]
        means = np.stack([cosine[:, rows].mean(axis=1) for rows in members], axis=1)
        above = np.zeros(count, dtype=np.int64) if level == 0 else np.asarray(parents[level - 1])
        fixed = given[level]
        taken = {_key(name) for name in fixed.values()}
        offers: list[tuple[float, int, str]] = []
        for node in range(count):
            if node in fixed:
                continue
            if len(members[node]) == 1:
                offers.append((-3.0, node, leaf_names[members[node][0]]))
                continue
            ancestors = _ancestor_names(level, node, parents, names)
            head = _shared_head(members[node], heads)
            if head and head not in leaf_keys and head not in ancestors:
                offers.append((-2.0 - len(members[node]) / len(points), node, head))
            siblings = [other for other in range(count) if other != node and above[other] == above[node]]
            rival = means[:, siblings].max(axis=1) if siblings else np.zeros(len(words))
            scores = np.round(means[:, node] - SIBLING_SHARE * rival + bonus, 9)
            free = allowed & np.array([_key(word) not in ancestors for word in words], dtype=bool)
            ranked = [int(row) for row in np.argsort(-scores, kind="stable") if free[row]]
            offers += [(-float(scores[row]), node, words[row]) for row in ranked[: count + 40]]
            if ranked:
                first = ranked[0]
                second = _partner(first, cosine[:, members[node]], scores, free, words)
                if second is not None:
                    offers.append((-float(scores[first]) - PAIR_GAIN, node, f"{words[first]} & {words[second]}"))
        chosen = dict(fixed)
        for _, node, name in sorted(offers):
            if node not in chosen and _key(name) not in taken:
                chosen[node] = name
                taken.add(_key(name))
        for node in range(count):
            if node not in chosen:
                nearest = _central(points, members[node])
                ancestors = _ancestor_names(level, node, parents, names)
                chosen[node] = _free(f"{leaf_names[nearest]} & more", taken, ancestors)
        names.append([chosen[node] for node in range(count)])
    return names


def _unit(points: FloatArray) -> FloatArray:
    scaled: FloatArray = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), ROUNDING)
    return scaled


def _key(name: str) -> str:
    """Names that differ only in case, a bracketed hint or a plural count as one."""
    words = plain_name(name).lower().split()
    return " ".join([*words[:-1], singular(words[-1])]) if words else ""


def _bonus(words: Sequence[str]) -> FloatArray:
    """What a word gains for being plain (one word) and general (the head of other entries)."""
    heads = Counter(word.replace("-", " ").split()[-1] for word in words if len(word.replace("-", " ").split()) > 1)
    general = np.log2([1.0 + heads[word] for word in words])
    plain = np.array([len(word.replace("-", " ").split()) == 1 for word in words], dtype=np.float64)
    total: FloatArray = GENERAL * general + PLAIN * plain
    return total


def _partner(
    first: int, cosine: FloatArray, scores: FloatArray, free: NDArray[np.bool_], words: Sequence[str]
) -> int | None:
    """The word that, with `first`, covers the members (words, members) best; None where it adds too little.

    It must be the nearer one for a quarter of the members and no mere kind of the first word ("sea turtle").
    """
    joined = np.round(np.maximum(cosine, cosine[first]).mean(axis=1) - cosine[first].mean(), 9)
    nearer = (cosine > cosine[first]).mean(axis=1)
    values = np.where(free & (nearer >= PAIR_SHARE) & (joined >= PAIR_GAIN), joined + 0.3 * scores, -np.inf)
    for row in np.argsort(-values, kind="stable"):
        if not np.isfinite(values[row]):
            return None
        one, other = _key(words[first]), _key(words[row])
        if not (one.endswith(head_noun(other)) or other.endswith(head_noun(one))):
            return int(row)
    return None


def _ancestor_names(level: int, node: int, parents: Sequence[IntArray], names: list[list[str]]) -> set[str]:
    found = set()
    for above in range(level - 1, -1, -1):
        node = int(parents[above][node])
        found.add(_key(names[above][node]))
    return found


def _shared_head(members: IntArray, heads: Sequence[str]) -> str:
    """The head noun of at least half of the members, if it is not mostly found elsewhere; else ''."""
    head, count = Counter(heads[leaf] for leaf in members).most_common(1)[0]
    everywhere = sum(other == head for other in heads)
    shared = count >= 2 and count >= HEAD_SHARE * len(members) and count >= HEAD_HOME * everywhere
    return head if shared and len(head) > 2 else ""


def _central(points: FloatArray, members: IntArray) -> int:
    """The member nearest to the node's mean."""
    return int(members[int((points[members] @ points[members].sum(axis=0)).argmax())])


def _free(name: str, taken: set[str], ancestors: set[str]) -> str:
    number, wanted = 2, name
    while _key(wanted) in taken | ancestors:
        wanted, number = f"{name} {number}", number + 1
    taken.add(_key(wanted))
    return wanted
