"""The published code (Ritter-Gutierrez et al. 2025): its weights, files, names and quirks."""
