"""The figures that the shipped trees are held to, measured again by one command."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semhier_ros.taxonomy.scores import score, softmax
from semhier_ros.taxonomy.tree import Taxonomy
from semhier_ros.training.trees.agreement import IntArray, agree, cohesion, read_grouping, separation, within
from semhier_ros.training.trees.recipe import build_recipe
from semhier_ros.training.trees.wordnet import WordNet

SHIPPED = ("imagenet1k", "road21", "coco80")
DOGS = range(151, 269)
DRAWN = 50
SECONDS = 30.0


@dataclass(frozen=True)
class Bar:
    """One line of the report: what is asked, what was measured, whether it is met (None: could not be measured)."""

    subject: str
    wanted: str
    measured: str
    met: bool | None

    def row(self) -> str:
        """The bar as a Markdown table row."""
        verdict = "not measured" if self.met is None else "yes" if self.met else "NO"
        return f"| {self.subject} | {self.wanted} | {self.measured} | {verdict} |"


@dataclass(frozen=True)
class Sources:
    """Where the report reads: trees and recipes below `config`, shared data (None: absent), cached logits, splits."""

    config: Path
    data: Path | None
    logits: Path | None

    @property
    def trees(self) -> Path:
        """The folder of shipped trees."""
        return self.config / "taxonomies"


def report(sources: Sources) -> tuple[str, bool]:
    """Measure all bars; returns Markdown and whether none was missed."""
    bars = structure_bars(sources)
    notes = []
    if sources.data is None:
        notes.append(
            "Bars on accuracy, cohesion, WordNet and rebuilding were left out: no shared data folder (--data)."
        )
    else:
        bars += rebuild_bars(sources)
        bars += grouping_bars(sources, notes)
    bars.append(stranger_bar(sources))
    lines = ["| subject | asked | measured | met |", "|---|---|---|---|", *(bar.row() for bar in bars)]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n", all(bar.met is not False for bar in bars)


def structure_bars(sources: Sources) -> list[Bar]:
    """Nestedness, names and node sizes, which need the trees alone."""
    bars = []
    for name in SHIPPED:
        tree = Taxonomy.load(sources.trees / f"{name}.yaml")
        shares = [agree(tree.owner(level), tree.owner(level + 1)).nested for level in range(tree.depth - 1)]
        named = all(node.name for level in tree.levels for node in level)
        sizes = " / ".join(str(size) for size in tree.sizes)
        bars.append(Bar(f"{name}: nested, {sizes}", "100 %", f"{100 * min(shares):.0f} %", min(shares) == 1))
        bars.append(Bar(f"{name}: nodes named", "every one", "every one" if named else "not all", named))
    tree = Taxonomy.load(sources.trees / "imagenet1k.yaml")
    dogs = list(DOGS)
    coarse, middle = (len(set(tree.owner(level)[dogs].tolist())) for level in (0, 1))
    bars.append(
        Bar("imagenet1k: levels", "10 / 100 / 1000", " / ".join(map(str, tree.sizes)), tree.sizes == (10, 100, 1000))
    )
    bars.append(Bar("118 dog breeds: coarse nodes", "1", str(coarse), coarse == 1))
    bars.append(Bar("118 dog breeds: middle nodes", "at most 12", str(middle), middle <= 12))
    shares_of = [len(leaves) / tree.leaf_count for leaves in tree.leaves(0)]
    bars.append(Bar("largest coarse node", "at most 25 %", f"{100 * max(shares_of):.1f} %", max(shares_of) <= 0.25))
    bars.append(Bar("smallest coarse node", "at least 2 %", f"{100 * min(shares_of):.1f} %", min(shares_of) >= 0.02))
    return bars


def rebuild_bars(sources: Sources) -> list[Bar]:
    """Whether the recipes still make the shipped trees, and how long the largest takes."""
    assert sources.data is not None
    bars = []
    for name in SHIPPED:
        started = time.perf_counter()
        built = build_recipe(sources.trees / "recipes" / f"{name}.yaml", sources.data)
        seconds = time.perf_counter() - started
        same = built == Taxonomy.load(sources.trees / f"{name}.yaml")
        bars.append(Bar(f"{name}: recipe rebuilds the shipped tree", "equal", "equal" if same else "different", same))
        if name == "imagenet1k":
            bars.append(Bar("imagenet1k: build time", f"under {SECONDS:.0f} s", f"{seconds:.1f} s", seconds < SECONDS))
    return bars


def grouping_bars(sources: Sources, notes: list[str]) -> list[Bar]:
    """Accuracy, cohesion and WordNet agreement of our coarse and middle levels against the paper's two groupings."""
    assert sources.data is not None
    tree = Taxonomy.load(sources.trees / "imagenet1k.yaml")
    plain = build_recipe(sources.trees / "recipes" / "imagenet1k.yaml", sources.data, corrected=False)
    embeddings = np.load(sources.data / "clip" / "imagenet1k_vit-b-32.npy", allow_pickle=False)
    reference = sources.trees / "reference" / "imagenet1k-wordnet.tsv"
    kinship = WordNet.load(reference).similarity([leaf.id for leaf in tree.levels[-1]])
    photos = validation(sources)
    if photos is None:
        notes.append(
            "Lifted accuracy was left out: no logits (--logits; "
            "`python -m semhier_ros.training.trees.classifier <data> runs/taxonomy/lite0.npz` makes them)."
        )
    papers: list[IntArray] = []
    bars = []
    for level, size in enumerate((10, 100)):
        paper = read_grouping(sources.data / "paper-hierarchy" / f"clip_K{size}.csv", tree.leaf_count)
        papers.append(paper)
        ours, bare = tree.owner(level), plain.owner(level)
        for what, (theirs, own, uncorrected) in (
            ("within-node cosine", [cohesion(embeddings, g) for g in (paper, ours, bare)]),
            (
                "within-node cosine, mean taken off",
                [cohesion(embeddings, g, centred=True) for g in (paper, ours, bare)],
            ),
            ("within-node Wu-Palmer (WordNet)", [within(kinship, g) for g in (paper, ours, bare)]),
            ("WordNet-nearer in than across", [separation(kinship, g) for g in (paper, ours, bare)]),
        ):
            bars.append(
                Bar(
                    f"{size} nodes: {what}",
                    f"above the paper's {theirs:.3f}",
                    f"{own:.3f} (uncorrected {uncorrected:.3f})",
                    own > theirs,
                )
            )
        if photos is not None:
            probabilities, labels, held_out = photos
            for part, rows in (("report half (even)", held_out), ("choose half (odd)", ~held_out)):
                theirs = lifted_accuracy(probabilities[rows], labels[rows], paper)
                own = lifted_accuracy(probabilities[rows], labels[rows], ours)
                uncorrected = lifted_accuracy(probabilities[rows], labels[rows], bare)
                bars.append(
                    Bar(
                        f"{size} nodes: EfficientNet-Lite0 lifted, {part}",
                        f"at least {theirs:.1f} - 0.5 %",
                        f"{own:.1f} % (uncorrected {uncorrected:.1f} %)",
                        own >= theirs - 0.5,
                    )
                )
    overlap = agree(papers[0], papers[1])
    notes.append(
        f"The paper's groupings against each other: {100 * overlap.nested:.0f} % of the 100 clusters lie within one of"
        f" the 10 (ours 100 %); homogeneity {overlap.homogeneity:.3f}."
    )
    if photos is not None:
        probabilities, labels, held_out = photos
        notes.append("\nHierarchical scores of EfficientNet-Lite0 on our tree, report half:\n")
        notes.append(score(tree, probabilities[held_out], labels[held_out]).table(tree.level_names))
    return bars


def validation(sources: Sources) -> tuple[NDArray[np.float64], IntArray, NDArray[np.bool_]] | None:
    """Probabilities, labels and which rows are to report on, from cached logits; None where there are none."""
    if sources.logits is None or not sources.logits.is_file():
        return None
    cached = np.load(sources.logits, allow_pickle=False)
    split = sources.config / "splits" / "imagenet-validation" / "report.txt"
    reported = set(split.read_text(encoding="utf-8").split())
    held_out = np.array([str(name) in reported for name in cached["files"]])
    return softmax(cached["logits"]), cached["labels"].astype(np.int64), held_out


def lifted_accuracy(probabilities: NDArray[np.float64], labels: IntArray, groups: IntArray) -> float:
    """Percent of samples whose likeliest group, by summed leaf probabilities, is the true one."""
    lifted = np.zeros((len(probabilities), int(groups.max()) + 1))
    np.add.at(lifted.T, groups, probabilities.T)
    return 100 * float((lifted.argmax(axis=1) == groups[labels]).mean())


def triples(tree: Taxonomy, count: int = DRAWN, seed: int = 0) -> list[tuple[str, str, str]]:
    """(leaf, coarse name, middle name) of leaves drawn without repetition."""
    drawn = np.random.default_rng(seed).choice(tree.leaf_count, size=count, replace=False)
    names = [tree.path_names(int(leaf)) for leaf in drawn]
    return [(path[-1], path[0], path[-2]) for path in names]


def stranger_bar(sources: Sources) -> Bar:
    """The stranger's test: the verdicts on file must be about the triples that the tree gives now."""
    wanted = f"at least 45 of {DRAWN} sensible"
    path = sources.trees / "reference" / "imagenet1k-stranger.tsv"
    if not path.is_file():
        return Bar("stranger's test", wanted, "no verdicts on file", None)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    drawn = triples(Taxonomy.load(sources.trees / "imagenet1k.yaml"))
    if [(row["leaf"], row["coarse"], row["middle"]) for row in rows] != drawn:
        return Bar("stranger's test", wanted, "verdicts are about other triples: read them anew", False)
    sensible = sum(row["sensible"] == "yes" for row in rows)
    return Bar("stranger's test", wanted, f"{sensible} of {DRAWN}", sensible >= 45)
