"""The extraction: run the frozen encoders once over a dataset and keep their features in a cache.

`extract_split` is the loop; beside it, what is refused before it starts, and its audio and text sides.
"""

from audiomos_cache.extraction.limits import note_limits
from audiomos_cache.extraction.loop import SplitSummary
from audiomos_cache.extraction.options import MAX_SECONDS, ExtractionOptions, fingerprint_of
from audiomos_cache.extraction.plan import Plan, estimate_seconds
from audiomos_cache.extraction.prompts import encode_prompts
from audiomos_cache.extraction.setup import Compile, batch_size_for, compile_for, free_gpu_bytes, precision_for
from audiomos_cache.extraction.split import extract_split, plan_only

__all__ = [
    "MAX_SECONDS",
    "Compile",
    "ExtractionOptions",
    "Plan",
    "SplitSummary",
    "batch_size_for",
    "compile_for",
    "encode_prompts",
    "estimate_seconds",
    "extract_split",
    "fingerprint_of",
    "free_gpu_bytes",
    "note_limits",
    "plan_only",
    "precision_for",
]
