"""Scenes: objects with boxes, named level by level, then the picture that they stand in. A whole kind."""
