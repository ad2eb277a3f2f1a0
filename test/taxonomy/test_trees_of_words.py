"""Trees of class names from what the package ships: a planner's tree of COCO, and shipped words for the rest."""

from __future__ import annotations

import pytest

from semhier_ros.paths import config_dir
from semhier_ros.scene.detectors.names import COCO80
from semhier_ros.taxonomy import Taxonomy, TaxonomyError
from semhier_ros.training.trees.shipped import load_words, pruned, rooted, tree_for


def test_coco_gets_the_planners_tree_whatever_the_order_and_spelling() -> None:
    tree = tree_for("mine", COCO80)
    assert tree.sizes == (1, 5, 14, 80)
    assert tree.names(1) == ("vulnerable", "vehicle", "animal", "traffic control", "other")
    assert tree.path_names(COCO80.index("person"))[1:3] == ("vulnerable", "pedestrian")
    shuffled = (*COCO80[40:], *COCO80[:40])
    assert tree_for("mine", shuffled).path_names(40)[1:] == ("vulnerable", "pedestrian", "person")
    few = tree_for("mine", ["Traffic_Light", "motorbike", "dog"])
    assert few.path_names(1) == ("thing", "vulnerable", "two-wheeler", "motorbike")
    assert few.sizes == (1, 3, 3, 3)


def test_other_names_are_grouped_and_named_without_a_network() -> None:
    names = ["forklift", "golden retriever", "hammer", "screwdriver", "tabby cat", "pickup truck", "wrench", "puppy"]
    known = [name for name in names if load_words().row(name) is not None]
    assert len(known) >= 6
    tree = tree_for("yard", known)
    assert tree.names(tree.depth - 1) == tuple(known)
    path = {name: tree.path(leaf)[1] for leaf, name in enumerate(known)}
    assert path["hammer"] == path["screwdriver"]
    assert path["hammer"] != path["golden retriever"]
    assert tree_for("yard", known) == tree


def test_every_shipped_name_has_a_row_and_every_word_a_length() -> None:
    words = load_words()
    assert len(words.names) == len(words.points) == len(words.rows)
    assert all(words.row(name) is not None for name in COCO80)
    assert 1000 < words.general < len(words.names)


def test_a_name_that_no_list_has_is_told_with_what_helps() -> None:
    with pytest.raises(TaxonomyError, match=r"'xqzzy' \(1 of 2\) is in none of the shipped lists.*--tree FILE"):
        tree_for("mine", ["car", "xqzzy"])
    with pytest.raises(TaxonomyError, match="no class"):
        tree_for("mine", [])
    assert tree_for("mine", ["car"]).names(3) == ("car",)
    with pytest.raises(TaxonomyError, match="one class of COCO"):
        pruned(Taxonomy.load(config_dir() / "taxonomies" / "coco80-street.yaml"), ["motorbike", "motorcycle"], "x")


def test_a_tree_of_several_roots_gets_one() -> None:
    tree = Taxonomy.load(config_dir() / "taxonomies" / "coco80.yaml")
    assert rooted(tree).sizes == (1, 13, 80)
    assert rooted(rooted(tree)) == rooted(tree)
