"""Annotation files of the public benchmarks as neutral examples."""
