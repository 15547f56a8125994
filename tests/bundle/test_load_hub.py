"""A bundle from the Hugging Face hub: what is asked for, how its cache lays it out, and without a network."""

import shutil

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects

from audiomos_cache.bundle.load import load_bundle
from audiomos_cache.errors import BundleError
from audiomos_cache.published.catalogue import PUBLISHED, find, find_revision
from tests.support.hub import COMMIT, fill_cache


def test_what_was_fetched_before_is_loaded_without_a_network(ridge_bundle, offline):
    fill_cache(ridge_bundle, offline)
    found, expected = load_bundle("someone/model"), load_bundle(str(ridge_bundle))
    assert found.digest == expected.digest
    assert found.name == "someone/model"
    assert load_bundle(f"someone/model@{COMMIT}").digest == expected.digest


def test_without_a_network_the_message_says_what_to_do(offline):
    with pytest.raises(BundleError) as caught:
        load_bundle("someone/model")
    [line] = str(caught.value).splitlines()
    assert line.startswith(
        "--bundle someone/model: folder not found, and cannot be fetched from the Hugging Face hub "
        "(LocalEntryNotFoundError: "
    )
    assert line.endswith(
        "On a machine with a network run `hf download someone/model --local-dir FOLDER`, copy the folder here, and "
        "give --bundle its path"
    )
    assert not offline.exists()


def test_of_a_part_of_a_bundle_what_is_missing_is_named(ridge_bundle, offline):
    snapshot = fill_cache(ridge_bundle, offline)
    heads = sorted((snapshot / "heads").iterdir())
    heads[0].unlink()
    with pytest.raises(BundleError, match=rf"^{snapshot}: missing heads/{heads[0].name}, which bundle.yaml lists; "):
        load_bundle("someone/model")
    (snapshot / "bundle.yaml").unlink()
    with pytest.raises(BundleError, match=r"someone/model: .* cannot be fetched|no bundle\.yaml in it"):
        load_bundle("someone/model")


def test_only_a_bundles_files_are_fetched(ridge_bundle, monkeypatch, tmp_path):
    asked = []

    def snapshot_download(repo_id, *, revision=None, repo_type=None, allow_patterns=None):
        assert repo_type is None
        asked.append((repo_id, revision))
        there = [str(path.relative_to(ridge_bundle)) for path in ridge_bundle.rglob("*") if path.is_file()]
        others = ["model.pt", "heads/x.pkl", "data.csv", "code.py", ".gitattributes"]
        fetched = set(filter_repo_objects([*there, *others], allow_patterns=allow_patterns))
        assert fetched == set(there) - {"README.md"}
        for name in fetched:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ridge_bundle / name, tmp_path / name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert load_bundle("someone/model@v1").digest == load_bundle(str(ridge_bundle)).digest
    assert asked == [("someone/model", "v1")]


def test_a_long_reason_is_cut_at_a_word(monkeypatch):
    def snapshot_download(*_, **__):
        raise OSError("no way " * 100)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(BundleError) as caught:
        load_bundle("someone/model")
    reason = str(caught.value).split("(OSError: ")[1].split(")")[0]
    assert reason.endswith(("no...", "way..."))
    assert 190 < len(reason) <= 200


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("/no\nwhere", r"'/no\nwhere'"),
        ("./\x1b[31m", r"'./\x1b[31m'"),
        (f"./{'x' * 5000}", f"./{'x' * 145}...{'x' * 50}"),
    ],
    ids=["a new line", "a control", "too long a name"],
)
def test_a_name_that_cannot_be_printed_is_escaped(source, shown):
    with pytest.raises(BundleError) as caught:
        load_bundle(source)
    assert str(caught.value) == f"--bundle {shown}: folder not found, and not a hub id of the form owner/name"


def test_what_the_hub_says_is_escaped(monkeypatch):
    def snapshot_download(*_, **__):
        raise OSError("\x1b[31m")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(BundleError) as caught:
        load_bundle("someone/mo\x1bdel")
    assert str(caught.value).isprintable()
    assert r"--bundle 'someone/mo\x1bdel'" in str(caught.value)


@pytest.mark.parametrize("source", ["./nowhere", "/no/where", "~/model", "one/two/three"])
def test_a_folder_that_is_not_there(source):
    with pytest.raises(BundleError) as caught:
        load_bundle(source)
    assert str(caught.value) == f"--bundle {source}: folder not found, and not a hub id of the form owner/name"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("nowhere", "'nowhere' is not one of muq-eval-a1, songeval, madb"),
        ("nowhere@v1", "'nowhere' is not one of muq-eval-a1, songeval, madb"),
        ("songevl", "'songevl' is not one of songeval, muq-eval-a1, madb"),
        ("no\x1bwhere", r"'no\x1bwhere' is not one of muq-eval-a1, songeval, madb"),
    ],
)
def test_a_bare_name_may_be_of_a_published_bundle(offline, source, found):
    shown = repr(source) if "\x1b" in source else source
    with pytest.raises(BundleError) as caught:
        load_bundle(source)
    assert str(caught.value) == f"--bundle {shown}: {found}, nor a folder, nor a hub id of the form owner/name"
    assert not offline.exists(), "nothing was asked of the hub"


def test_a_folder_of_the_name_of_a_published_bundle_is_loaded_by_its_path(ridge_bundle, tmp_path, monkeypatch, offline):
    """And by its name the published one, whatever lies here."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ridge_bundle, "songeval")
    for path in ("./songeval", "songeval/", str(tmp_path / "songeval")):
        found = load_bundle(path)
        assert (found.published, found.digest) == (None, load_bundle(str(ridge_bundle)).digest)
    with pytest.raises(BundleError, match=r"^--bundle songeval: its weights are not on the Hugging Face hub; "):
        load_bundle("songeval")
    assert not offline.exists()


def test_names_win_over_folders_and_folders_over_repositories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    default = PUBLISHED["muq-eval-a1"]
    assert find(default.repository) is default
    assert find_revision("muq-eval-a1@v1") == find_revision(f"{default.repository}@v1") == (default, "v1")
    for folder in ("muq-eval-a1", "muq-eval-a1@v1", default.repository):
        (tmp_path / folder).mkdir(parents=True)
    assert find("muq-eval-a1") is default and find_revision("muq-eval-a1") == (default, None)
    assert find("./muq-eval-a1") is find(default.repository) is find("other") is None
    assert find_revision("./muq-eval-a1") == find_revision(default.repository) == (None, None)


def test_a_repository_of_something_else(offline, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    snapshot = fill_cache(tmp_path / "other", offline)
    with pytest.raises(BundleError) as caught:
        load_bundle("someone/model")
    assert str(caught.value) == (
        f"{snapshot}: no bundle.yaml in it, so not a bundle; audiomos-cache bundle makes bundles"
    )
