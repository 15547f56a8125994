import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from audiomos_cache.encoders.lookup import load_text_encoder
from audiomos_cache.encoders.text import ROBERTA_HUB_ID
from audiomos_cache.errors import EncoderError
from tests.support.hub import COMMIT, fill_cache

PAD = 1
WORDS = ["a", "slow", "piano", "in", "the", "rain", "(", ")", "90"]
PROMPT = "a slow piano in the rain"
IDS = [0, 4, 5, 6, 7, 8, 9, 2]  # <s>, the six words, </s>


def word_tokenizer():
    """RoBERTa's special tokens around a token per word."""
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


@pytest.fixture(scope="session")
def original():
    """transformers' own class with random weights large enough for the tokens to look at each other."""
    torch.manual_seed(3)
    config = RobertaConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=160,
        type_vocab_size=1,
        pad_token_id=PAD,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.5,
    )
    return RobertaModel(config, add_pooling_layer=False).eval()


@pytest.fixture(scope="session")
def saved(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("roberta")
    original.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "roberta")


@pytest.fixture(scope="session")
def encoder(saved):
    return load_text_encoder(str(saved))


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def padded_output(model, ids, padding):
    """What transformers gives for one row of ids followed by so many paddings."""
    input_ids = torch.tensor([[*ids, *[PAD] * padding]])
    mask = torch.tensor([[1] * len(ids) + [0] * padding])
    with torch.no_grad():
        return model(input_ids=input_ids, attention_mask=mask).last_hidden_state[0]


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("", 2), ("slow", 6), ("é", 4), ("鼓", 5), ("🎹 ♭", 2 + 4 + 1 + 3), ("a\n\tb", 6), ("x" * 126, 128)],
)
def test_roberta_tiny_has_a_token_per_byte_and_two_more(roberta_tiny, prompt, tokens):
    [features] = roberta_tiny.encode([prompt])
    assert roberta_tiny.count_tokens(prompt) == tokens
    assert features.tokens.shape == (tokens, 64)
    assert not features.cut


@pytest.mark.parametrize("prompt", ["x" * 127, "ab" * 300, "é" * 64], ids=["one too long", "long", "non-ASCII"])
def test_a_long_prompt_is_cut_to_its_first_bytes_and_says_so(roberta_tiny, prompt):
    [features] = roberta_tiny.encode([prompt])
    assert features.cut
    assert roberta_tiny.count_tokens(prompt) == 128
    [kept] = roberta_tiny.encode([prompt.encode()[:126].decode()])
    assert not kept.cut
    assert torch.allclose(features.tokens, kept.tokens, atol=1e-5)


def test_every_byte_counts(roberta_tiny):
    upper, lower = roberta_tiny.encode(["Slow", "slow"])
    assert not torch.allclose(upper.tokens, lower.tokens, atol=1e-2)


@pytest.mark.parametrize("padding", [0, 1, 5, 20])
def test_tokens_and_padding_are_those_of_transformers(encoder, original, padding):
    [features] = encoder.encode([PROMPT])
    expected = padded_output(original, IDS, padding)
    assert torch.allclose(features.tokens, expected[: len(IDS)], atol=1e-5)
    assert torch.allclose(features.pad_vector.expand(padding, -1), expected[len(IDS) :], atol=1e-5)


def test_a_prompt_has_the_same_features_alone_and_in_a_batch(encoder):
    prompts = ["a slow piano", "the rain (", "90 90 90"]
    for prompt, together in zip(prompts, encoder.encode(prompts), strict=True):
        [alone] = encoder.encode([prompt])
        assert torch.allclose(alone.tokens, together.tokens, atol=1e-5)
        assert torch.allclose(alone.pad_vector, together.pad_vector, atol=1e-5)


def test_the_padding_of_each_prompt_is_its_own(encoder):
    first, second = encoder.encode(["a slow piano", "the rain ("])
    assert not torch.allclose(first.pad_vector, second.pad_vector, atol=1e-2)


def test_prompts_of_different_lengths_in_a_batch_are_refused(encoder):
    with pytest.raises(ValueError, match=r"^prompts of one batch must have the same number of tokens$"):
        encoder.encode(["a slow piano", "a piano"])


def test_the_encoder_is_frozen(encoder):
    [first], [second] = encoder.encode([PROMPT]), encoder.encode([PROMPT])
    assert not first.tokens.requires_grad and not first.pad_vector.requires_grad
    assert torch.equal(first.tokens, second.tokens) and torch.equal(first.pad_vector, second.pad_vector)


def test_what_a_loaded_encoder_says_of_itself(saved, encoder):
    assert (encoder.name, encoder.dim, encoder.max_tokens, encoder.untrained) == (str(saved), 16, 128, False)
    assert encoder.provenance() == {"source": str(saved), "revision": "local"}
    identity = encoder.identity()
    assert (identity["class"], identity["model_type"], identity["num_hidden_layers"]) == ("RobertaModel", "roberta", 3)


def test_loading_reports_nothing_of_weights_that_are_not_used(saved, tmp_path, capsys):
    """Those of a language model's head, and of a pooler that the checkpoint lacks."""
    shutil.copytree(saved, tmp_path / "m")
    change_weights(tmp_path / "m", lambda weights: weights.update({"lm_head.bias": torch.zeros(20)}))
    records, handler = [], logging.Handler()
    handler.emit = records.append
    library = logging.getLogger("transformers")
    library.addHandler(handler)
    level = library.level
    library.setLevel(logging.WARNING)
    try:
        load_text_encoder(str(tmp_path / "m"))
        assert (records, capsys.readouterr().err) == ([], "")
        AutoModel.from_pretrained(tmp_path / "m")
        assert "lm_head.bias" in records[0].getMessage(), "it does report, and does so again afterwards"
    finally:
        library.setLevel(level)
        library.removeHandler(handler)


@pytest.mark.parametrize("part", ["embeddings.position_embeddings.weight", "encoder.layer.2.output.LayerNorm.bias"])
def test_every_weight_is_part_of_the_identity(folder, encoder, part):
    change_weights(folder, lambda weights: weights[part].view(-1)[0].add_(1))
    identity = load_text_encoder(str(folder)).identity()
    assert {key for key, value in identity.items() if value != encoder.identity()[key]} == {"weights_xxh3_128"}


def test_the_tokenizer_is_part_of_the_identity(folder, encoder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"slow"', '"fast"'))
    identity = load_text_encoder(str(folder)).identity()
    assert {key for key, value in identity.items() if value != encoder.identity()[key]} == {"tokenizer_xxh3_128"}


def test_lower_casing_is_part_of_the_identity(folder, encoder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Lowercase()  # "A" of the probe becomes the known word "a"
    tokenizer.save(str(folder / "tokenizer.json"))
    assert load_text_encoder(str(folder)).identity() != encoder.identity()


def test_a_setting_that_decides_a_token_is_part_of_the_identity(folder, encoder):
    change_json(folder / "config.json", layer_norm_eps=0.1)
    changed = load_text_encoder(str(folder))
    assert {key for key, value in changed.identity().items() if value != encoder.identity()[key]} == {"layer_norm_eps"}
    assert not torch.allclose(changed.encode([PROMPT])[0].tokens, encoder.encode([PROMPT])[0].tokens, atol=1e-3)


def test_a_bert_works_through_the_same_class(tmp_path):
    torch.manual_seed(4)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: i for i, word in enumerate([*special, "pia", "##no", "slow"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=7,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=20,
        initializer_range=0.5,
    )
    model = BertModel(config).eval()
    model.save_pretrained(tmp_path)

    encoder = load_text_encoder(str(tmp_path))
    assert (encoder.dim, encoder.identity()["class"]) == (12, "BertModel")
    [features] = encoder.encode(["slow piano piano"])
    ids = torch.tensor([[2, 6, 4, 5, 4, 5, 3, 0]])
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=torch.tensor([[1] * 7 + [0]])).last_hidden_state[0]
    assert torch.allclose(features.tokens, expected[:7], atol=1e-5)
    assert torch.allclose(features.pad_vector, expected[7], atol=1e-5)


def test_pickled_weights_are_not_read(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        EncoderError, match=r"not a text encoder that can be loaded: .*no file named model\.safetensors"
    ):
        load_text_encoder(str(folder))


def test_code_that_comes_with_the_weights_is_never_run(folder, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    (folder / "custom.py").write_text(
        f"open({str(ran)!r}, 'w')\nfrom transformers import RobertaConfig as Config, RobertaModel as Model\n"
    )
    auto = {"AutoConfig": "custom.Config", "AutoModel": "custom.Model"}
    change_json(folder / "config.json", model_type="custom", auto_map=auto)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(EncoderError, match=r"not a text encoder that can be loaded: .*contains custom code"):
        load_text_encoder(str(folder))
    assert not ran.exists()


def test_missing_weights_are_refused(folder):
    change_weights(
        folder,
        lambda weights: [weights.pop(f"encoder.layer.1.attention.self.query.{name}") for name in ("weight", "bias")],
    )
    with pytest.raises(EncoderError) as caught:
        load_text_encoder(str(folder))
    assert str(caught.value) == (
        f"--text-encoder {folder}: its weights lack encoder.layer.1.attention.self.query.bias (2 tensors)"
    )


def delete(name):
    return lambda folder: (folder / name).unlink()


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def reshape(folder):
    change_weights(folder, lambda weights: weights.update({"encoder.layer.0.output.dense.bias": torch.zeros(3)}))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (delete("model.safetensors"), "no file named model.safetensors"),
        (delete("config.json"), ""),
        (write("config.json", b"{"), "not a valid JSON file"),
        (write("config.json", b"[1]"), ""),
        (write("config.json", b'{"encoder_dim": 1024}'), ""),
        (write("model.safetensors", b""), "Error while deserializing header"),
        (truncate, "Error while deserializing header"),
        (reshape, "mismatch"),
    ],
    ids=["no weights", "no config", "not JSON", "a list", "a MuQ", "empty", "truncated", "another shape"],
)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line(folder, damage, reason):
    damage(folder)
    with pytest.raises(EncoderError) as caught:
        load_text_encoder(str(folder))
    message = str(caught.value)
    assert message.startswith(f"--text-encoder {folder}: not a text encoder that can be loaded: ")
    assert reason in message and "\n" not in message


def test_an_encoder_of_text_and_images_is_refused_in_one_line(tmp_path):
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    image = {**text, "image_size": 8, "patch_size": 4}
    config = CLIPConfig(text_config={**text, "vocab_size": 20}, vision_config=image, projection_dim=8)
    CLIPModel(config).save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(EncoderError) as caught:
        load_text_encoder(str(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"--text-encoder {tmp_path}: not a text encoder that can be loaded: ")
    assert "hidden_size" in message and "\n" not in message


def test_a_folder_without_a_tokenizer_is_refused(folder):
    """transformers 5 makes an empty tokenizer of its own, to which every prompt is the same."""
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(EncoderError) as caught:
        load_text_encoder(str(folder))
    assert str(caught.value).startswith(f"--text-encoder {folder}: ")
    assert "tokenizer" in str(caught.value) or "not a text encoder that can be loaded" in str(caught.value)


def test_a_tokenizer_that_knows_no_word_is_refused(folder):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"] = {word: i for word, i in content["model"]["vocab"].items() if i < 4}
    path.write_text(json.dumps(content))
    with pytest.raises(EncoderError) as caught:
        load_text_encoder(str(folder))
    assert str(caught.value) == (
        f"--text-encoder {folder}: its tokenizer knows no token of an English sentence; "
        "are its files (tokenizer.json or vocabulary) there?"
    )


def test_a_tokenizer_without_padding_is_refused(folder):
    tokenizer = word_tokenizer()
    tokenizer.pad_token = None
    for path in folder.glob("*token*"):
        path.unlink()
    tokenizer.save_pretrained(folder)
    with pytest.raises(EncoderError, match="its tokenizer has no padding token; an encoder needs one"):
        load_text_encoder(str(folder))


def test_an_encoder_with_too_few_positions_is_refused_at_load(tmp_path):
    tiny = load_text_encoder("roberta-tiny")
    config = RobertaConfig.from_dict({**tiny._model.config.to_dict(), "max_position_embeddings": 100})
    RobertaModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    tiny._tokenizer.save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=r"cannot encode 128 tokens and a padding position: .*; give an encoder"):
        load_text_encoder(str(tmp_path))


EXTRAS = {"vocab.json": "{}", "merges.txt": "", "special_tokens_map.json": "{}", "pytorch_model.bin": ""}


def hub_cache(folder, cache, *missing):
    """What transformers' `from_pretrained` left, which fetches only the files that it needs."""
    for name, content in EXTRAS.items():
        (folder / name).write_text(content)
    return fill_cache(folder, cache, ROBERTA_HUB_ID, without={*EXTRAS, *missing})


def test_without_a_network_a_cache_that_another_tool_filled_will_do(folder, encoder, offline):
    hub_cache(folder, offline)
    for name in ("roberta", ROBERTA_HUB_ID, f"roberta@{COMMIT}"):
        found = load_text_encoder(name)
        assert found.identity() == encoder.identity()
        assert found.provenance() == {"source": ROBERTA_HUB_ID, "revision": COMMIT}


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json"])
def test_without_a_network_a_cache_that_lacks_what_is_needed_is_refused(folder, offline, missing):
    hub_cache(folder, offline, missing)
    with pytest.raises(EncoderError, match=r"^--text-encoder FacebookAI/roberta-base: ") as caught:
        load_text_encoder("roberta")
    if "cannot be fetched" in str(caught.value):  # versions of the hub's client that know what the repository holds
        assert "IncompleteSnapshotError" in str(caught.value)
        assert str(caught.value).endswith("copy the folder here, and give --text-encoder its path")
