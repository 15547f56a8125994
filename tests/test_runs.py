"""A run's folder: what in its config.yaml is damaged is named with the file."""

import pytest
import yaml

from audiomos_cache.errors import ConfigError
from audiomos_cache.runs import Run, fingerprint_in
from tests.support.fusion import make_run

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
