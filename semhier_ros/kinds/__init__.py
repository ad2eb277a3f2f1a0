"""What a codec needs of a model, one module per kind: `scene` (objects in a picture), `whole_image` (one answer)."""
