"""The example package: its README, followed as written, through the commands and without a fork."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from audiomos_cache import registry
from audiomos_cache.encoders.lookup import load_audio_encoder
from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.model import build_head
from audiomos_cache.registry import BUILT_IN, _parts
from audiomos_cache.runs import Run
from audiomos_cache.testing import check_encoder, check_head
from tests.support.commands import fail, run

EXAMPLE = Path(__file__).parents[1] / "examples" / "extra_parts"
PARTS = ["pooling drasp", "loss huber", "audio_encoder wavlm-tiny", "fusion trimmed_mean"]

pytestmark = pytest.mark.usefixtures("fresh_registry")


@pytest.fixture
def example(tmp_path, monkeypatch):
    """A copy of the example's folder, as the working directory; its modules are removed after the test."""
    folder = shutil.copytree(EXAMPLE, tmp_path / "extra", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(folder)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "audiomos_extra"]:
        del sys.modules[name]


README = (EXAMPLE / "README.md").read_text()


def commands():
    """The commands of the README, in its order, with fewer epochs."""
    found = re.findall(r"^    audiomos-cache (.*)$", README.replace("max_epochs=20", "max_epochs=3"), re.MULTILINE)
    assert len(found) == 6 and "max_epochs=3" in found[1]
    return [shlex.split(command) for command in found]


def make_data():
    """Run the README's line that makes the dataset, with fewer clips."""
    [code] = re.findall(r'^    python -c "(.*)"$', README, re.MULTILINE)
    assert "prompts=6" in code
    exec(code.replace("prompts=6", "prompts=3"), {})


@pytest.mark.slow
def test_the_readme_works_as_written(example, monkeypatch):
    make_data()
    extract, train, fuse, bundle, score, again = commands()

    def expanded(command):
        return [name for word in command for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]

    run(*extract)
    run(*train)
    run(*expanded(fuse))
    run(*expanded(bundle))
    scored = run(*expanded([word.replace("data/wav", "data/wav/*1.wav") for word in score]))
    assert scored.strip()
    run(*again)

    config = yaml.safe_load((example / "runs" / "drasp-huber-seed1" / "config.yaml").read_text())
    assert [f"{part['kind']} {part['name']}" for part in config["parts"]] == PARTS[:2]
    assert {part["import"] for part in config["parts"]} == {"audiomos_extra"}
    assert [f"{part['kind']} {part['name']}" for part in yaml.safe_load(Path("model/bundle.yaml").read_text())["parts"]
            ] == [PARTS[0], PARTS[1], PARTS[3], PARTS[2]]  # fmt: skip
    histories = [Path(runs, "drasp-huber-seed1", "history.jsonl").read_text() for runs in ("runs", "again")]
    losses = [[json.loads(line)["dev_loss"] for line in history.splitlines()] for history in histories]
    assert losses[0] and losses[0] == losses[1], "a run's own config trains the same run"

    built_in = {kind: {name: parts[name] for name in parts if name in BUILT_IN[kind]} for kind, parts in _parts.items()}
    monkeypatch.setattr(registry, "_parts", built_in)
    needs = "needs --import audiomos_extra, which registers pooling drasp (audiomos_extra.pooling.DualResolutionPooling"
    assert f"bundle.yaml: {needs}" in fail("score", "data/wav", "--prompt", "piano", "--bundle", "model")
    config = "runs/drasp-huber-seed1/config.yaml"
    assert f"{config}: {needs}" in fail("train-head", "--cache", "cache", "--head", config)
    with pytest.raises(ConfigError, match=f"^{config}: needs --import audiomos_extra, which registers pooling drasp"):
        Run("runs/drasp-huber-seed1")


@pytest.mark.usefixtures("example")
def test_without_the_import_a_preset_says_which_to_give():
    needs = "needs --import audiomos_extra, given before the command"
    assert needs in fail("train-head", "--cache", "none", "--head", "drasp-huber.yaml")
    assert "audiomos_extra" not in sys.modules


def test_the_parts_keep_our_promises(example):
    [code] = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    exec(code, {})  # imports the package
    assert "audiomos_extra" in sys.modules and code.count("\ncheck_") == 2
    check_head(build_head({"pooling": {"kind": "drasp", "segment": 3}, "temporal": "none"}, 32, 24), 32, 24)

    def load(layers):
        return load_audio_encoder("wavlm-tiny", layers=layers)

    encoder = load((0, 1, 2))
    check_encoder(encoder, load)
    encoder._model.save_pretrained(example / "saved")
    saved = load_audio_encoder("wavlm:saved", layers=(0, 1, 2))
    assert saved.identity() == encoder.identity()
    assert saved.provenance() == {"source": "saved", "revision": "local"}
