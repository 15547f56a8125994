"""Scoring new music: audio and a prompt in, MI and TA out, by the encoders, heads and fusion of a bundle."""
