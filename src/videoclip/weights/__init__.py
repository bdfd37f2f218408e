"""Weights of other people, read inertly: torch archives, pickles, the starter packages."""
