"""A page and a REST API for one library: search, watch, label and export in a browser."""
