"""Pure functions from arrays to numbers, one module a task; no file and no device in here."""
