"""Two towers, their losses and the re-ranker: tensors in, tensors out."""
