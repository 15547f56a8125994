"""Names of the user's in tables and progress, and what the help of train-head lists."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
import rich.console
from click.testing import CliRunner
from rich.cells import cell_len
from rich.console import Console

from audiomos_cache.cache import maintenance
from audiomos_cache.cli import main
from audiomos_cache.cli.options import SHOWN_FIRST
from audiomos_cache.cli.progress_bar import progress
from audiomos_cache.cli.rendering import cut_in_the_middle, runs_table, scores_table, systems_table
from audiomos_cache.evaluation.metrics import Agreement, Scores
from audiomos_cache.evaluation.summaries import SystemLine, SystemRank
from audiomos_cache.heads.config import settable_keys
from audiomos_cache.heads.presets import plan_names, preset_names
from audiomos_cache.training.finished_run import HeadResult

NAN = float("nan")
SCORES = Scores(
    utt_mi=Agreement(0.1, 0.2, 0.33336, 0.4),
    utt_ta=Agreement(0.1, 0.2, -0.5, 0.4),
    sys_mi=Agreement(0.1, 0.2, NAN, 0.4),
    sys_ta=Agreement(0.1, 0.2, 1.0, 0.4),
    n_clips=3,
    n_systems=2,
)
MARKUP = ["a[b]c", "x[/b]", "[bold red]y", "[link=z]"]


def printed(table, width=120):
    file = io.StringIO()
    Console(file=file, width=width).print(table)
    return file.getvalue()


def cells(text):
    """The cells of a table's rows, without its head."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


def runs(text):
    """The cells of a table of runs, without its title and head; it has no vertical lines."""
    lines = text.splitlines()
    rule = next(index for index, line in enumerate(lines) if line.startswith("─"))
    return [line.split() for line in lines[rule + 1 :]]


def test_runs_have_four_decimals_of_the_loss_checkpoint():
    result = HeadResult(Path("runs/my-head-seed1"), 7, {"loss": SCORES}, seconds=12.345)
    assert runs(printed(runs_table([result]))) == [["my-head-seed1", "7", "0.3334", "-0.5000", "n/a", "1.0000", "12.3"]]


def test_a_long_name_is_cut_in_the_middle_and_never_broken():
    name = "decoupled-lstm-dist-of-another-study-seed1984"
    found = printed(runs_table([HeadResult(Path(name), 1, {"loss": SCORES}, seconds=1.0)]), width=80)
    assert [row[0] for row in runs(found)] == ["decoupled-lstm…-study-seed1984"]
    found = printed(scores_table(SCORES, title=f"{name * 2}.jsonl"), width=80)
    assert found.splitlines()[0] == "decoupled-lstm-dist-of-another-study-se…stm-dist-of-another-study-seed1984.jsonl"
    line = SystemLine(name, 1, *[SystemRank(3.0, 3.1, 0.1, 1.0, 1.0, 0.0)] * 2)
    assert cells(printed(systems_table([line], "t"), width=80))[0][:4] == ["decou…d1984", "1", "MI", "3.100"]


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("abcdefghij", 10, "abcdefghij"),
        ("abcdefghij", 9, "abcd…ghij"),
        ("abcdefghij", 6, "ab…hij"),
        ("abcdefghij", 1, "…"),
        ("abcdefghij", 0, ""),
        ("夜曲abc夜曲", 11, "夜曲abc夜曲"),
        ("夜曲abc夜曲", 10, "夜曲…c夜曲"),
        ("夜曲abc夜曲", 8, "夜…夜曲"),
        ("夜曲夜曲", 2, "…"),
        ("abcde\u0301fgh", 8, "abcde\u0301fgh"),
        ("abcde\u0301fgh", 7, "abc…fgh"),
        ("e\u0301abcdef", 5, "e\u0301a…ef"),
    ],
)
def test_a_name_is_cut_by_the_cells_of_its_letters(name, width, expected):
    assert cut_in_the_middle(name, width) == expected
    assert cell_len(expected) <= width


@pytest.mark.parametrize("preset", preset_names())
def test_the_name_of_a_preset_s_run_stays_on_one_line(preset):
    name = f"{preset}-seed1984"
    rows = runs(printed(runs_table([HeadResult(Path(name), 100, {"loss": SCORES}, seconds=1234.5)]), width=80))
    assert [row[0] for row in rows] == [name]


def test_scores_and_runs_are_written_alike():
    rows = cells(printed(scores_table(SCORES, "title")))
    [run] = runs(printed(runs_table([HeadResult(Path("r"), 1, {"loss": SCORES})])))
    assert [row[3] for row in rows] == run[2:], "and no seconds of what was finished before"


def test_a_name_says_nothing_to_the_terminal():
    found = printed(scores_table(SCORES, title="a\x1b[2J\u202eb\n.jsonl"))
    assert found.splitlines()[0] == r"a\x1b[2J\u202eb\n.jsonl"


@pytest.mark.parametrize("name", MARKUP)
def test_a_name_with_brackets_is_shown_as_it_is(name):
    run = name.replace("/", "")  # a folder's
    table = printed(runs_table([HeadResult(Path("runs") / run, 1, {"loss": SCORES})]))
    assert f"\n{run}  " in table
    assert name in printed(scores_table(SCORES, title=name))


@pytest.mark.parametrize("name", MARKUP)
def test_info_shows_names_with_brackets_as_they_are(name, monkeypatch, tmp_path):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    split = {"complete": False, "clips": 1, "of": 2, "systems": 1, "prompts": 1, "hours": 0.1, "labelled": 1,
             "skipped": [["c[b]", "x[/b]"]], "files": ["f"], "bytes": 1}  # fmt: skip
    description = {"fingerprint": "f00", "encoders": {"audio_encoder": {"source": name}}, "layers": [6, 12],
                   "splits": {name: split}}  # fmt: skip
    monkeypatch.setattr(maintenance, "describe_cache", lambda _cache: description)
    result = CliRunner().invoke(main, ["info", str(folder)], catch_exceptions=False)
    lines = result.stdout.splitlines()
    assert lines[0] == f"{folder}: a cache, fingerprint f00"
    assert lines[1].startswith(f"  {name}: 1 clip of")
    assert lines[-3:] == [
        f"  {name}: not finished, 1 of 2 clips are done",
        f"  audio_encoder (layers 6, 12): source {name}",
        f"  skipped in {name}: c[b]: x[/b]",
    ]


@pytest.mark.parametrize("name", MARKUP)
def test_progress_on_a_terminal_shows_names_and_notes_with_brackets_as_they_are(name, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(rich.console, "Console", lambda **_: Console(file=shown, width=120, force_terminal=True))
    with progress("clips") as update:
        update(name, 1, 2, f"{name} note")
    assert f"clips {name} note" in shown.getvalue()
    assert shown.getvalue().count(name) >= 2


@pytest.mark.parametrize("seed", ["99999999999999999999", str(2**63), "-1"])
def test_a_seed_out_of_range_is_wrong_usage(seed):
    result = CliRunner().invoke(main, ["train-head", "--seed", seed])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{seed} is not a seed, expected 0 to {2**63 - 1}" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", [None, *main.commands])
def test_every_help_fits_80_columns_and_shows_an_example_and_ten_options_first(name):
    arguments = ["--help"] if name is None else [name, "--help"]
    shown = CliRunner().invoke(main, arguments, catch_exceptions=False, terminal_width=80).stdout
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    assert "  audiomos-cache " in shown
    assert str(2**63 - 1) not in shown
    first = shown.split("Options:")[1].split("Advanced:")[0]
    options = [line for line in first.splitlines() if line.startswith("  -")]
    assert 1 <= len(options) - (shown.count("Advanced:") == 0) <= SHOWN_FIRST


def test_help_of_train_head_lists_presets_and_keys():
    result = CliRunner().invoke(main, ["train-head", "--help"], catch_exceptions=False)
    presets, rest = result.stdout.split("Presets for --head:")[1].split("Plans for --plan:")
    plans, keys = rest.split("Keys for --set")
    assert plans.split() == plan_names() == ["ensemble8"]
    assert presets.replace(",", " ").split() == preset_names()
    lines = [line.split() for line in keys.splitlines()[1:]]
    first_words = [words[0] for words in lines if words]
    known = [each.key for each in settable_keys()]
    assert [word for word in first_words if word in known] == known
    assert ["temporal.layers", "int", "[default:", "1]", "of", "transformer,", "bilstm"] in lines
    assert ["pooling", "attentive|mean|mean_std", "[default:", "attentive]"] in lines
    assert "mixes cached frames, not waveforms; 0: none training.clip_norm " in " ".join(keys.split())


@pytest.mark.process
def test_help_of_train_head_imports_nothing_heavy():
    code = (
        "import sys; from audiomos_cache.cli import main; main(['train-head', '--help'], standalone_mode=False);"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'h5py', 'transformers', 'numpy', 'rich'}))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer.splitlines()[-1] == "[]"
