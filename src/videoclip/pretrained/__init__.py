"""Published models of `transformers`: which there are, which are here, and how they are loaded."""
