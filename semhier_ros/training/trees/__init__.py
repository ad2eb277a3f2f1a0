"""Making trees of classes from text embeddings: clustering, naming, recipes, and how well a tree does."""
