"""Runs that end in the middle, to be continued."""


class Broken(Exception):
    """A run was ended from outside."""


def break_off_at(update):
    """Return an `on_log` that ends a run when an update is logged."""

    def break_off(entry):
        if entry.get("update") == update:
            raise Broken

    return break_off
