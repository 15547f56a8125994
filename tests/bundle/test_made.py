"""What `--overwrite` may replace: bundles of ours, damaged ones too, and no file that is not theirs."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from audiomos_cache.bundle.made import MadeBundle, refuse_replacing
from audiomos_cache.bundle.manifest import read_manifest
from audiomos_cache.bundle.published import make_published_bundle
from audiomos_cache.errors import OutputExistsError
from audiomos_cache.testing import make_muq_eval


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeBundle:
    folder = tmp_path_factory.mktemp("made")
    return make_published_bundle("muq-eval-a1", make_muq_eval(folder / "weights"), folder / "model", check=False)


@pytest.fixture
def model(made: MadeBundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder, tmp_path / "model"))


def test_a_bundle_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "bundle.yaml").write_text("a: 1\n")
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError) as caught:
            refuse_replacing(tmp_path, overwrite=overwrite)
        assert str(caught.value) == (
            f"{tmp_path}/bundle.yaml: its format is not 'audiomos-cache bundle', so it is of something else and would "
            "be lost; give another --out"
        )
    (tmp_path / "bundle.yaml").unlink()
    (tmp_path / "bundle.yaml").symlink_to("/nowhere")
    with pytest.raises(OutputExistsError, match="so it is of something else"):
        refuse_replacing(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text,
        lambda text: text[: len(text) - 20],
        lambda text: f"{text}\n\t: [",
        lambda text: re.sub("(?m)^digest: .*$", "digest: none", text),
        lambda text: text.replace("format: audiomos-cache bundle", "format: 'audiomos-cache bundle'"),
    ],
)
def test_a_damaged_one_of_ours_is_replaced_on_request(model: Path, damage: Callable[[str], str]) -> None:
    path = model / "bundle.yaml"
    path.write_text(damage(path.read_text()))
    refuse_replacing(model, overwrite=True)
    with pytest.raises(OutputExistsError, match=rf"^{model}: exists already; give another --out, or --overwrite$"):
        refuse_replacing(model, overwrite=False)


def test_a_head_that_it_does_not_list_is_named(model: Path) -> None:
    own = next((model / "heads").iterdir())
    shutil.copy(own, model / "heads" / "my_model.safetensors")
    with pytest.raises(OutputExistsError, match=r"holds heads/my_model.safetensors, which is not part of a bundle and"):
        refuse_replacing(model, overwrite=True)


def test_a_folder_of_any_name_is_one_line(model: Path) -> None:
    manifest, digest = read_manifest(model)
    made = MadeBundle(Path("a\nb\x1b[31m"), manifest, digest, 1)
    assert all(line.isprintable() for line in made.lines())
    assert made.lines()[0].startswith(r"'a\nb\x1b[31m': the published head ")
