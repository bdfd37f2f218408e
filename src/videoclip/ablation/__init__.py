"""Does it learn? The method and its variants, on a synthetic world with known answers."""
