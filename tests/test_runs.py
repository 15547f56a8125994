"""Run folders that are damaged, or none: what is damaged is named with the file."""

import json
import os
from pathlib import Path

import pytest
import yaml

from audiomos_cache.errors import ConfigError, DataError
from audiomos_cache.heads.model import build_head
from audiomos_cache.runs import Run, fingerprint_in, read_run_clips
from audiomos_cache.training.train_heads import train_heads
from tests.support.fusion import make_run
from tests.support.training import cache, job

__all__ = ["cache"]


@pytest.fixture
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    [result] = train_heads([job("pooling-dist", 1, "training.max_epochs=1")], cache, tmp_path_factory.mktemp("runs"))
    return result.folder


def test_what_is_no_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"contains no config\.yaml, so it is not a run"):
        Run(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(DataError, match=r"config\.yaml: fingerprint is None, expected a string; train the run again"):
        Run(tmp_path)
    (tmp_path / "config.yaml").write_text("fingerprint: abc\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: not the config of a run: 'head'"):
        Run(tmp_path)
    for content in (b"a: [", b"\xff\xfe"):
        (tmp_path / "config.yaml").write_bytes(content)
        with pytest.raises(DataError, match=r"config\.yaml: cannot be read as YAML: .*; train the run again"):
            Run(tmp_path)
    opened = Run(run)
    other = build_head("transformer-dist", 64, 2)
    assert set(other.state_dict()) != set(opened.load_head("loss").state_dict())
    with pytest.raises(DataError, match=r"best-nothing\.safetensors: does not exist; give --best loss or --best srcc"):
        opened.load_head("nothing")
    (run / "best-srcc.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"best-srcc\.safetensors: hash \w+, expected \w+, so it was changed or is "):
        opened.load_head("srcc")


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"train": 3, "dev": []}', b'{"train": []}'])
def test_a_damaged_record_of_clips_is_refused(tmp_path: Path, content: bytes) -> None:
    assert read_run_clips(tmp_path) is None
    (tmp_path / "clips.json").write_bytes(content)
    with pytest.raises(DataError, match=r"clips\.json: .*, expected a record of clips: .*; train the run again"):
        read_run_clips(tmp_path)


WHOLE = {"head": {}, "audio_dim": 8, "text_dim": 8, "audio_layers": [0], "layers_read": [0]}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"parts": "my_parts"}, "parts: expected a kind, name, import, module and class of each"),
        ({"parts": [{"kind": ["x"]}]}, "parts: expected a kind, name, import, module and class of each"),
        ({"fingerprint_fields": "x"}, "not the config of a run: fingerprint_fields is 'x', expected keys such as "),
        ({"audio_dim": "8"}, "not the config of a run: audio_dim is '8', expected a whole number"),
        ({"seed": -1}, "not the config of a run: seed is -1, expected a whole number"),
        ({"seed": True}, "not the config of a run: seed is True, expected a whole number"),
        ({"audio_layers": "012"}, "not the config of a run: audio_layers is '012', expected whole numbers"),
        ({"made_with": [1]}, "not the config of a run: cannot convert dictionary update sequence element"),
    ],
)
def test_a_damaged_config_is_refused_by_its_file(tmp_path, damage, message):
    path = make_run(tmp_path / "run") / "config.yaml"
    content = yaml.safe_load(path.read_text()) | WHOLE
    path.write_text(yaml.safe_dump(content))
    assert Run(tmp_path / "run").seed == 1
    path.write_text(yaml.safe_dump(content | damage))
    with pytest.raises(ConfigError) as caught:
        Run(tmp_path / "run")
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("head: &a [*a]", "an anchor or alias"),
        ("seed: .nan", "'.nan' is not a number"),
        ("seed: .inf", "'.inf' is not a number"),
        ("seed: !!int ''", "the tag tag:yaml.org,2002:int"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_hostile_config_is_refused_in_one_line(tmp_path, content, problem):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(DataError) as caught:
        Run(tmp_path)
    assert problem in str(caught.value) and str(caught.value).isprintable()


NUMBERS = {
    name: dict.fromkeys(("mse", "lcc", "srcc", "ktau"), 0.5) for name in ("utt_mi", "utt_ta", "sys_mi", "sys_ta")
}
SPLIT = {**NUMBERS, "n_clips": 2, "n_systems": 1}


@pytest.mark.parametrize(
    "content",
    ["[]", "3", '{"loss": 3}', '{"loss": {}}', '{"loss": {"epoch": "1"}}', '{"loss": {"epoch": 1e309}}', "[" * 100_000]
    + [json.dumps({"loss": {"epoch": 1, "dev": SPLIT | bad}}) for bad in ({"utt_mi": 3}, {"n_clips": "x"})]
    + [json.dumps({"loss": {"epoch": 1, "dev": SPLIT | {"sys_ta": NUMBERS["utt_mi"] | {"srcc": "0.5"}}}})],
)
def test_hostile_metrics_are_refused_in_one_line(tmp_path, content):
    run = make_run(tmp_path / "run")
    (run / "config.yaml").write_text(yaml.safe_dump(yaml.safe_load((run / "config.yaml").read_text()) | WHOLE))
    assert Run(run).metrics() == {}
    (run / "metrics.json").write_text(json.dumps({"loss": {"epoch": 1, "dev": SPLIT}}))
    assert Run(run).metrics()["loss"]["epoch"] == 1
    (run / "metrics.json").write_text(content)
    with pytest.raises(DataError, match=r"metrics\.json: .*, expected the epoch and the numbers of each best"):
        Run(run).metrics()


@pytest.mark.parametrize("name", ["config.yaml", "clips.json", "metrics.json"])
def test_a_pipe_in_a_run_is_refused_at_once(tmp_path, name):
    run = make_run(tmp_path / "run")
    (run / "config.yaml").write_text(yaml.safe_dump(yaml.safe_load((run / "config.yaml").read_text()) | WHOLE))
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    with pytest.raises(DataError, match=rf"{name}: is a named pipe, expected "):
        read_run_clips(run)
        Run(run).metrics()


def test_an_imported_run_has_no_fingerprint():
    assert fingerprint_in({"fingerprint_fields": None}) is fingerprint_in({}) is None
