"""What lies on disk (subtitles, features, vocabularies) and how it becomes a `Batch`."""
