"""Moments and timelines as files, clips, pictures and pages."""
