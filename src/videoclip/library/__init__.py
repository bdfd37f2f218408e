"""A user's own videos: index, moments, confidence, exports."""
