"""Codecs as frame streams over a link."""
