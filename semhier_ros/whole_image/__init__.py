"""Whole images: one answer for a picture's square view, named level by level, then the view. A whole kind."""
