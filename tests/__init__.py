"""Tests; a package, so that no other installed `tests` is imported in its place."""
