"""From similarities to moments, steps, labels, choices and their confidence."""
