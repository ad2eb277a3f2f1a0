"""Taxonomies: nested class trees, made from CLIP text embeddings, named, and scored."""

from .schema import TaxonomyError
from .tree import Node, Taxonomy

__all__ = ["Node", "Taxonomy", "TaxonomyError"]
