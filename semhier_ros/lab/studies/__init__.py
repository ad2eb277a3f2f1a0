"""The measuring commands, each printing JSON."""
