"""Frozen encoders: the real MuQ and RoBERTa, and small untrained ones that need no download."""
