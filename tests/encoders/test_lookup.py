"""What `load_audio_encoder` and `load_text_encoder` make of a name, a folder, or a hub repository id."""

import fnmatch
import shutil

import pytest

from audiomos_cache.encoders.lookup import known_encoders, load_audio_encoder, load_text_encoder, loader_of
from audiomos_cache.encoders.muq import build_muq
from audiomos_cache.encoders.tiny import TINY_MUQ_CONFIG, load_roberta_tiny
from audiomos_cache.errors import ConfigError, EncoderError
from audiomos_cache.registry import register

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOADERS = {"--audio-encoder": load_audio_encoder, "--text-encoder": load_text_encoder}


@pytest.fixture(params=LOADERS, ids=["audio", "text"])
def option(request):
    return request.param


class Hub:
    """Stands in for the Hugging Face hub: hands out one folder, or fails, and remembers what it was asked for."""

    def __init__(self):
        self.folder = None
        self.error = None
        self.asked = []

    def snapshot_download(self, repo_id, *, revision=None, repo_type=None, allow_patterns=None):
        assert repo_type is None
        self.asked.append((repo_id, revision, allow_patterns))
        if self.error:
            raise self.error
        return str(self.folder)


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    return hub


@pytest.fixture(scope="session")
def repositories(tmp_path_factory):
    """A folder in the hub's cache for each option."""
    root = tmp_path_factory.mktemp("hub")
    audio, text = (root / kind / "snapshots" / COMMIT for kind in ("audio", "text"))
    muq = build_muq(TINY_MUQ_CONFIG)
    muq.config.w2v2_config.pop("_attn_implementation")
    muq.save_pretrained(audio)
    roberta = load_roberta_tiny()
    roberta._model.save_pretrained(text)
    roberta._tokenizer.save_pretrained(text)
    return {"--audio-encoder": audio, "--text-encoder": text}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--audio-encoder",
            "--audio-encoder mu: 'mu' is not one of muq, muq-tiny, nor a folder or hub id (those have a /); is an "
            "--import missing?",
        ),
        (
            "--text-encoder",
            "--text-encoder mu: 'mu' is not one of roberta, roberta-tiny, nor a folder or hub id (those have a /); "
            "is an --import missing?",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(option, message):
    with pytest.raises(ConfigError) as caught:
        LOADERS[option]("mu")
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/muq", "one/two/three"])
def test_a_folder_that_is_not_there_is_refused_without_asking_the_hub(option, name, hub):
    with pytest.raises(EncoderError) as caught:
        LOADERS[option](name)
    assert str(caught.value) == f"{option} {name}: folder not found, and not a hub id of the form owner/name"
    assert hub.asked == []


def test_a_revision_of_a_folder_is_refused(option, tmp_path):
    with pytest.raises(EncoderError) as caught:
        LOADERS[option](f"{tmp_path!s}@main")
    assert str(caught.value) == f"{option} {tmp_path}: is a folder, and a folder has no revision 'main' to pin"


@pytest.mark.parametrize(("option", "name"), [("--audio-encoder", "muq-tiny"), ("--text-encoder", "roberta-tiny")])
def test_a_revision_of_a_built_in_encoder_is_refused(option, name):
    with pytest.raises(ConfigError) as caught:
        LOADERS[option](f"{name}@main")
    assert str(caught.value) == f"{name} is made by code and has no revision 'main' to pin"


def test_without_a_network_the_message_says_what_to_do(option, hub):
    hub.error = ConnectionError("Failed to resolve\n 'huggingface.co'")
    with pytest.raises(EncoderError) as caught:
        LOADERS[option]("someone/model")
    assert str(caught.value) == (
        f"{option} someone/model: folder not found, and cannot be fetched from the Hugging Face hub "
        "(ConnectionError: Failed to resolve 'huggingface.co'). On a machine with a network run "
        f"`hf download someone/model --local-dir FOLDER`, copy the folder here, and give {option} its path"
    )
    with pytest.raises(EncoderError, match="run `hf download someone/model --revision abc --local-dir FOLDER`, copy"):
        LOADERS[option]("someone/model@abc")


@pytest.mark.parametrize(
    ("option", "name", "repository"),
    [
        ("--audio-encoder", "muq", "OpenMuQ/MuQ-large-msd-iter"),
        ("--text-encoder", "roberta", "FacebookAI/roberta-base"),
        ("--audio-encoder", "someone/muq", "someone/muq"),
        ("--text-encoder", "someone/bert", "someone/bert"),
    ],
)
def test_the_resolved_revision_is_recorded(option, name, repository, hub, repositories):
    hub.folder = repositories[option]
    encoder = LOADERS[option](f"{name}@v1.0")
    assert encoder.provenance() == {"source": repository, "revision": COMMIT}
    assert encoder.name == name and not encoder.untrained
    [(asked_repository, asked_revision, _)] = hub.asked
    assert (asked_repository, asked_revision) == (repository, "v1.0")


def test_where_the_weights_came_from_is_no_part_of_the_identity(option, hub, repositories, tmp_path):
    hub.folder = repositories[option]
    copy = shutil.copytree(hub.folder, tmp_path / "copy")
    from_hub, from_folder = LOADERS[option]("someone/model"), LOADERS[option](str(copy))
    assert from_hub.identity() == from_folder.identity()
    assert from_hub.provenance() != from_folder.provenance()


@pytest.mark.parametrize(
    ("option", "files"),
    [
        ("--audio-encoder", ["config.json", "model.safetensors"]),
        (
            "--text-encoder",
            ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json",
             "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
             "special_tokens_map.json"],
        ),
    ],
)  # fmt: skip
def test_only_what_is_needed_is_fetched_and_nothing_pickled(option, files, hub, repositories):
    hub.folder = repositories[option]
    LOADERS[option]("someone/model")
    [(_, revision, patterns)] = hub.asked
    assert revision is None

    def is_fetched(file):
        return any(fnmatch.fnmatch(file, pattern) for pattern in patterns)

    assert [file for file in files if not is_fetched(file)] == []
    unwanted = ["pytorch_model.bin", "model.bin", "model.pt", "pytorch_model.bin.index.json", "modeling_custom.py",
                "tf_model.h5", "model.onnx", "flax_model.msgpack", "rust_model.ot"]  # fmt: skip
    assert [file for file in unwanted if is_fetched(file)] == []


def test_a_folder_is_preferred_to_a_repository_of_the_same_name(hub, repositories, tmp_path, monkeypatch):
    shutil.copytree(repositories["--audio-encoder"], tmp_path / "someone" / "muq")
    monkeypatch.chdir(tmp_path)
    assert load_audio_encoder("someone/muq").provenance() == {"source": "someone/muq", "revision": "local"}
    assert hub.asked == []


def test_a_folder_needs_no_slash(option, hub, repositories, tmp_path, monkeypatch):
    shutil.copytree(repositories[option], tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    encoder = LOADERS[option]("mine")
    assert encoder.provenance() == {"source": "mine", "revision": "local"}
    assert hub.asked == []


def test_an_empty_name_is_not_the_folder_one_is_in(option):
    with pytest.raises(ConfigError, match=f"{option} : '' is not one of "):
        LOADERS[option]("")


@pytest.mark.parametrize(("option", "name"), [("--audio-encoder", "muq"), ("--text-encoder", "roberta")])
def test_a_published_name_is_no_folder(option, name, hub, repositories, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    hub.folder = repositories[option]
    assert LOADERS[option](name).provenance()["revision"] == COMMIT


@pytest.mark.parametrize("option", LOADERS)
def test_an_at_sign_without_a_revision_is_refused(option):
    with pytest.raises(ConfigError, match="muq@: found no revision after the @, expected NAME@REVISION"):
        LOADERS[option]("muq@")


def test_a_folder_with_an_at_sign_is_a_folder(option, hub, repositories, tmp_path):
    folder = shutil.copytree(repositories[option], tmp_path / "mine@home")
    encoder = LOADERS[option](str(folder))
    assert encoder.provenance() == {"source": str(folder), "revision": "local"} and hub.asked == []


@pytest.fixture
def registered(fresh_registry):  # noqa: ARG001
    """A registered encoder that only remembers what it was asked for."""
    asked = []

    def load(source, *, name, revision, **_):
        """An encoder that remembers. Nothing more."""
        asked.append((source, name, revision))

    register("audio_encoder", "mine")(load)
    register("text_encoder", "mine")(load)
    return asked


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("mine", (None, "mine", None)),
        ("mine@v2", (None, "mine", "v2")),
        ("mine:some/folder", ("some/folder", "mine:some/folder", None)),
        ("mine:someone/model@v2", ("someone/model", "mine:someone/model", "v2")),
    ],
)
def test_a_users_encoder_is_loaded_by_its_name(option, registered, given, asked):
    LOADERS[option](given)
    assert registered == [asked]


def test_a_users_encoder_takes_folders_with_an_at_sign(option, registered, tmp_path):
    (tmp_path / "a@b").mkdir()
    LOADERS[option](f"mine:{tmp_path / 'a@b'}")
    assert registered == [(str(tmp_path / "a@b"), f"mine:{tmp_path / 'a@b'}", None)]


@pytest.mark.usefixtures("registered")
def test_what_is_known_is_listed_with_what_it_is():
    listed = dict(known_encoders("audio_encoder"))
    assert list(listed) == ["muq", "muq-tiny", "mine"] and listed["mine"] == "An encoder that remembers. Nothing more"
    assert (
        listed["muq"].startswith("MuQ, 330 M parameters") and list(dict(known_encoders("text_encoder")))[-1] == "mine"
    )


@pytest.mark.usefixtures("registered")
def test_which_loader_a_name_is_of():
    names = ("mine", "mine:a/b", "muq-tiny", "muq", "a/b", "other:a/b", "")
    found = [loader_of("audio_encoder", name) for name in names]
    assert found == ["mine", "mine", "muq-tiny", "muq", "muq", "muq", "muq"]
