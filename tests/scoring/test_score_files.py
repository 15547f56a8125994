"""One call for many files, with a scorer that is made up: tables, what is left for a retry, two at once."""

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from audiomos_cache.errors import ArgumentError, BundleError, BusyError, DataError, OutputError, OutputExistsError
from audiomos_cache.published.catalogue import PUBLISHED
from audiomos_cache.scoring import score_files as module
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.results import Outcome, Score
from audiomos_cache.scoring.score_files import score_files
from tests.support.fake_scorer import DIGEST, FakeScorer, install_fake_scorer, load_fake_bundle
from tests.support.faults import full_disk


@pytest.fixture(autouse=True)
def music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user is: three clips in a folder, and a scorer."""
    install_fake_scorer(tmp_path, monkeypatch)
    return tmp_path


def score(*audio: str, out: str = "s.csv", **options: Any) -> Outcome:
    FakeScorer.scored = ()
    return score_files(audio, out=out, **({"bundle": "model"} | options))


def table(path: str = "s.csv") -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def ids() -> list[str]:
    return [row["id"] for row in table()]


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir() if path.is_file())


def score_interrupted(after: int, *audio: str) -> None:
    """Score until the power goes out, after so many clips."""
    whole = FakeScorer.score_items

    def interrupted(self: FakeScorer, items: Sequence[Item]) -> Iterator[Score]:
        yield from whole(self, items[:after])
        raise OSError("the power is out")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="the power is out"):
        patch.setattr(FakeScorer, "score_items", interrupted)
        score(*audio)


def test_a_notebook_makes_the_same_call(music: Path) -> None:
    shown: list[tuple[object, ...]] = []
    lines: list[bytes] = []
    scorer: Any = FakeScorer(["model"])
    started: list[tuple[list[str], object]] = []
    outcome = score_files(
        [music / "m", "gone.wav"],
        bundle=scorer,
        out=lines.append,
        progress=lambda *a: shown.append(a),
        on_start=lambda items, with_scorer: started.append(([item.id for item in items], with_scorer)),
    )
    assert started == [(["a", "bb.mp3", "sub/ccc", "gone"], scorer)]
    assert [json.loads(line)["id"] for line in lines] == ["a", "bb.mp3", "sub/ccc", "gone"]
    assert shown == [("score", done, 4, "1 failed" if done == 4 else "") for done in (1, 2, 3, 4)]
    assert repr(outcome) == str(outcome) == "3 of 4 clips scored, 1 failed; mean MI 1.467"
    assert outcome.to_dict() == {
        "total": 4, "scored": 3, "warned": 0, "failed": {"gone": "gone.wav: no such file, expected audio"},
        "mi": pytest.approx(1.4666667), "ta": None, "scores": {"mi": pytest.approx(1.4666667)},
    }  # fmt: skip
    score_files(["m/a.wav"], bundle=scorer, out="s.jsonl", prompt="x")
    assert [json.loads(line)["prompt"] for line in Path("s.jsonl").read_text().splitlines()] == ["x"]
    with pytest.raises(ArgumentError, match="nothing to score"):
        score_files(bundle=scorer, out="s.jsonl")


# A table


def test_a_table_holds_what_the_lines_hold() -> None:
    for out in ("s.jsonl", "s.csv", "s.parquet"):
        score("m", "gone.wav", prompt="a, b", out=out)
    lines = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    typed = parquet.read_table("s.parquet").to_pylist()
    for line, row, typed_row in zip(lines, table(), typed, strict=True):
        assert list(row) == list(typed_row)
        flat = {"mi_spread": None, "ta_spread": None} | line | line.pop("scores") | line.pop("columns")
        flat |= {f"{target}_{end}": None for target in ("mi", "ta") for end in ("low", "high")}
        flat["heard_from_s"], flat["heard_to_s"] = line["heard"] or (None, None)
        flat |= {"bundle": "model", "digest": DIGEST, "rule": "mean of 30 s", "licence": "mit"}
        assert typed_row == {name: flat[name] for name in row}
        flat["warnings"] = "; ".join(flat["warnings"])
        assert row == {name: "" if flat[name] is None else str(flat[name]) for name in row}


@pytest.mark.parametrize("out", ["s.jsonl", "s.csv", "s.parquet"])
def test_the_columns_of_a_manifest_come_through(out: str) -> None:
    Path("m.csv").write_text("path,prompt,system,mi\nm/a.wav,x,007,\nm/gone.wav,y,S2,4.5\n")
    score(out=out, manifest="m.csv")
    if out == "s.jsonl":
        rows = [json.loads(line)["columns"] for line in Path(out).read_text().splitlines()]
        assert rows == [{"system": "007", "mi": ""}, {"system": "S2", "mi": "4.5"}]
    else:
        rows = table() if out == "s.csv" else parquet.read_table(out).to_pylist()
        assert [(row["id"], row["system"], row["columns.mi"]) for row in rows] == [
            ("a", "007", ""),
            ("gone", "S2", "4.5"),
        ]


@pytest.mark.parametrize("out", ["s.jsonl", "s.csv", "s.parquet"])
def test_clips_that_are_done_take_the_columns_that_the_manifest_has_now(
    out: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    Path("m.jsonl").write_text('{"path": "m/a.wav", "prompt": "x", "n": 1}\n{"path": "late.wav", "prompt": "x"}\n')
    score(out=out, manifest="m.jsonl")
    Path("late.wav").touch()
    Path("m.jsonl").write_text('{"path": "m/a.wav", "prompt": "x", "n": 2}\n{"path": "late.wav", "prompt": "x"}\n')
    score(out=out, manifest="m.jsonl")
    assert FakeScorer.scored == ("late",)
    assert sum("1 line had other columns of the manifest, and now " in message for message in caplog.messages) == 1
    if out == "s.jsonl":
        rows = [json.loads(line) for line in Path(out).read_text().splitlines()]
        assert [(row["id"], row["columns"]) for row in rows] == [("a", {"n": 2}), ("late", {})]
    else:
        found = [row["n"] or None for row in (table() if out == "s.csv" else parquet.read_table(out).to_pylist())]
        assert found == (["2", None] if out == "s.csv" else [2, None])


@pytest.mark.parametrize("content", [b"PAR1", b"path,prompt\n", "other"])
def test_a_parquet_file_of_another_kind_is_never_replaced(content: bytes | str) -> None:
    if isinstance(content, str):
        parquet.write_table(pa.table({"id": ["a"], "mi": [1.0]}), "s.parquet")
    else:
        Path("s.parquet").write_bytes(content)
    before, FakeScorer.asked = Path("s.parquet").read_bytes(), None
    for options in ({}, {"overwrite": True}):
        with pytest.raises(
            OutputExistsError, match=r"begins with '[Pp][Aa].*', expected a table of scores; give another"
        ):
            score("m", out="s.parquet", **options)
    assert (Path("s.parquet").read_bytes(), FakeScorer.asked) == (before, None)


def test_a_table_is_replaced_only_if_asked_for(music: Path) -> None:
    score("m/a.wav")
    before = Path("s.csv").read_bytes()
    FakeScorer.asked = None
    with pytest.raises(OutputExistsError, match=rf"^{music}/s\.csv: exists already; give another --out, --over"):
        score("m")
    assert (Path("s.csv").read_bytes(), FakeScorer.asked) == (before, None)
    score("m", overwrite=True)
    assert ids() == ["a", "bb.mp3", "sub/ccc"]
    assert files() == ["s.csv"]


def test_an_interrupted_table_is_gone_on_with(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    score_interrupted(2, "m")
    assert files() == [".s.csv.jsonl"]
    score("m")
    assert (FakeScorer.scored, caplog.messages[-1]) == (("sub/ccc",), "2 of 3 done before")
    assert ids() == ["a", "bb.mp3", "sub/ccc"]
    assert files() == ["s.csv"]


def test_a_table_has_the_clips_that_were_asked_for_in_their_order(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    score_interrupted(1, "m/a.wav", "m/bb.mp3")
    score("m/sub/ccc.wav", "m/bb.mp3")
    assert ids() == ["ccc", "bb.mp3"]
    assert caplog.messages[-1].endswith("/.s.csv.jsonl: keeps the scores of 1 other clip for a later run")
    assert files() == [".s.csv.jsonl", "s.csv"], "with the clip that was finished, and not asked for"
    score("m/a.wav", "m/bb.mp3", "m/sub/ccc.wav")
    assert (FakeScorer.scored, ids()) == ((), ["a", "bb.mp3", "ccc"])
    assert files() == ["s.csv"]


def test_no_finished_score_is_lost_to_a_table_of_one_clip() -> None:
    score_interrupted(2, "m")
    score("m/a.wav")
    score("m")
    assert (FakeScorer.scored, ids()) == (("sub/ccc",), ["a", "bb.mp3", "sub/ccc"])


def test_a_retry_tries_only_what_failed_and_keeps_the_order() -> None:
    score("gone.wav", "m/a.wav")
    assert (ids(), files()) == (["gone", "a"], [".s.csv.jsonl", "s.csv"])
    Path("gone.wav").touch()
    outcome = score("gone.wav", "m/a.wav")
    assert (FakeScorer.scored, len(outcome.failed)) == (("gone",), 0)
    assert [(row["id"], row["error"]) for row in table()] == [("gone", ""), ("a", "")]
    assert files() == ["gone.wav", "s.csv"], "without the lines"
    with pytest.raises(OutputExistsError):
        score("gone.wav", "m/a.wav")


def test_an_interrupted_retry_is_gone_on_with() -> None:
    score("gone.wav", "m/a.wav")
    score_interrupted(0, "gone.wav", "m/a.wav")
    Path("gone.wav").touch()
    score("gone.wav", "m/a.wav")
    assert (FakeScorer.scored, ids()) == (("gone",), ["gone", "a"])


def test_a_table_with_failed_clips_is_not_lost_to_other_clips() -> None:
    score("gone.wav", "m/a.wav")
    before = Path("s.csv").read_bytes()
    with pytest.raises(OutputExistsError, match="exists already"):
        score("m/bb.mp3", "m/a.wav")
    assert (Path("s.csv").read_bytes(), files()) == (before, [".s.csv.jsonl", "s.csv"])


@pytest.mark.parametrize("step", ["read_lines", "atomic_write"])
def test_a_table_is_made_while_no_other_process_can_write(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    made, refused = getattr(module, step), []

    def at_the_same_time(*arguments: Any) -> object:
        with pytest.raises(BusyError, match="is being written by process"):
            score("m/bb.mp3", overwrite=True)
        refused.append(step)
        return made(*arguments)

    monkeypatch.setattr(module, step, at_the_same_time)
    score("m/a.wav")
    assert (ids(), refused, files()) == (["a"], [step], ["s.csv"])


# Several bundles


def test_several_bundles_score_in_one_call_and_what_one_could_not_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    both = ["somewhere/model", "deaf"]
    outcome = score("m", prompt="x", out="s.jsonl", bundle=both)
    assert caplog.messages == ["loading the bundle somewhere/model ...", "loading the bundle deaf ..."]
    assert FakeScorer.asked == {"bundle": both}
    assert str(outcome) == (
        "3 of 3 clips scored, 1 failed; mean model.mi 1.467, model.ta 2.000, deaf.mi 1.650 (of 2), deaf.ta 2.000 (of 2)"
    )
    lines = Path("s.jsonl").read_bytes().splitlines(keepends=True)
    found = [json.loads(line) for line in lines]
    assert [(row["id"], row["error"], list(row["bundles"])) for row in found] == [
        ("a", "deaf: it hears nothing", ["model", "deaf"]),
        ("bb.mp3", None, ["model", "deaf"]),
        ("sub/ccc", None, ["model", "deaf"]),
    ]
    assert found[0]["bundles"]["model"]["mi"] == 1.1
    assert [found[0]["bundles"]["deaf"][key] for key in ("mi", "error", "heard")] == [None, "it hears nothing", None]
    FakeScorer.asked = None
    score("m", prompt="x", out="s.jsonl", bundle=both)
    assert FakeScorer.scored == ("a",)
    assert Path("s.jsonl").read_bytes() == b"".join([*lines[1:], lines[0]])
    assert score("m/bb.mp3", prompt="x", out="s.jsonl", bundle=both).to_dict()["scored"] == 1
    assert FakeScorer.scored == ()
    with pytest.raises(DataError, match=r":1: 'bb\.mp3' was scored of several bundles, expected 1 bundle; give"):
        score("m", prompt="x", out="s.jsonl")


@pytest.mark.parametrize("out", ["s.csv", "s.parquet"])
def test_a_table_of_several_bundles_is_run_again_for_what_failed(out: str) -> None:
    both = ["model", "deaf"]
    for _ in range(2):
        score("m/bb.mp3", "m/a.wav", out=out, bundle=both)
        rows = table() if out == "s.csv" else parquet.read_table(out).to_pylist()
        found = [[row[name] for name in ("id", "model.mi", "deaf.mi", "error", "deaf.error")] for row in rows]
        nothing, values = ("", ("1.6", "1.1")) if out == "s.csv" else (None, (1.6, 1.1))
        assert found == [
            ["bb.mp3", values[0], values[0], nothing, nothing],
            ["a", values[1], nothing, "deaf: it hears nothing", "it hears nothing"],
        ]
    assert (FakeScorer.scored, files()) == (("a",), [f".{out}.jsonl", out])


def test_two_bundles_of_one_name_are_refused_before_a_line_is_read() -> None:
    score("m", out="s.jsonl", bundle=["model", "other"])
    with pytest.raises(BundleError) as caught:
        score("m", out="s.jsonl", bundle=["model", "somewhere/model"])
    assert str(caught.value) == (
        "2 bundles, and more than one is called 'model', which their scores are named by; rename a folder, or give "
        "each bundle once"
    )


def test_without_a_bundle_the_published_default_is_named_with_its_terms(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    score_files(["m/a.wav"], out="s.jsonl")
    assert FakeScorer.asked == {"bundle": ["muq-eval-a1"]}
    assert caplog.messages == ["muq-eval-a1 (default): head MIT, encoder MuQ CC-BY-NC-4.0: non-commercial use only"]


def test_the_default_that_is_named_is_no_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for bundle in ("muq-eval-a1", ["muq-eval-a1"], Path("muq-eval-a1")):
        score("m/a.wav", bundle=bundle, overwrite=True)
        assert FakeScorer.asked == {"bundle": ["muq-eval-a1"]}
    assert caplog.messages == ["muq-eval-a1: head MIT, encoder MuQ CC-BY-NC-4.0: non-commercial use only"] * 3


def test_the_name_of_a_published_bundle_is_that_and_with_its_path_a_folder(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    Path("songeval").mkdir()
    score("m/a.wav", bundle=["songeval", "madb@v2"])
    assert caplog.messages == [
        "songeval: head CC-BY-NC-SA-4.0, encoder MuQ CC-BY-NC-4.0: non-commercial use only",
        "madb: head CC-BY-NC-4.0, encoder MuQ CC-BY-NC-4.0: non-commercial use only",
    ]
    caplog.clear()
    score("m/a.wav", bundle="./songeval", overwrite=True)
    assert caplog.messages == ["loading the bundle ./songeval ..."]


def test_loaded_bundles_are_taken_and_lists_of_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    one, other = load_fake_bundle("one"), load_fake_bundle("other")
    FakeScorer.loaded = ()
    score("m/a.wav", out="one.jsonl", bundle=one)
    assert (FakeScorer.asked, caplog.messages) == ({"bundle": ["one"]}, [])
    score("m/a.wav", out="both.jsonl", bundle=(one, other))
    assert FakeScorer.asked == {"bundle": ["one", "other"]}
    score("m", out="both.jsonl", bundle=[one, other], windows="released")
    assert FakeScorer.asked == {"bundle": ["one", "other"], "windows": "released"}
    assert (FakeScorer.scored, FakeScorer.loaded) == (("bb.mp3", "sub/ccc"), ())
    score("m/a.wav", out="mixed.jsonl", bundle=["somewhere/model", other])
    assert FakeScorer.asked == {"bundle": ["somewhere/model", "other"]}
    assert caplog.messages == ["1 of 3 done before", "loading the bundle somewhere/model ..."]


@pytest.mark.parametrize("bundle", ["model", ["somewhere/model", "other"]])
def test_bundles_of_a_resumed_file_are_loaded_once(bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the scorer is given those that the lines were compared with."""
    given: list[Any] = []
    make = FakeScorer.__init__

    def keep(self: FakeScorer, bundle: Sequence[Any], **options: object) -> None:
        given.append(bundle)
        make(self, bundle, **options)

    monkeypatch.setattr(FakeScorer, "__init__", keep)
    names = [bundle] if isinstance(bundle, str) else bundle
    score("m/a.wav", out="s.jsonl", bundle=bundle)
    assert (given, FakeScorer.loaded) == ([names], ()), "nothing to compare with"
    score("m", out="s.jsonl", bundle=bundle)
    assert FakeScorer.scored == ("bb.mp3", "sub/ccc") and FakeScorer.loaded == tuple(names)
    assert [each.label for each in given[1]] == [Path(name).name for name in names]
    score("m", out="s.jsonl", bundle=bundle)
    assert len(given) == 2 and FakeScorer.loaded == tuple(names) * 2, "all was done"


@pytest.mark.parametrize("name", ["model", "muq-eval-a1"])
def test_the_licence_of_a_folder_is_said_once_it_is_known(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That of a published name was said before anything was loaded."""
    terms = PUBLISHED["muq-eval-a1"].terms
    make = FakeScorer.__init__

    def licensed(self: FakeScorer, bundle: Sequence[Any], **options: object) -> None:
        make(self, bundle, **options)
        for entry in self.entries.values():
            entry["licence"] = terms

    monkeypatch.setattr(FakeScorer, "__init__", licensed)
    caplog.set_level("INFO")
    score("m/a.wav", bundle=name)
    before = ["loading the bundle model ..."] if name == "model" else []
    assert caplog.messages == [*before, f"{name}: {terms}"]


class Dimensions(FakeScorer):
    """Scores that are no MI, of one of two bundles or of all."""

    def score_items(self, items: Sequence[Item]) -> Iterator[Score]:
        for made in super().score_items(items):
            named = {"mi": 3.0, "ta_without_prompt": 2.0} if "muq" in self.entries else {"clarity": 4.0, "memory": 1.0}
            yield Score(made.id, made.path, None, 3.0 if "mi" in named else None, scores=named)


def test_the_last_line_names_mi_and_ta_where_there_are_any() -> None:
    bundles: dict[str, Any] = {name: Dimensions([name]) for name in ("muq", "songeval")}
    said = {name: str(score("m", out=f"{name}.jsonl", bundle=scorer)) for name, scorer in bundles.items()}
    assert said == {
        "muq": "3 of 3 clips scored, 0 failed; mean MI 3.000",
        "songeval": "3 of 3 clips scored, 0 failed; mean clarity 4.000, memory 1.000",
    }
    of_both = Outcome(1)
    rows = {name: json.loads(Path(f"{name}.jsonl").read_text().splitlines()[0]) for name in said}
    of_both.add({"id": "a", "warnings": [], "error": None, "bundles": rows})
    assert str(of_both) == "1 of 1 clips scored, 0 failed; mean muq.mi 3.000"
    assert [*of_both.to_dict()["scores"]] == ["muq.mi", "muq.ta_without_prompt", "songeval.clarity", "songeval.memory"]


def test_a_folder_that_is_not_there_is_one() -> None:
    with pytest.raises(DataError, match=r"^musc/: folder not found, expected one of audio files$"):
        score_files(["m/a.wav", "musc/"], bundle="model", out="s.jsonl")
    assert score_files("m/", bundle="model", out="s.jsonl").scored == 3


@pytest.mark.parametrize("bundle", [5, b"model", [None], {"a": 1}])
def test_what_is_no_bundle_is_refused(bundle: Any) -> None:
    with pytest.raises(ArgumentError, match="expected a folder, a hub id"):
        score_files("m/a.wav", bundle=bundle, out="s.jsonl")
    assert not Path("s.jsonl").exists()


def test_a_name_of_blanks_shows(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        score_files("m/a.wav", bundle=[" ", "a\nb"], out=lambda _line: None)
    assert caplog.messages[:2] == ["loading the bundle ' ' ...", r"loading the bundle 'a\nb' ..."]


def test_a_full_disk_names_what_it_was_to_hold() -> None:
    for out in ("s.jsonl", "s.csv", "s.parquet"):
        with full_disk(0), pytest.raises(OutputError, match=rf"{out}.*: cannot be written: File too large; make room"):
            score_files("m/a.wav", bundle="model", out=out)
