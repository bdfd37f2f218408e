"""Our models inside other libraries, one file for each; nothing here imports another."""
