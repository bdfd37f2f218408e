"""Moments and timelines as files, clips, figures and pages."""
