"""Bundles: trained heads and their fusion as one folder, to score new music with."""
