"""Our models and libraries inside other programs, one file each; none imports another."""
