"""The public names: what `audiomos_cache` offers, that it costs nothing to import, and that every example runs."""

import doctest
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import h5py  # noqa: F401  # its first import starts a process, which no test here may do
import pytest
import torch
from click.testing import CliRunner

import audiomos_cache
from audiomos_cache import registry
from audiomos_cache.cli import main
from audiomos_cache.cli.options import SHOWN_FIRST, AdvancedOption, Command
from audiomos_cache.errors import AudiomosError
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.presets import head_config, with_compat
from audiomos_cache.testing.music import make_dataset
from audiomos_cache.upstream.checkpoints import upstream_names

VERBS = ("extract", "train_head", "predict", "fuse", "evaluate", "make_bundle", "Scorer")
OTHERS = (
    "verify",
    "merge",
    "split",
    "submit",
    "info",
    "check_bundle",
    "import_upstream",
    "load_bundle",
    "load_fusion",
    "make_published_bundle",
    "register",
    "score_files",
)
THINGS = ("Cache", "Run", "Fusion", "Bundle", "PartConfig", "Score")
PUBLIC = (*VERBS, *OTHERS, *THINGS)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_the_public_names():
    assert sorted(audiomos_cache.__all__) == sorted(["__version__", *PUBLIC])
    assert set(audiomos_cache.__all__) <= set(dir(audiomos_cache))
    with pytest.raises(AttributeError, match="module 'audiomos_cache' has no attribute 'nope'"):
        audiomos_cache.nope  # noqa: B018


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_says_what_it_takes_and_raises(name):
    public = getattr(audiomos_cache, name)
    text = inspect.getdoc(public)
    made_by_others = name in ("Bundle", "Score")
    for section in ("Attributes:" if made_by_others else "Args:", ">>> "):
        assert section in text, section
    assert "Raises:" in text or name in THINGS
    for each in inspect.signature(public).parameters:
        assert each in text, each


@pytest.mark.process
def test_importing_the_package_or_the_commands_imports_nothing_heavy():
    heavy = {"torch", "numpy", "h5py", "pydantic", "rich", "scipy", "transformers"}
    code = (
        "import sys, audiomos_cache, audiomos_cache.cli; from audiomos_cache.cli import main;"
        f"print(sorted({{m.split('.')[0] for m in sys.modules}} & {heavy}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """What the examples start from: made-up music, and what the tiny encoders and short trainings make of it.

    data/, cache/tiny (train, dev, eval), runs/pooling-dist-seed1 and -seed2, fused/ (their mean), model/ (its bundle),
    song.wav, and a checkpoint like the published ones.
    """
    folder = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_dataset(Path("data"), prompts=4, seconds=(0.5, 0.9))
        encoders = {"audio_encoder": "muq-tiny", "text_encoder": "roberta-tiny"}
        audiomos_cache.extract("data", "cache/tiny", split=["train", "dev", "eval"], pad_to=1.0, **encoders)
        short = {"training.max_epochs": 2}
        runs = audiomos_cache.train_head("cache/tiny", "pooling-dist", seed=[1, 2], set=short, device="cpu").folders
        audiomos_cache.fuse(runs, out="fused", method="mean")
        audiomos_cache.make_bundle(runs, "model", "fused", labels="data/sets/dev_mos_list.txt", n_boot=0, check=False)
        shutil.copy(min(Path("data").rglob("*.wav")), "song.wav")
        head = build_head(with_compat(head_config("transformer-dist"), "upstream"), 1024, 768)
        state = {theirs: head.state_dict()[ours] for theirs, ours in upstream_names(head).items()}
        torch.save(state, "ckpt_best_val_srcc.pth")
    return folder


def test_every_example_runs(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    names = {name: getattr(audiomos_cache, name) for name in PUBLIC}
    with_examples = names | {"Scorer.reward": audiomos_cache.Scorer.reward}
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for name, public in with_examples.items():
        examples = doctest.DocTestFinder(recurse=False).find(public, name, globs=dict(names))
        assert sum(len(each.examples) for each in examples) > 0, name
        for each in examples:
            runner.run(each, out=report.append)
    for kind, part in (("pooling", "first"), ("fusion", "median")):  # which the examples register
        del registry._parts[kind][part]
    assert not report, "".join(report)


def test_results_print_and_turn_into_plain_values(workspace, monkeypatch, tmp_path):
    monkeypatch.chdir(workspace)
    run = audiomos_cache.Run("runs/pooling-dist-seed1")
    results = (
        audiomos_cache.extract("data", "cache/tiny", split="dev", pad_to=1, dry_run=True, audio_encoder="muq-tiny",
                               text_encoder="roberta-tiny"),
        audiomos_cache.extract("data", "cache/tiny", split="dev", pad_to=1, audio_encoder="muq-tiny",
                               text_encoder="roberta-tiny"),
        audiomos_cache.predict(run, "cache/tiny", out=tmp_path / "p.jsonl", device="cpu"),
        audiomos_cache.verify("cache/tiny"),
        audiomos_cache.make_bundle([run.folder], tmp_path / "model", check=False),
        audiomos_cache.info(tmp_path / "model"),
        audiomos_cache.info("runs/pooling-dist-seed1"),
        audiomos_cache.info(),
        audiomos_cache.Cache("cache/tiny"),
        run,
        audiomos_cache.load_bundle("model"),
        audiomos_cache.fuse([run.folder], out=tmp_path / "fused", method="mean"),
        *audiomos_cache.Scorer("model", device="cpu").score(["song.wav"]),
    )  # fmt: skip
    for result in results:
        shown = repr(result)
        assert 1 <= len(shown.splitlines()) <= 25 and "object at 0x" not in shown and "array(" not in shown
        assert plain(result.to_dict()), type(result).__name__
    assert "dev: 0 of 8 clips to encode" in repr(results[0])
    assert "nothing left to do" in repr(results[1])
    assert "encoders: muq-tiny (seeded random weights 2025, none)" in repr(results[5])


def plain(value):
    """Whether a value holds nothing but what JSON has."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return value is None or type(value) in (str, int, float, bool)


def test_heads_as_names_files_mappings_and_configs(workspace, monkeypatch, tmp_path):
    monkeypatch.chdir(workspace)
    (tmp_path / "mine.yaml").write_text("temporal: {kind: none}\ntext_audio: {kind: concat}\n")
    mapping = {"temporal": {"kind": "none"}, "text_audio": {"kind": "concat"}}
    config = HeadConfig.model_validate(mapping | {"training": {"max_epochs": 1}})
    train = audiomos_cache.train_head
    once = ["training.max_epochs=1"]
    named = train("cache/tiny", ["pooling-dist", tmp_path / "mine.yaml", mapping], 1, set=once, out=tmp_path / "a")
    assert [each.folder.name for each in named.runs] == ["pooling-dist-seed1", "mine-seed1", "head-seed1"]
    alone = train("cache/tiny", config, 1, out=tmp_path / "b")
    [weights, same] = (each.folders[-1] / "best-loss.safetensors" for each in (named, alone))
    assert weights.read_bytes() == same.read_bytes()
    assert mapping == {"temporal": {"kind": "none"}, "text_audio": {"kind": "concat"}}, "left as it was"
    several = train("cache/tiny", [mapping, config], 1, set={"training.max_epochs": 1}, out=tmp_path / "c")
    assert [each.folder.name for each in several.runs] == ["head1-seed1", "head2-seed1"]
    assert several.rows()[-1]["run"] == "mean of the predictions"
    assert plain(several.to_dict()) and "head2-seed1: utt_mi" in repr(several)


def test_a_run_records_what_it_was_made_with(workspace, monkeypatch, tmp_path):
    """And that decides nothing: the same training by a command is finished already, and has the same hash."""
    from audiomos_cache.fusion.members import run_hash

    monkeypatch.chdir(workspace)
    called = audiomos_cache.train_head("cache/tiny", "pooling-dist", 1, set={"training.max_epochs": 1}, out=tmp_path)
    [run] = called.folders
    assert audiomos_cache.Run(run).made_with == {
        "command": f"train_head(cache='cache/tiny', head='pooling-dist', seed=1, out={str(tmp_path)!r}, "
        "set={'training.max_epochs': 1})",
        "cache": "cache/tiny",
        "train_list": None,
        "dev_list": None,
        "rater_lists": [],
    }
    plan = tmp_path / "plan.yaml"
    plan.write_text("runs: [{head: pooling-dist, seed: 1, set: [training.max_epochs=1]}]")
    again = audiomos_cache.train_head("cache/tiny", plan=plan, out=tmp_path)
    assert [each.seconds for each in again.runs] == [None], "it was finished already"
    arguments = ["train-head", "--cache", "cache/tiny", "--plan", str(plan), "--out", str(tmp_path / "other runs")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    other = tmp_path / "other runs" / run.name
    command = f"audiomos-cache {' '.join(arguments[:-1])} '{tmp_path}/other runs'"
    assert audiomos_cache.Run(other).made_with["command"] == command
    assert (other / "config.yaml").read_bytes() != (run / "config.yaml").read_bytes()
    assert run_hash(other, "loss") == run_hash(run, "loss")
    assert command in CliRunner().invoke(main, ["info", str(other)]).stdout


@pytest.mark.parametrize("name", [name for name, each in main.commands.items() if isinstance(each, Command)])
def test_a_command_shows_at_most_ten_options_first(name):
    options = [each for each in main.commands[name].params if hasattr(each, "is_flag")]
    assert len([each for each in options if not isinstance(each, AdvancedOption)]) <= SHOWN_FIRST
    text = CliRunner().invoke(main, [name, "--help"]).stdout
    assert ("\nAdvanced:\n" in text) is any(isinstance(each, AdvancedOption) for each in options)
    assert text.count("--help") == 1


def test_info_of_a_run_names_the_scores_in_words(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    assert ": utterance MI " in (shown := repr(audiomos_cache.info("runs/pooling-dist-seed1"))), shown
    assert ", system TA " in shown and "utt_" not in shown


def test_what_info_says_of_words_and_of_nothing():
    found = audiomos_cache.info("heads").to_dict()
    assert "transformer-dist" in found["presets"] and found["plans"] == ["ensemble8"]
    assert "attentive" in found["pooling"]
    bundles = audiomos_cache.info("bundles")
    listed = bundles.to_dict()["bundles"]
    assert [each["name"] for each in listed] == ["muq-eval-a1", "songeval", "madb"]
    assert [[target["name"] for target in each["targets"]][:2] for each in listed] == [
        ["mi", "ta_without_prompt"], ["coherence", "musicality"], ["overall_score", "melody_perception"]
    ]  # fmt: skip
    assert [len(each["targets"]) for each in listed] == [2, 5, 11]
    assert [each["heard"] for each in listed] == ["the middle 10 s", "the whole song", "the whole song"]
    assert plain(bundles.to_dict())
    first, *lines = repr(bundles).splitlines()
    assert first == "published bundles; `audiomos-cache bundle` makes one of your own runs"
    assert [line for line in lines if not line.startswith("    ")] == [
        "  muq-eval-a1 (default of score): MI of text-to-music clips; its TA head hears the audio alone",
        "  songeval: five dimensions of whole songs",
        "  madb: eleven dimensions of music aesthetics",
    ]
    for each in listed:
        for key in ("licence", "paper", "address", "size", "in_domain", "out_of_domain"):
            assert each[key] in repr(bundles), key
    result = CliRunner().invoke(main, ["info"])
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "known bundles, encoders and heads")


@pytest.mark.parametrize("name", ["muq-eval-a1", "songeval", "madb"])
def test_what_info_says_of_a_published_bundle(name, monkeypatch, tmp_path):
    """It is what `info bundles` says of it, also where a folder has its name."""
    [listed] = [each for each in audiomos_cache.info("bundles").to_dict()["bundles"] if each["name"] == name]
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    found = audiomos_cache.info(name)
    assert found.to_dict() == listed and plain(listed)
    first, *lines = repr(found).splitlines()
    assert first.startswith(f"{name} (default of score): " if name == "muq-eval-a1" else f"{name}: ")
    assert [line.partition(":")[0].strip() for line in lines] == [
        "targets", "hears", "paper", "in domain", "out of domain"
    ]  # fmt: skip
    assert ("to be fetched by hand, then bundle --published" in repr(found)) is (name == "songeval")
    assert CliRunner().invoke(main, ["info", name]).stdout.splitlines() == repr(found).splitlines()
    with pytest.raises(AudiomosError, match=f"{name}: "):
        audiomos_cache.info(f"./{name}")
