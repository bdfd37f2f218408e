"""A narrated world with known answers."""
