"""The cache: features of frozen encoders on disk, written once, read many times, never edited.

`extract` writes small complete parts, then one file per split; `CacheReader` reads a split.
"""

from audiomos_cache.cache.fingerprint import Fingerprint
from audiomos_cache.cache.format import CachedClip, CachedPrompt, Header
from audiomos_cache.cache.lock import Shard
from audiomos_cache.cache.reader import CacheReader, open_cache

__all__ = ["CacheReader", "CachedClip", "CachedPrompt", "Fingerprint", "Header", "Shard", "open_cache"]
