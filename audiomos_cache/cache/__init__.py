"""The cache: features of frozen encoders on disk, written once, read many times, never edited."""
