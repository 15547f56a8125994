"""What separates the fields of a CSV file, of which nothing in the rows may decide anything."""

import csv
from pathlib import Path

import pytest

from audiomos_cache.dataset.labels import read_labels
from audiomos_cache.dataset.loading import load_dataset
from audiomos_cache.dataset.manifests import is_manifest
from audiomos_cache.dataset.splitting import split
from audiomos_cache.dataset.tables import read_csv
from audiomos_cache.errors import DataError
from audiomos_cache.scoring.inputs import items_of_manifest

PROMPTS = ("slow, sad; piano", "a\ttab, twice; thrice;;", "sep=;", 'she said "ok", then; left', "two\nlines; here, too")
COLUMNS = ("path", "prompt", "mi", "ta")


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def table(path: Path, separator: str, before: str = "", line_end: str = "\n") -> Path:
    """A manifest of all PROMPTS as the csv module writes it, which quotes what it has to."""
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(before)
        writer = csv.writer(file, delimiter=separator, lineterminator=line_end)
        writer.writerow(COLUMNS)
        writer.writerows((f"{n}.wav", prompt, 1 + n / 4, 3) for n, prompt in enumerate(PROMPTS))
    return path


EACH = pytest.mark.parametrize("separator", [",", ";", "\t"])
BEFORE = pytest.mark.parametrize("before", ["", "\ufeff", "sep={}\n", "\ufeffSEP={}\r\n", '"sep={}"\n'])


@EACH
@BEFORE
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_every_reader_of_manifests_takes_every_separator(
    tmp_path: Path, separator: str, before: str, suffix: str
) -> None:
    path = table(tmp_path / f"m{suffix}", separator, before.format(separator), "\r\n")
    assert is_manifest(path)
    assert [clip.prompt for clip in load_dataset(path)["all"]] == list(PROMPTS)
    assert [item.prompt for item in items_of_manifest(path)] == list(PROMPTS)
    assert read_labels(path).mi.tolist() == [1, 1.25, 1.5, 1.75, 2]


@EACH
@pytest.mark.parametrize("before", ["", "sep={}\n"])
def test_a_divided_manifest_keeps_its_separator_and_its_lines(tmp_path: Path, separator: str, before: str) -> None:
    path = table(tmp_path / "m.csv", separator, before.format(separator))
    whole = path.read_text()
    sides = split(path, hold_out="prompts", fraction=0.4).sides
    header = whole[: whole.index("ta\n") + 3]
    texts = [side.path.read_text() for side in sides.values()]
    assert all(text.startswith(header) for text in texts)
    assert sum(len(text) - len(header) for text in texts) == len(whole) - len(header)
    prompts = [clip.prompt for side in sides.values() for clip in load_dataset(side.path)["all"]]
    assert sorted(filter(None, prompts)) == sorted(PROMPTS)


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("path;prompt,or none", ["path", "prompt,or none"]),
        ("path,prompt;with a semicolon", ["path", "prompt;with a semicolon"]),
        ("path\tprompt;a;b;c;d,e", ["path", "prompt;a;b;c;d,e"]),
        ("Path ; PROMPT;mi", ["path", "prompt", "mi"]),
        ("what;ever;else", ["what", "ever", "else"]),  # for the message
        ("\n\n path;prompt", ["path", "prompt"]),
        ("path", ["path"]),
        ("", []),
        ("sep=|\npath|prompt", ["path", "prompt"]),
        ("sep=;;;\npath;prompt;;", ["path", "prompt"]),
    ],
)
def test_the_header_alone_decides(tmp_path: Path, header: str, columns: list[str]) -> None:
    rows = "a;b;c;d;e,f\tg\n" * 50  # would win any count
    assert read_csv(write(tmp_path / "m.csv", f"{header}\n{rows}"), ("path", "prompt").__contains__).columns == (
        columns if header else ["a", "b", "c", "d", "e,f\tg"]
    )


def test_lines_are_counted_from_the_first(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", 'sep=;\npath;prompt\na.wav;x\nb.wav;x;y\nc.wav;"z\n')
    with pytest.raises(DataError, match=r"m\.csv:5: not CSV \(unexpected end of data\); check its quotes"):
        load_dataset(path)
    write(path, "sep=;\npath;prompt\na.wav;x\nb.wav;x;y\n")
    with pytest.raises(DataError, match=r"^m\.csv:4: found 3 fields, expected 2 as in the header; correct "):
        load_dataset(path)


@pytest.mark.parametrize("line", ["a.wav,3.5,2.0", "path.wav,3.5,2.0", "S001_P001.wav;3.5;2.0", "a.wav", '"a.wav,1,2'])
def test_a_list_is_no_manifest(tmp_path: Path, line: str) -> None:
    assert not is_manifest(write(tmp_path / "list.txt", f"{line}\n"))
