"""Run folders that are damaged, or none: what is damaged is named with the file."""

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
        with pytest.raises(DataError, match=r"config\.yaml: cannot be read as YAML \("):
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
    with pytest.raises(DataError, match=r"clips\.json: not a record of clips .*; train the run again"):
        read_run_clips(tmp_path)


WHOLE = {"head": {}, "audio_dim": 8, "text_dim": 8, "audio_layers": [0], "layers_read": [0]}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"parts": "my_parts"}, "parts: expected a kind, name, import, module and class of each"),
        ({"parts": [{"kind": ["x"]}]}, "parts: expected a kind, name, import, module and class of each"),
        ({"fingerprint_fields": "x"}, "not the config of a run: fingerprint_fields is 'x', expected keys such as "),
        ({"fingerprint_fields": {"x": float("nan")}}, "not the config of a run: fingerprint_fields are not those of "),
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


def test_an_imported_run_has_no_fingerprint():
    assert fingerprint_in({"fingerprint_fields": None}) is fingerprint_in({}) is None
