"""Heads: everything that is trained on frozen features.

A head is put together from exchangeable parts: layers, temporal, pooling, fusion, downstream, output. `build_head` does
it from a preset's name; `Head.forward` says what goes in.
"""

from audiomos_cache.heads.model import Head, HeadOutput, build_head
from audiomos_cache.heads.outputs import TargetOutput

__all__ = ["Head", "HeadOutput", "TargetOutput", "build_head"]
