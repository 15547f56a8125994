import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import audiomos_cache
from audiomos_cache.cli import main
from audiomos_cache.dataset.splitting import split
from tests.support.commands import fail, run

COMMANDS = Path(audiomos_cache.__file__).parent / "cli"
GOLDEN = Path(__file__).parents[1] / "golden" / "fusion"


def test_submit_refuses_the_wrong_clips_and_an_existing_zip(tmp_path):
    answer, requested = tmp_path / "answer.zip", GOLDEN / "eval_list.txt"
    rest = ("--list", requested, "--out", answer)
    assert run("submit", GOLDEN / "dist_a_eval.pt", *rest) == f"{answer}: answer.txt with 60 clips\n"
    expected = f"Error: {answer}: exists already; give another --out, or --overwrite"
    assert fail("submit", GOLDEN / "dist_a_eval.pt", *rest) == expected
    run("submit", GOLDEN / "dist_a_eval.pt", *rest, "--overwrite")
    line = fail("submit", GOLDEN / "dist_a_dev.pt", *rest, "--overwrite")
    start = f"{GOLDEN / 'dist_a_dev.pt'}: 160 clips, expected the 60 of {requested}: nothing for "
    assert line.startswith(f"Error: {start}audiomos2025-track1-")
    assert line.endswith(" ... (160 in all); predict the split that the list names")


def test_submit_writes_a_zip_and_nothing_else(tmp_path):
    arguments = ("submit", GOLDEN / "dist_a_eval.pt", "--list", GOLDEN / "eval_list.txt", "--out", tmp_path / "s.tar")
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 2 and result.stderr.endswith("s.tar: the suffix is '.tar', expected .zip\n")
    assert not list(tmp_path.iterdir())


def test_split_refuses_a_split_of_a_list(tmp_path):
    arguments = ["split", str(GOLDEN / "dev_mos_list.txt"), "--split", "dev", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "--split goes with a manifest; " in result.stderr
    assert not list(tmp_path.iterdir())


def test_split_prints_both_sides_and_where_they_are(tmp_path):
    printed = run("split", GOLDEN / "dev_mos_list.txt", "--out", tmp_path, "--fraction", "0.25")
    lines = [line.rstrip() for line in printed.splitlines()]
    assert lines[0] == "dev_mos_list.txt"
    assert lines[-2:] == [f"{tmp_path}/dev_mos_list-{side}.txt" for side in ("train", "dev")]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert [row[:2] for row in rows] == [["train", "120"], ["dev", "40"]]


def test_split_replaces_nothing_unasked(tmp_path):
    (tmp_path / "dev_mos_list-dev.txt").write_text("mine")
    arguments = ("split", GOLDEN / "dev_mos_list.txt", "--out", tmp_path)
    line = fail(*arguments)
    assert line == f"Error: {tmp_path}/dev_mos_list-dev.txt: exists already; give another --out, or --overwrite"
    assert [path.name for path in tmp_path.iterdir()] == ["dev_mos_list-dev.txt"]
    run(*arguments, "--overwrite")
    assert len((tmp_path / "dev_mos_list-dev.txt").read_text().splitlines()) == 16


def test_split_divides_as_the_function_does(tmp_path):
    (tmp_path / "list.txt").write_bytes((GOLDEN / "dev_mos_list.txt").read_bytes())
    sides = split(tmp_path / "list.txt").sides
    run("split", tmp_path / "list.txt", "--out", tmp_path / "out")
    for side in sides.values():
        assert (tmp_path / "out" / side.path.name).read_bytes() == side.path.read_bytes()


@pytest.mark.parametrize("fraction", ["0", "1", "nan"])
def test_split_refuses_a_share_that_is_none(fraction, tmp_path):
    arguments = ["split", str(GOLDEN / "dev_mos_list.txt"), "--out", str(tmp_path), "--fraction", fraction]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_split_has_an_example_and_loads_nothing_heavy():
    assert "  audiomos-cache split " in run("split", "--help")
    code = (
        f"import runpy, sys\nrunpy.run_path({str(COMMANDS / 'cmd_split.py')!r})\n"
        "print(sorted({'numpy', 'torch', 'scipy', 'sklearn', 'rich'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "[]\n"
