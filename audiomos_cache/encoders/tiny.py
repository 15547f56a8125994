"""Small encoders with seeded random weights: the real classes, nothing to download.

Untrained: they show that the pipeline works, nothing more.
"""

from collections.abc import Sequence
from typing import Any

from audiomos_cache.encoders.base import Precision, seed_weights
from audiomos_cache.encoders.muq import MuQEncoder, build_muq
from audiomos_cache.encoders.muq_weights import RELEASED_CONFIG
from audiomos_cache.encoders.text import HuggingFaceTextEncoder
from audiomos_cache.errors import ConfigError
from audiomos_cache.registry import register

SEED = 2025

# The released MuQ's config with smaller widths and depth.
TINY_MUQ_CONFIG = {
    **RELEASED_CONFIG,
    "encoder_dim": 128,
    "encoder_depth": 2,
    "conv_dim": 32,
    "w2v2_config": RELEASED_CONFIG["w2v2_config"] | {"num_attention_heads": 4, "intermediate_size": 256},
}


@register("audio_encoder", "muq-tiny")
def load_muq_tiny(
    source: str | None = None,
    *,
    name: str = "muq-tiny",
    revision: str | None = None,
    device: str = "cpu",
    layers: Sequence[int] = (-1,),
    precision: Precision = "fp32",
) -> MuQEncoder:
    """A MuQ of dim 128, 2 layers and 4 heads with the same random weights on every start; nothing to download."""
    _refuse_source("muq-tiny", source, revision)
    model = build_muq(TINY_MUQ_CONFIG)
    seed_weights(model, SEED)
    return MuQEncoder(
        model,
        name=name,
        source=f"seeded random weights {SEED}",
        revision="none",
        device=device,
        layers=layers,
        precision=precision,
        untrained=True,
    )


@register("text_encoder", "roberta-tiny")
def load_roberta_tiny(
    source: str | None = None, *, name: str = "roberta-tiny", revision: str | None = None, device: str = "cpu"
) -> HuggingFaceTextEncoder:
    """A RoBERTa of dim 64 and 2 layers that reads bytes, with the same random weights on every start."""
    _refuse_source("roberta-tiny", source, revision)
    from transformers import RobertaConfig, RobertaModel

    tokenizer = _byte_tokenizer()
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=132,
        type_vocab_size=1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    model = RobertaModel(config, add_pooling_layer=False)
    seed_weights(model, SEED)
    source = f"seeded random weights {SEED}"
    return HuggingFaceTextEncoder(
        model, tokenizer, name=name, source=source, revision="none", device=device, untrained=True
    )


def _refuse_source(name: str, source: str | None, revision: str | None) -> None:
    """Refuse what cannot be asked of an encoder that code makes."""
    if revision is not None:
        raise ConfigError(f"{name} is made by code and has no revision {revision!r} to pin")
    if source is not None:
        raise ConfigError(f"{name} is made by code and is not loaded from {source!r}; leave that out")


def _byte_tokenizer() -> Any:
    """Build a tokenizer with a token per byte, in RoBERTa's format: <s> bytes </s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = {token: i for i, token in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    wrap: Any = PreTrainedTokenizerFast
    return wrap(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
