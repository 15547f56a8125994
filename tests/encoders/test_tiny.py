"""The seeded encoders are the same on every start, machine and major version of transformers: here are their figures.

A figure that changes here changes every cache that was made with these encoders.
"""

import pytest
import torch

from audiomos_cache.encoders.lookup import load_audio_encoder, load_text_encoder


def test_muq_tiny_has_this_identity(muq_tiny):
    assert muq_tiny.identity() == {
        "class": "MuQ",
        "weights_xxh3_128": "c0b43305c1b97ea2ef2f5172d8cd3e95",
        "layers": "2",
        "depth": 2,
        "attention_heads": 4,
        "hidden_act": "swish",
        "layer_norm_eps": 1e-5,
        "position_embeddings_type": "rotary",
        "rotary_embedding_base": 10_000,
        "mel_mean": 6.768444971712967,
        "mel_std": 18.417922652295623,
        "sample_rate_hz": 24_000,
        "dim": 128,
    }
    assert muq_tiny.provenance() == {"source": "seeded random weights 2025", "revision": "none"}
    assert muq_tiny.name == "muq-tiny" and muq_tiny.untrained


def test_muq_tiny_gives_these_frames(muq_tiny, noise):
    [frames] = muq_tiny.encode(noise[:1])
    assert frames.shape == (1, 25, 128) and frames.dtype == torch.float32
    assert frames[0, 0, :4].tolist() == pytest.approx([-0.612384, 1.433090, -0.076572, 0.397930], abs=1e-4)
    assert frames[0, 12, 60:64].tolist() == pytest.approx([1.335532, 0.694257, 1.080634, 0.762118], abs=1e-4)
    assert frames[0, 24, -4:].tolist() == pytest.approx([-0.234145, -0.198413, -0.700714, 2.138955], abs=1e-4)


def test_muq_tiny_gives_all_its_layers_at_once_as_it_gives_each_alone(noise):
    together = load_audio_encoder("muq-tiny", layers=(0, 1, 2)).encode(noise)
    assert together.shape == (3, 3, 25, 128) and together.dtype == torch.float32
    for i, frames in enumerate(together):
        assert torch.equal(load_audio_encoder("muq-tiny", layers=(i,)).encode(noise), frames[None])


def test_roberta_tiny_has_this_identity(roberta_tiny):
    assert roberta_tiny.identity() == {
        "class": "RobertaModel",
        "weights_xxh3_128": "d0b9c465a6c116b0813fe95b0a5e6d90",
        "tokenizer_xxh3_128": "d1fc1b75b247f8158dc6e934ee10672a",
        "layer": -1,
        "max_tokens": 128,
        "dim": 64,
        "model_type": "roberta",
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    }
    assert roberta_tiny.provenance() == {"source": "seeded random weights 2025", "revision": "none"}
    assert roberta_tiny.name == "roberta-tiny" and roberta_tiny.untrained


def test_roberta_tiny_gives_these_tokens_and_this_padding(roberta_tiny):
    [features] = roberta_tiny.encode(["slow piano"])
    assert features.tokens.shape == (12, 64) and features.tokens.dtype == torch.float32
    assert features.pad_vector.shape == (64,) and features.pad_vector.dtype == torch.float32
    assert not features.cut
    assert features.tokens[0, :4].tolist() == pytest.approx([1.845414, 1.158539, 0.913122, 0.343357], abs=1e-4)
    assert features.tokens[5, 30:34].tolist() == pytest.approx([1.164948, 0.509307, 0.418395, 0.468903], abs=1e-4)
    assert features.tokens[11, -4:].tolist() == pytest.approx([0.618945, -0.007691, 0.200040, -1.028699], abs=1e-4)
    assert features.pad_vector[:4].tolist() == pytest.approx([0.521595, 1.399047, 0.740923, -0.561983], abs=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_state_of_the_global_generator_changes_no_weight(seed, muq_tiny, roberta_tiny):
    torch.manual_seed(seed)
    assert load_audio_encoder("muq-tiny").identity() == muq_tiny.identity()
    assert load_text_encoder("roberta-tiny").identity() == roberta_tiny.identity()
