"""A user's own videos, indexed and searched."""
