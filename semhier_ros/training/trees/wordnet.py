"""Similarity of classes by WordNet 3.0, to judge trees by; no tree is built from it.

`config/taxonomies/reference/imagenet1k-wordnet.tsv` holds the 1,000 synsets and their hypernyms (made by
`python -m semhier_ros.training.trees.wordnet <data.noun> <classes.csv>` from Debian's package wordnet-base).
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WordNet:
    """Synsets by wnid (`n` and the offset in WordNet 3.0) with their hypernyms and first word."""

    parents: Mapping[str, tuple[str, ...]]
    words: Mapping[str, str]

    @classmethod
    def load(cls, path: Path) -> WordNet:
        """Read the .tsv form: wnid, hypernyms by spaces, word; lines that start with # are the licence."""
        parents, words = {}, {}
        for line in path.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                wnid, above, word = line.split("\t")
                parents[wnid], words[wnid] = tuple(above.split()), word
        return cls(parents, words)

    @classmethod
    def from_database(cls, data_noun: Path) -> WordNet:
        """Read `data.noun` of a WordNet 3.0 database."""
        parents, words = {}, {}
        for line in data_noun.read_text(encoding="latin-1").splitlines():
            if line.startswith(" ") or not line:
                continue
            fields = line.split(" ")
            first = 4 + 2 * int(fields[3], 16) + 1
            pointers = [fields[at : at + 4] for at in range(first, first + 4 * int(fields[first - 1]), 4)]
            wnid = "n" + fields[0]
            parents[wnid] = tuple("n" + p[1] for p in pointers if p[0] in ("@", "@i") and p[2] == "n")
            words[wnid] = fields[4].replace("_", " ")
        return cls(parents, words)

    @cached_property
    def _depths(self) -> dict[str, int]:
        depths: dict[str, int] = {}

        def depth(wnid: str) -> int:
            if wnid not in depths:
                depths[wnid] = 1 + max((depth(above) for above in self.parents[wnid]), default=0)
            return depths[wnid]

        for wnid in self.parents:
            depth(wnid)
        return depths

    def ancestors(self, wnid: str) -> set[str]:
        """The synset itself and all its hypernyms."""
        found, todo = set(), [wnid]
        while todo:
            current = todo.pop()
            if current not in found:
                found.add(current)
                todo += self.parents[current]
        return found

    def similarity(self, wnids: Sequence[str]) -> NDArray[np.float64]:
        """Wu-Palmer similarity of every pair: 2 depth(deepest common hypernym) / (depth + depth), in 0..1."""
        depths = self._depths
        sets = [self.ancestors(wnid) for wnid in wnids]
        common = np.zeros((len(wnids), len(wnids)))
        for synset in sorted(set().union(*sets), key=lambda s: (depths[s], s)):
            rows = np.array([row for row, found in enumerate(sets) if synset in found])
            common[np.ix_(rows, rows)] = depths[synset]
        own = np.array([depths[wnid] for wnid in wnids], dtype=np.float64)
        result: NDArray[np.float64] = 2 * common / (own[:, None] + own[None])
        return result

    def table(self, wnids: Iterable[str]) -> str:
        """The .tsv lines of the given synsets and all above them."""
        kept = sorted(set().union(*(self.ancestors(wnid) for wnid in wnids)))
        return "".join(f"{wnid}\t{' '.join(self.parents[wnid])}\t{self.words[wnid]}\n" for wnid in kept)


def extract(data_noun: Path, classes: Path) -> str:
    """The reference file's text for the wnids of a class list, WordNet's licence at its head."""
    licence = [line[2:].strip() for line in data_noun.read_text(encoding="latin-1").splitlines()[:29]]
    licence = [line.lstrip("0123456789 ") for line in licence]
    with classes.open(encoding="utf-8-sig", newline="") as file:
        wnids = [row["wnid"] for row in csv.DictReader(file)]
    head = "# Hypernyms of the ImageNet-1K classes, an extract of WordNet 3.0: wnid, hypernyms, first word.\n#\n"
    head += "".join(f"# {line}".rstrip() + "\n" for line in licence)
    return head + WordNet.from_database(data_noun).table(wnids)


if __name__ == "__main__":
    sys.stdout.write(extract(Path(sys.argv[1]), Path(sys.argv[2])))
