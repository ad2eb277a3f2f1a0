"""Taxonomies: build a tree for any class list, look at it, compare groupings, measure the shipped trees."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from semhier_ros import options as shared
from semhier_ros.taxonomy.schema import TaxonomyError
from semhier_ros.taxonomy.tree import Node, Taxonomy

if TYPE_CHECKING:
    from semhier_ros.training.trees.features import FloatArray, Vocabulary

REPOSITORY_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def data_folder(given: Path | None) -> Path | None:
    """The shared data folder: as given, from SEMHIER_DATA, or ../shared/data; None where it is absent."""
    for candidate in (given, Path(os.environ["SEMHIER_DATA"]) if os.environ.get("SEMHIER_DATA") else None):
        if candidate is not None:
            return candidate if candidate.is_dir() else None
    beside = (REPOSITORY_DATA, Path.cwd().parent / "shared" / "data")
    return next((folder for folder in beside if folder.is_dir()), None)


def find_tree(name: str) -> Path:
    """A path to a taxonomy file, or the shipped one of that name. Raises TaxonomyError."""
    from semhier_ros.paths import config_dir

    path = Path(name)
    if path.suffix in (".yaml", ".yml", ".csv") or path.exists():
        return path
    shipped = config_dir() / "taxonomies" / f"{name}.yaml"
    if not shipped.is_file():
        known = ", ".join(sorted(file.stem for file in shipped.parent.glob("*.yaml")))
        raise TaxonomyError(f"no taxonomy {name!r}: neither a file nor one of the shipped {known}")
    return shipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    commands = parser.add_subparsers(dest="taxonomy_command", metavar="<what>", required=True)
    build = commands.add_parser("build", help="make a tree from class names and embeddings")
    build.add_argument("--recipe", type=Path, help="a recipe file, or a shipped recipe's name (with --data)")
    build.add_argument("--names", type=Path, help="class names: .txt, one a line, or .csv with a column `name`")
    build.add_argument(
        "--sizes", action=shared.Listed, each=int, metavar="N", help="nodes of the inner levels, coarse first: 10,100"
    )
    build.add_argument("--embeddings", type=Path, help="text embeddings of the names, .npy, one row each")
    build.add_argument("--model", help="instead: embed with open_clip's model of this name (ViT-B-32)")
    build.add_argument("--checkpoint", help="its weights: a local file, or a tag that open_clip fetches")
    build.add_argument("--prompts", type=Path, help="prompt templates, one a line, with {} for the name")
    build.add_argument(
        "--vocabulary",
        type=Path,
        action="append",
        default=[],
        metavar="STEM",
        help="names for inner nodes: STEM.txt and STEM*.npy (may repeat); with --model STEM.txt will do",
    )
    build.add_argument("--images", type=Path, help="mean image embedding of every class, .npy, joined to the text's")
    build.add_argument("--image-weight", type=float, default=0.5, help="their weight, 0..1 (0.5)")
    build.add_argument("--smallest", type=float, default=0.4, help="fewest leaves of a node / its level's mean (0.4)")
    build.add_argument("--largest", type=float, default=2.0, help="most leaves of a node / its level's mean (2)")
    build.add_argument("--data", type=Path, help="shared data folder, for --recipe")
    build.add_argument("--uncorrected", action="store_true", help="leave the recipe's moves and given names out")
    build.add_argument("--name", help="the tree's name (the output's stem)")
    shared.renamed(build, output="--out")
    shared.out(build, None, "the .yaml to write", folder=False)
    words = commands.add_parser("vocabulary", help="make the shipped words again from the shared data")
    words.add_argument("--data", type=Path, help="shared data folder (SEMHIER_DATA, else ../shared/data)")
    shared.out(words, None, "the folder to write: config/taxonomies/vocabulary")
    show = commands.add_parser("show", help="print a tree")
    show.add_argument("tree", help="a file or a shipped tree's name")
    show.add_argument("--depth", type=int, help="levels to print (all)")
    show.add_argument("--find", metavar="TEXT", help="only paths with this text in a name")
    plot = commands.add_parser("plot", help="write an HTML page that zooms")
    plot.add_argument("tree", help="a file or a shipped tree's name")
    shared.renamed(plot, output="--out")
    shared.out(plot, None, "the .html to write", folder=False)
    plot.add_argument("--counts", type=Path, help="examples: .csv with a column `label`, one row an example")
    compare = commands.add_parser("compare", help="how far two groupings agree")
    compare.add_argument("first", help="a taxonomy, or a .csv with columns label and cluster")
    compare.add_argument("second", help="the same")
    report = commands.add_parser("report", help="measure the shipped trees against their bars")
    report.add_argument("--data", type=Path, help="shared data folder (SEMHIER_DATA, else ../shared/data)")
    report.add_argument(
        "--logits",
        type=Path,
        default=Path("runs/taxonomy/imagenet-validation-lite0.npz"),
        help="cached logits on imagenet-validation (%(default)s)",
    )
    report.add_argument("--triples", action="store_true", help="also print the stranger's test")


def run(options: argparse.Namespace) -> int:
    """Run the command that was parsed. Raises CommandError for what a user can put right."""
    from semhier_ros.command import CommandError

    try:
        return int(_COMMANDS[options.taxonomy_command](options))
    except (TaxonomyError, ValueError, OSError) as error:
        raise CommandError(str(error)) from None


def run_build(options: argparse.Namespace) -> int:
    """`build`: from a recipe, or from names and embeddings."""
    from semhier_ros.training.trees.recipe import build_recipe

    if options.recipe is not None:
        data = data_folder(options.data)
        if data is None:
            raise TaxonomyError("a recipe needs the shared data folder: --data, or the variable SEMHIER_DATA")
        recipe = options.recipe
        if not recipe.is_file():
            recipe = find_tree("imagenet1k").parent / "recipes" / f"{recipe.name}.yaml"
        tree = build_recipe(recipe, data, corrected=not options.uncorrected)
    else:
        tree = _build_from_names(options)
    tree.save(options.out)
    print(f"{options.out}: {tree!r}, digest {tree.digest()[:16]}")
    return 0


def _build_from_names(options: argparse.Namespace) -> Taxonomy:
    from semhier_ros.training.trees.cluster import Limits
    from semhier_ros.training.trees.recipe import build, read_classes, with_images

    if options.names is not None and options.sizes is options.embeddings is options.model is None:
        from semhier_ros.training.trees.shipped import tree_for

        return tree_for(options.name or options.out.stem, read_classes(options.names).names)
    if options.names is None or options.sizes is None or (options.embeddings is None) == (options.model is None):
        raise TaxonomyError(
            "without --recipe: --names alone (shipped words), or --names, --sizes and either --embeddings or --model"
        )
    sizes = options.sizes
    classes = read_classes(options.names)
    points, vocabulary = _points(options, classes.names)
    joined = None if options.images is None else with_images(points, options.images, options.image_weight)
    limits = Limits(options.smallest, options.largest)
    name = options.name or options.out.stem
    return build(name, classes, points, sizes, vocabulary, limits=limits, grouping_points=joined)


def _points(options: argparse.Namespace, names: list[str]) -> tuple[FloatArray, Vocabulary]:
    import numpy as np

    from semhier_ros.training.trees.features import Vocabulary, grid_points
    from semhier_ros.training.trees.recipe import load_vocabulary

    if options.embeddings is not None:
        rows = np.load(options.embeddings, allow_pickle=False)
        vocabulary = load_vocabulary(options.vocabulary, Path()) if options.vocabulary else Vocabulary.empty(rows)
        return grid_points(rows), vocabulary
    from semhier_ros.training.trees.embed import PROMPTS, embed

    if options.checkpoint is None:
        raise TaxonomyError("--model needs --checkpoint")
    prompts = options.prompts.read_text(encoding="utf-8-sig").splitlines() if options.prompts else list(PROMPTS)
    rows = embed(names, options.model, options.checkpoint, prompts)
    general = [line for stem in options.vocabulary for line in Path(f"{stem}.txt").read_text("utf-8").splitlines()]
    if not general:
        return grid_points(rows), Vocabulary.empty(rows)
    return grid_points(rows), Vocabulary.of(general, embed(general, options.model, options.checkpoint, prompts))


def run_vocabulary(options: argparse.Namespace) -> int:
    """`vocabulary`: the files of `config/taxonomies/vocabulary`."""
    from semhier_ros.training.trees.shipped import pack

    data = data_folder(options.data)
    if data is None:
        raise TaxonomyError("the words need the shared data folder: --data, or the variable SEMHIER_DATA")
    print(f"{options.out}: {pack(data, options.out)} words")
    return 0


def run_show(options: argparse.Namespace) -> int:
    """`show`: the tree as indented lines, leaves of one node on one line."""
    tree = Taxonomy.load(find_tree(options.tree))
    depth = tree.depth if options.depth is None else options.depth
    print(f"{tree.name}: {' / '.join(f'{n} {s}' for n, s in zip(tree.level_names, tree.sizes, strict=True))}")
    if options.find:
        for leaf in tree.levels[-1]:
            path = tree.path_names(leaf)
            if any(options.find.lower() in name.lower() for name in path):
                print(" > ".join(path))
        return 0

    def lines(node: Node, indent: str) -> None:
        leaves = tree.leaves(node.level)[node.index]
        print(f"{indent}{node.name} ({len(leaves)})")
        if node.level + 1 >= depth:
            return
        if node.level == tree.depth - 2:
            print(f"{indent}  " + ", ".join(tree.levels[-1][leaf].name for leaf in leaves))
            return
        for child in tree.children(node):
            lines(tree.levels[node.level + 1][child], indent + "  ")

    for node in tree.levels[0]:
        lines(node, "")
    return 0


def run_plot(options: argparse.Namespace) -> int:
    """`plot`: write the page."""
    from semhier_ros.training.trees.plot import plot

    tree = Taxonomy.load(find_tree(options.tree))
    counts = None
    if options.counts is not None:
        counts = [0] * tree.leaf_count
        with options.counts.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                label = row.get("label") or ""
                if not label.isdecimal() or int(label) >= tree.leaf_count:
                    raise TaxonomyError(f"{options.counts}, line {number}: label {label!r}, 0..{tree.leaf_count - 1}")
                counts[int(label)] += 1
    options.out.write_text(plot(tree, counts), encoding="utf-8")
    print(options.out)
    return 0


def run_compare(options: argparse.Namespace) -> int:
    """`compare`: every grouping of the first with every one of the second."""
    from semhier_ros.training.trees.agreement import agree, groupings

    print("| A | B | groups | B nested in A % | homogeneity | completeness | adjusted Rand |")
    print("|---|---|---|---|---|---|---|")
    for name, first in groupings(find_tree(options.first)).items():
        for other, second in groupings(find_tree(options.second)).items():
            found = agree(first, second)
            print(
                f"| {name} | {other} | {found.groups[0]} / {found.groups[1]} | {100 * found.nested:.0f} "
                f"| {found.homogeneity:.3f} | {found.completeness:.3f} | {found.rand:.3f} |"
            )
    return 0


def run_report(options: argparse.Namespace) -> int:
    """`report`: print the bars; exit status 1 where one is missed."""
    from semhier_ros.paths import config_dir
    from semhier_ros.training.trees.report import Sources, report, triples

    sources = Sources(config_dir(), data_folder(options.data), options.logits)
    text, met = report(sources)
    print(text)
    if options.triples:
        print("| leaf | coarse | middle |\n|---|---|---|")
        for row in triples(Taxonomy.load(sources.trees / "imagenet1k.yaml")):
            print(f"| {' | '.join(row)} |")
    return 0 if met else 1


_COMMANDS = {
    "build": run_build,
    "show": run_show,
    "plot": run_plot,
    "compare": run_compare,
    "report": run_report,
    "vocabulary": run_vocabulary,
}


def main() -> int:
    """`python -m semhier_ros.training.trees.cli`."""
    from semhier_ros.command import CommandError

    parser = argparse.ArgumentParser(prog="semhier taxonomy", description=__doc__)
    add_arguments(parser)
    try:
        return run(parser.parse_args())
    except CommandError as error:
        print(f"semhier taxonomy: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
