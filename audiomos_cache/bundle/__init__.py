"""Bundles: trained heads and their fusion as one folder, to score new music with."""

from audiomos_cache.bundle.bundle import Bundle, BundledHead, EncoderSource
from audiomos_cache.bundle.calibration import Calibration, calibrate, spreads
from audiomos_cache.bundle.load import load_bundle
from audiomos_cache.bundle.make import MadeBundle, make_bundle

__all__ = [
    "Bundle",
    "BundledHead",
    "Calibration",
    "EncoderSource",
    "MadeBundle",
    "calibrate",
    "load_bundle",
    "make_bundle",
    "spreads",
]
