"""Text encoders: RoBERTa (Liu et al. 2019) and any other Hugging Face encoder, through transformers' own classes."""

import json
from collections.abc import Sequence
from typing import Any

import torch

from audiomos_cache.artifacts import hash_bytes
from audiomos_cache.encoders.base import QUIET_TRANSFORMERS, Identity, TextFeatures, hash_tensors
from audiomos_cache.errors import EncoderError, in_one_line, shown
from audiomos_cache.files import require_file
from audiomos_cache.hub import resolve_folder
from audiomos_cache.registry import register

ROBERTA_HUB_ID = "FacebookAI/roberta-base"
_FILES = ("config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer*", "vocab*", "merges.txt",
          "special_tokens_map.json", "added_tokens.json", "*.model")  # fmt: skip
_NEEDED = (("config.json",), ("model*.safetensors",), ("tokenizer.json", "vocab*", "*.model"))
_CONFIG_KEYS = ("model_type", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps")
_PROBE = "A slow, moody piano ballad in D♭ minor (90 BPM) — with rain & 'vinyl' crackle?"


class HuggingFaceTextEncoder:
    """The last hidden states of a Hugging Face text encoder, a row per token, special tokens included."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        source: str,
        revision: str,
        max_tokens: int = 128,
        device: str = "cpu",
        untrained: bool = False,
    ) -> None:
        if tokenizer.pad_token_id is None:
            raise EncoderError(f"--text-encoder {source}: its tokenizer has no padding token; an encoder needs one")
        self.name = name
        self.untrained = untrained
        self.dim = int(model.config.hidden_size)
        self.max_tokens = max_tokens
        self._source, self._revision = source, revision
        self._tokenizer = tokenizer
        self._counted: dict[str, list[int]] = {}  # tokens of prompts that were counted and are not yet encoded
        if set(self._token_ids(_PROBE, max_tokens)) <= set(tokenizer.all_special_ids):
            raise EncoderError(
                f"--text-encoder {source}: its tokenizer knows no token of an English sentence; "
                "are its files (tokenizer.json or vocabulary) there?"
            )
        self._device = torch.device(device)
        self._model = model.eval().requires_grad_(False).to(self._device)
        weights = {key: value for key, value in model.state_dict().items() if not key.startswith("pooler.")}
        # A tokenizer is known by its vocabulary and by how it splits one varied sentence.
        tokenizer_facts = json.dumps([sorted(tokenizer.get_vocab().items()), self._token_ids(_PROBE)])
        self._identity: Identity = {
            "class": type(model).__name__,
            "weights_xxh3_128": hash_tensors(weights),
            "tokenizer_xxh3_128": hash_bytes(tokenizer_facts.encode()),
            "layer": -1,
            "max_tokens": max_tokens,
            "dim": self.dim,
            **{key: getattr(model.config, key) for key in _CONFIG_KEYS if hasattr(model.config, key)},
        }

    @classmethod
    def load(
        cls, source: str, *, name: str, revision: str | None = None, device: str = "cpu"
    ) -> "HuggingFaceTextEncoder":
        """Load an encoder and its tokenizer from a hub repository or a folder; weights as safetensors only.

        Raises:
            EncoderError: not available, not a text encoder, or weights missing.
        """
        from transformers import AutoModel, AutoTokenizer

        folder, resolved = resolve_folder(source, revision, _FILES, "--text-encoder", EncoderError, _NEEDED)
        for path in sorted({path for pattern in _FILES for path in folder.glob(pattern)}):
            require_file(path, "a file of a text encoder", EncoderError)  # transformers would wait at a pipe
        try:
            # Left unset, transformers asks on the terminal whether to run code that comes with the weights.
            with QUIET_TRANSFORMERS:
                tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
                model, info = AutoModel.from_pretrained(
                    folder, trust_remote_code=False, use_safetensors=True, output_loading_info=True, dtype=torch.float32
                )
            missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
            if missing:
                raise EncoderError(f"--text-encoder {source}: its weights lack {missing[0]} ({len(missing)} tensors)")
            encoder = cls(model, tokenizer, name=name, source=source, revision=resolved, device=device)
        except EncoderError:
            raise
        except Exception as error:  # the errors of transformers, tokenizers and safetensors share no base
            reason = shown(in_one_line(error))
            raise EncoderError(f"--text-encoder {source}: not a text encoder that can be loaded: {reason}") from error
        encoder._refuse_short_positions(source)
        return encoder

    def identity(self) -> Identity:
        """Return all that decides the value of a token."""
        return self._identity

    def provenance(self) -> Identity:
        """Return source and resolved revision."""
        return {"source": self._source, "revision": self._revision}

    def count_tokens(self, prompt: str) -> int:
        """Return how many tokens the prompt has, special ones included, at most `max_tokens`."""
        self._counted[prompt] = self._token_ids(prompt)
        return len(self._counted[prompt])

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str]) -> list[TextFeatures]:
        """Encode prompts that have one and the same number of tokens.

        Each row gets a single padding position more, which nothing attends to. RoBERTa gives the same vector at any
        padding position of a prompt; encoders that number their padding (BERT) give this one at the first.

        Raises:
            ValueError: the prompts' numbers of tokens differ.
        """
        ids = [self._counted.pop(prompt, []) or self._token_ids(prompt) for prompt in prompts]
        length = len(ids[0])
        if any(len(row) != length for row in ids):
            raise ValueError("prompts of one batch must have the same number of tokens")
        input_ids = torch.tensor([[*row, self._tokenizer.pad_token_id] for row in ids], device=self._device)
        mask = torch.ones_like(input_ids)
        mask[:, length] = 0
        hidden = self._model(input_ids=input_ids, attention_mask=mask).last_hidden_state.float().cpu()
        return [
            TextFeatures(row[:length], row[length], cut=length == self.max_tokens and self._is_cut(prompt))
            for row, prompt in zip(hidden, prompts, strict=True)
        ]

    def _refuse_short_positions(self, source: str) -> None:
        """Encode one prompt of the most tokens: a model that cannot is refused before any clip is encoded."""
        try:
            self.encode(["music " * self.max_tokens])
        except Exception as error:  # each model has its own way to fail
            reason = shown(in_one_line(error))
            raise EncoderError(
                f"--text-encoder {source}: cannot encode {self.max_tokens} tokens and a padding position: {reason}; "
                "give an encoder-only model with room for that many"
            ) from error

    def _is_cut(self, prompt: str) -> bool:
        return len(self._token_ids(prompt, self.max_tokens + 1)) > self.max_tokens

    def _token_ids(self, prompt: str, max_tokens: int | None = None) -> list[int]:
        ids: list[int] = self._tokenizer(prompt, truncation=True, max_length=max_tokens or self.max_tokens)["input_ids"]
        return ids


@register("text_encoder", "roberta")
def load_roberta(
    source: str | None = None, *, name: str = "roberta", revision: str | None = None, device: str = "cpu"
) -> HuggingFaceTextEncoder:
    """RoBERTa base, 125 M parameters (FacebookAI/roberta-base, or any Hugging Face text encoder).

    Raises:
        EncoderError: as `HuggingFaceTextEncoder.load`.
    """
    return HuggingFaceTextEncoder.load(source or ROBERTA_HUB_ID, name=name, revision=revision, device=device)
