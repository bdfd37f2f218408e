"""Weight files of others, read without running code: torch files, pickles, starter packages."""
