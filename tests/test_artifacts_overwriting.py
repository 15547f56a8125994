"""Nothing is replaced unless the user says so, and nothing that is not of the same kind ever: `refuse_occupied`."""

from pathlib import Path

import pytest

from audiomos_cache.artifacts import differences, refuse_occupied, require_format_version
from audiomos_cache.errors import DataError, OutputExistsError


def refusal(out: Path | list[Path], *, overwrite: bool, **options: object) -> str:
    with pytest.raises(OutputExistsError) as caught:
        refuse_occupied(out, what="fusion", overwrite=overwrite, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_file_is_replaced_only_when_asked_to(tmp_path: Path) -> None:
    out, other = tmp_path / "a.zip", tmp_path / "b.zip"
    refuse_occupied([out, other], what="zip", overwrite=False)
    out.write_text("mine")
    assert refusal([out, other], overwrite=False) == f"{out}: exists already; give another --out, or --overwrite"
    other.write_text("mine")
    assert refusal([out, other], overwrite=False).startswith(f"{out}, {other}: exist already; ")
    refuse_occupied([out, other], what="zip", overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_is_not_a_file_nor_a_file_a_folder(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "file").write_text("mine")
    assert refusal(tmp_path, overwrite=overwrite) == (
        f"{tmp_path}: is a folder, expected a file to write; give another --out"
    )
    assert refusal(tmp_path / "file", overwrite=overwrite, own=["*"], advice="choose another name") == (
        f"{tmp_path / 'file'}: is a file, expected a folder to make; choose another name"
    )


OWN = ("fusion.json", "fused.*.jsonl", "heads/*.pt")


@pytest.mark.parametrize("own", [OWN, lambda name: name in ("fusion.json", "fused.dev.jsonl", "heads/a.pt")])
def test_a_folder_of_the_same_kind_is_replaced_only_when_asked_to(tmp_path: Path, own: object) -> None:
    refuse_occupied(tmp_path / "none", what="fusion", own=OWN, overwrite=False)
    refuse_occupied(tmp_path, what="fusion", own=OWN, marker="fusion.json", overwrite=False)  # it is empty
    (tmp_path / "heads").mkdir()
    for name in ("fusion.json", "fused.dev.jsonl", "heads/a.pt"):
        (tmp_path / name).write_text("")
    assert (
        refusal(tmp_path, overwrite=False, own=own) == f"{tmp_path}: exists already; give another --out, or --overwrite"
    )
    refuse_occupied(tmp_path, what="fusion", own=own, overwrite=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name", ["thesis.tex", "deep/fusion.json", "fused.x/y.jsonl", "heads/b/c.pt", "empty/", "link"]
)
def test_what_is_of_another_kind_is_never_replaced(tmp_path: Path, name: str, overwrite: bool) -> None:
    (tmp_path / "fusion.json").write_text("")
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name == "link":
        path.symlink_to("/nowhere")
    elif name == "empty/":
        path.mkdir()
    else:
        path.write_text("mine")
    assert refusal(tmp_path, overwrite=overwrite, own=OWN) == (
        f"{tmp_path}: holds {name}, which is not part of a fusion and would be lost; give another --out"
    )


def test_a_folder_without_its_marker_is_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    found = refusal(tmp_path, overwrite=True, marker="config.yaml")
    assert found.startswith(f"{tmp_path}: holds README.md, which is not part of a fusion")
    (tmp_path / "config.yaml").write_text("")
    refuse_occupied(tmp_path, what="run", marker="config.yaml", overwrite=True)


def test_differences_are_named_by_their_keys() -> None:
    found = {"head": {"dropout": 0.3, "kind": "a"}, "seed": 1, "old": None}
    requested = {"head": {"dropout": 0.1, "kind": "a"}, "seed": {"x": 1}}
    assert differences(found, requested) == [
        "head.dropout is 0.3, requested 0.1",
        "old is None, requested '(absent)'",
        "seed is 1, requested {'x': 1}",
    ]
    assert differences(found, found) == []
    assert differences({"a": 1}, {"a": 2}, "expected") == ["a is 1, expected 2"]


@pytest.mark.parametrize(
    ("found", "remedy"),
    [(3, "update audiomos-cache"), (1, "fuse again"), (True, "fuse again"), ("2", "fuse again"), (None, "fuse again")],
)
def test_another_version_of_a_format(found: object, remedy: str) -> None:
    with pytest.raises(DataError) as caught:
        require_format_version("fusion.json", found, 2, again="fuse again", error=DataError)
    assert str(caught.value) == f"fusion.json: format version is {found!r}, expected 2; {remedy}"
    require_format_version("fusion.json", 2, 2, again="fuse again", error=DataError)
