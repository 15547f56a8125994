"""`NAME@REVISION`, the way to pin a revision of what comes from the Hugging Face hub."""

import pytest

from audiomos_cache.errors import ConfigError
from audiomos_cache.hub import split_revision


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("owner/name", ("owner/name", None)),
        ("owner/name@v1.0", ("owner/name", "v1.0")),
        ("owner/name@refs/pr/3", ("owner/name", "refs/pr/3")),
        ("owner/name@a@b", ("owner/name", "a@b")),
        ("muq@main", ("muq", "main")),
        ("folder", ("folder", None)),
        ("folder@main", ("folder", "main")),
        ("./folder@main", ("./folder", "main")),
        ("me@home", ("me@home", None)),
        ("nested/me@home/model", ("nested/me@home/model", None)),
        ("/mnt/me@home/model", ("/mnt/me@home/model", None)),
        ("./gone@main", ("./gone@main", None)),
        ("one/two/three@main", ("one/two/three@main", None)),
        ("x" * 5000 + "/y@main", ("x" * 5000 + "/y", "main")),
    ],
)
def test_a_revision_is_split_off_unless_a_folder_has_the_whole_name(source, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("folder", "me@home", "nested/me@home/model"):
        (tmp_path / folder).mkdir(parents=True)
    assert split_revision(source) == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("owner/name@", "owner/name@: found no revision after the @, expected NAME@REVISION; leave the @ out"),
        ("@main", "@main: found no name before the @, expected NAME@REVISION"),
        ("mo\x1bdel@", r"'mo.x1bdel@': found no revision after"),
    ],
)
def test_half_of_it_is_refused(source, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        split_revision(source)
