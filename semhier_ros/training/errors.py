"""What a user of the trainings can put right: one line at the door, and the usual kind of exception for Python."""

from __future__ import annotations

from semhier_ros.command import CommandError


class TrainingError(CommandError, ValueError):
    """A setting, a data set or a checkpoint that cannot be used; the text names the field, the value and the range."""


class MissingFile(CommandError, FileNotFoundError):
    """A file or folder that a training needs is not there; the text says what makes it."""
