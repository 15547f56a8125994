"""The extraction: run the frozen encoders over a dataset once, and keep their features in a cache."""
