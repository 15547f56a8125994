"""Heads: everything that is trained on frozen features.

A head is put together from exchangeable parts: layers, temporal, pooling, text_audio, downstream, output."""
