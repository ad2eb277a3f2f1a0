"""Taxonomies: nested class trees, made from CLIP text embeddings, named, and scored."""

from semhier_ros.taxonomy.schema import TaxonomyError
from semhier_ros.taxonomy.tree import Node, Taxonomy

__all__ = ["Node", "Taxonomy", "TaxonomyError"]
