"""Bundles: trained heads and their fusion as one folder, to score new music with."""

from audiomos_cache.bundle.bundle import Bundle, BundledHead, EncoderSource
from audiomos_cache.bundle.calibration import Calibration, spreads

__all__ = ["Bundle", "BundledHead", "Calibration", "EncoderSource", "spreads"]
