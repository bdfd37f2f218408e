"""The whole method in minutes on synthetic narrated videos, through the public functions only."""
