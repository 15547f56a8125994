"""Parts of our own for audiomos-cache; importing this package registers all of them."""

from audiomos_extra import encoder, fusion, loss, pooling

__all__ = ["encoder", "fusion", "loss", "pooling"]
