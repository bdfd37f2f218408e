"""Ablation: the method and its variants, trained and compared on a synthetic world."""
