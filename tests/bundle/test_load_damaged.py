"""A bundle that is not what it was when it was made is refused, in one line that says why."""

import json
import math
import shutil
import tracemalloc

import pytest
import torch
import xxhash
import yaml
from safetensors.torch import load_file, save_file

from audiomos_cache.bundle.load import load_bundle
from audiomos_cache.bundle.make import make_bundle
from audiomos_cache.errors import BundleError

AGAIN = "copy, download or make the bundle again"
HEAD = "heads/pooling-dist-seed1.safetensors"


def refusal(bundle):
    """The one line that a bundle is refused with."""
    with pytest.raises(BundleError) as caught:
        load_bundle(str(bundle))
    [line] = str(caught.value).splitlines()
    return line


def hash_of(path):
    return xxhash.xxh3_128_hexdigest(path.read_bytes())


def edit(bundle, change):
    """Change bundle.yaml as somebody would who also makes its digest and the files' hashes right again."""
    path = bundle / "bundle.yaml"
    content = yaml.safe_load(path.read_text())
    for part in (content["fusion"], *content["members"]):
        if (bundle / part["file"]).is_file():
            part["xxh3_128"] = hash_of(bundle / part["file"])
    change(content)
    del content["digest"]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    path.write_text(yaml.safe_dump(content | {"digest": xxhash.xxh3_128_hexdigest(canonical.encode())}))


def tell_fingerprint(content):
    """Make the fingerprint right again, everywhere."""
    canonical = json.dumps(content["fingerprint"]["fields"], sort_keys=True, separators=(",", ":"))
    for part, key in (
        (content["fingerprint"], "xxh3_128"),
        *((member, "fingerprint") for member in content["members"]),
    ):
        part[key] = xxhash.xxh3_128_hexdigest(canonical.encode())


def nothing(_content):
    """Change nothing but the hashes."""


def test_an_edit_that_changes_nothing_is_none(bundle):
    digest = load_bundle(str(bundle)).digest
    edit(bundle, nothing)
    assert load_bundle(str(bundle)).digest == digest


def test_the_card_may_be_edited(bundle):
    (bundle / "README.md").write_text("Ours.")
    load_bundle(str(bundle))


@pytest.mark.parametrize("missing", [HEAD, "fusion.json"])
def test_a_missing_part(bundle, missing):
    (bundle / missing).unlink()
    assert refusal(bundle) == f"{bundle}: missing {missing}, which bundle.yaml lists; {AGAIN}"


def test_no_bundle(tmp_path):
    assert refusal(tmp_path) == (
        f"{tmp_path}: no bundle.yaml in it, so not a bundle; audiomos-cache bundle makes bundles"
    )


@pytest.mark.parametrize("changed", [HEAD, "fusion.json"])
def test_a_changed_part(bundle, changed):
    path = bundle / changed
    expected = hash_of(path)
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    assert refusal(bundle) == (
        f"{path}: hash {hash_of(path)}, expected {expected}, so it was changed or is damaged; {AGAIN}"
    )


def test_a_bundle_yaml_edited_by_hand(bundle):
    path = bundle / "bundle.yaml"
    digest = load_bundle(str(bundle)).digest
    text = path.read_text()
    assert text.count("split: dev") == 1
    path.write_text(text.replace("split: dev", "split: test"))
    line = refusal(bundle)
    assert line.startswith(f"{path}: its content hashes to ")
    assert line.endswith(f", and its digest is '{digest}', so it was changed; {AGAIN}")


@pytest.mark.parametrize("digest", [None, 7, "f" * 32])
def test_a_bundle_yaml_without_its_digest(bundle, digest):
    path = bundle / "bundle.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"digest": digest}))
    assert f"and its digest is {digest!r}, so it was changed" in refusal(bundle)


def test_a_newer_format(bundle):
    edit(bundle, lambda content: content.update(format_version=3, tomorrow="unknown"))
    assert refusal(bundle) == (f"{bundle / 'bundle.yaml'}: format version is 3, expected 2; update audiomos-cache")


@pytest.mark.parametrize("version", [0, "1", "2", None, True, 1.0, 1.5])
def test_a_format_that_never_was(bundle, version):
    edit(bundle, lambda content: content.update(format_version=version))
    assert f"format version is {version!r}, expected 2; make the bundle again" in refusal(bundle)


def test_a_bundle_of_the_version_before_is_read(bundle):
    """It had no targets, and all bundles had these."""
    made = load_bundle(str(bundle))
    edit(bundle, lambda content: (content.update(format_version=1), content.pop("targets")))
    text = (bundle / "bundle.yaml").read_text()
    older = load_bundle(str(bundle))
    assert (bundle / "bundle.yaml").read_text() == text and "targets" not in yaml.safe_load(text)
    assert older.digest == yaml.safe_load(text)["digest"] != made.digest
    assert [(each.name, each.lowest, each.highest, each.clipped, each.hears_prompt) for each in older.targets] == [
        ("mi", 1.0, 5.0, True, False),
        ("ta", 1.0, 5.0, True, True),
    ]
    assert older.targets == made.targets
    assert {**older.to_dict(), "digest": made.digest} == made.to_dict()


def test_a_bundle_of_the_version_before_that_was_changed_is_refused(bundle):
    edit(bundle, lambda content: (content.update(format_version=1), content.pop("targets")))
    path = bundle / "bundle.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(content | {"format_version": 2}))
    line = refusal(bundle)
    assert line.startswith(f"{path}: its content hashes to ")
    assert line.endswith(f", and its digest is {content['digest']!r}, so it was changed; {AGAIN}")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda targets: targets[0].update(name="M I"), "0.name: 'M I': string should match pattern"),
        (lambda targets: targets[0].pop("lowest"), "0.lowest: missing"),
        (lambda targets: targets[1].update(clipped=1), "1.clipped: 1: input should be a valid boolean"),
        (lambda targets: targets[1].update(tomorrow=1), "1.tomorrow: unknown key"),
        (lambda targets: targets.clear(), " []: list should have at least 1 item"),
    ],
)
def test_targets_that_are_none(bundle, change, problem):
    edit(bundle, lambda content: change(content["targets"]))
    line = refusal(bundle)
    assert line.startswith(f"{bundle / 'bundle.yaml'}: targets")
    assert problem in line


@pytest.mark.parametrize("names", [["mi"], ["mi", "ta", "coherence"], ["mi", "mi"]])
def test_heads_that_are_trained_here_predict_mi_and_ta(bundle, names):
    """Others would fail at the first clip, or give the wrong name to a score."""

    def change(content):
        by_name = {each["name"]: each for each in content["targets"]}
        content["targets"] = [{**by_name.get(name, by_name["mi"]), "name": name} for name in names]

    edit(bundle, change)
    assert refusal(bundle).startswith(f"{bundle / 'bundle.yaml'}: targets")


def test_another_format(bundle):
    edit(bundle, lambda content: content.update(format="another"))
    assert "format is 'another', expected 'audiomos-cache bundle'; give a bundle's folder" in refusal(bundle)


def test_all_problems_are_told_at_once(bundle):
    def change(content):
        content["fusion"]["tomorrow"] = 1
        del content["versions"]
        content["members"][0]["best"] = "latest"
        content["members"][0]["head"]["pooling"] = "atention"
        content["members"][1]["seed"] = "one"
        content["members"][1]["audio_dim"] = 10**9

    edit(bundle, change)
    assert refusal(bundle) == (
        f"{bundle / 'bundle.yaml'}: members.0.best: 'latest' is not one of loss, srcc, combined; "
        "members.0.head.pooling: 'atention' is not one of attentive, mean, mean_std; "
        "members.1.seed: 'one': input should be a valid integer; "
        "members.1.audio_dim: 1000000000: input should be less than or equal to 65536; "
        f"fusion.tomorrow: unknown key; versions: missing; {AGAIN}"
    )


def test_another_fingerprint_of_the_features(bundle):
    edit(bundle, lambda content: content["fingerprint"]["fields"].update(pad_to_s=30.0))
    assert "expected" in refusal(bundle)
    assert "of its own fingerprint.fields; bundle heads of one cache" in refusal(bundle)


def edit_fields(bundle, change):
    """Change the fingerprint's fields, and all hashes that follow from them."""

    def changed(content):
        change(content["fingerprint"]["fields"])
        tell_fingerprint(content)

    edit(bundle, changed)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda fields: fields.pop("pad_to_s"), "pad_to_s: missing"),
        (lambda fields: fields.update(pad_to_s="five"), "pad_to_s: 'five': expected seconds above 0, at most 3600"),
        (lambda fields: fields.update(pad_to_s=-5), "pad_to_s: -5: expected seconds above 0"),
        (lambda fields: fields.update(pad_to_s=True), "pad_to_s: True: expected seconds above 0"),
        (lambda fields: fields.update(pad_to_s=1e9), "pad_to_s: 1000000000.0: expected seconds above 0"),
        (lambda fields: fields.update(max_seconds=0), "max_seconds: 0: expected seconds above 0"),
        (lambda fields: fields.update(max_seconds=None), "max_seconds: None: expected seconds above 0"),
        (lambda fields: fields.update(dtype="float64"), "dtype: 'float64' is not one of float16, float32"),
        (lambda fields: fields.update(audio_encoder="x"), "audio_encoder: 'x' is a value, expected keys"),
        (lambda fields: fields["audio_encoder"].pop("layers"), "audio_encoder.layers: missing"),
        (
            lambda fields: fields["audio_encoder"].update(layers=2),
            "audio_encoder.layers: 2: input should be a valid str",
        ),
        (lambda fields: fields["audio_encoder"].update(layers="x"), "layers: 'x': expected numbers of layers such as"),
        (lambda fields: fields["audio_encoder"].update(layers="2,1"), "layers: '2,1': expected numbers of layers"),
        (lambda fields: fields["audio_encoder"].update(layers="1,1"), "layers: '1,1': expected numbers of layers"),
        (lambda fields: fields["audio_encoder"].update(layers="-1"), "layers: '-1': expected numbers of layers"),
        (lambda fields: fields["audio_encoder"].update(layers="1,"), "layers: '1,': expected numbers of layers"),
        (lambda fields: fields["audio_encoder"].update(precision=16), "precision: 16 is not one of fp32, fp16, bf16"),
        (lambda fields: fields.pop("text_encoder"), "text_encoder: missing"),
        (lambda fields: fields["resampler"].pop("version"), "resampler.version: missing"),
        (lambda fields: fields.update(resampler=[]), "resampler: [] is a value, expected keys"),
    ],
)
def test_fields_that_scoring_cannot_read(bundle, change, found):
    edit_fields(bundle, change)
    line = refusal(bundle)
    assert line.startswith(f"{bundle / 'bundle.yaml'}: fingerprint.fields.")
    assert found in line


def test_fields_are_told_together_with_all_else(bundle):
    def change(content):
        content["fingerprint"]["fields"].clear()
        content["members"][0]["seed"] = "one"
        tell_fingerprint(content)

    edit(bundle, change)
    names = ("audio_encoder", "text_encoder", "resampler", "pad_to_s", "max_seconds", "dtype")
    missing = "; ".join(f"fingerprint.fields.{name}: missing" for name in names)
    assert refusal(bundle) == (
        f"{bundle / 'bundle.yaml'}: {missing}; members.0.seed: 'one': input should be a valid integer; {AGAIN}"
    )


def test_fields_that_scoring_does_not_know_are_kept_as_they_are(bundle):
    """And 1 stays 1, not 1.0: that would be another fingerprint."""
    edit_fields(bundle, lambda fields: fields.update(pad_to_s=1, tomorrow={"a": [1, 2.5, None]}))
    fields = load_bundle(str(bundle)).fingerprint.fields
    assert repr(fields["pad_to_s"]) == "1"
    assert fields["tomorrow"] == {"a": [1, 2.5, None]}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda fields, _: fields["audio_encoder"].update(layers="1"), "audio_layers [0], expected [1]"),
        (lambda fields, _: fields["audio_encoder"].update(layers="0,1"), "audio_layers [0], expected [0, 1]"),
        (lambda fields, _: fields["audio_encoder"].update(dim=9), "audio_dim {audio_dim}, expected 9"),
        (lambda fields, _: fields["text_encoder"].update(dim=9), "text_dim {text_dim}, expected 9"),
        (lambda _, member: member.update(bins=10), "bins 10, expected 20"),
        (lambda _, member: member.update(bins=None), "bins None, expected 20"),
    ],
)
def test_a_member_of_other_features(bundle, change, found):
    widths = {}

    def changed(content):
        member = content["members"][0]
        widths.update(member)
        change(content["fingerprint"]["fields"], member)
        tell_fingerprint(content)

    edit(bundle, changed)
    assert refusal(bundle) == (
        f"{bundle / HEAD}: not a head that can be used, pooling-dist-seed1: {found.format(**widths)}; {AGAIN}"
    )


@pytest.mark.parametrize(
    ("key", "values", "found"),
    [
        ("name", ("same", "same"), "members: the name same is there twice"),
        ("name", ("Same", "same"), "members: the name Same, same is there twice"),
        ("file", (HEAD, HEAD), f"members: the file {HEAD} is there twice"),
        ("name", ("a\nb", "same"), "members.0.name: 'a\\nb': string should match pattern"),
        ("name", ("../a", "same"), "members.0.name: '../a': string should match pattern"),
    ],
)
def test_members_that_are_not_told_apart(bundle, key, values, found):
    def change(content):
        for member, value in zip(content["members"], values, strict=True):
            member[key] = value

    edit(bundle, change)
    assert refusal(bundle).startswith(f"{bundle / 'bundle.yaml'}: {found}")


def test_members_in_another_order(bundle):
    edit(bundle, lambda content: content["members"].reverse())
    names = "['pooling-dist-seed1', 'cross-attention-dist-seed2']"
    found = refusal(bundle)
    assert found.startswith(f"{bundle / 'fusion.json'}: not a fusion of the 2 members (ValueError(")
    assert f"members {names}, expected ['cross-attention-dist-seed2', 'pooling-dist-seed1']" in found


def test_another_fingerprint_of_a_member(bundle):
    fingerprint = load_bundle(str(bundle)).fingerprint.digest
    edit(bundle, lambda content: content["members"][1].update(fingerprint="f" * 32))
    assert refusal(bundle) == (
        f"{bundle / 'bundle.yaml'}: member cross-attention-dist-seed2 has {'f' * 32}, expected {fingerprint} of its "
        "own fingerprint.fields; bundle heads of one cache"
    )


@pytest.mark.parametrize(
    "file",
    ["../secret.safetensors", "/etc/passwd", "heads/../../x.safetensors", "heads\\x.safetensors", "heads/.safetensors",
     "heads/a/b.safetensors", "heads/x.pt", "x.safetensors", "heads/x\n.safetensors", "~/x.safetensors"],
)  # fmt: skip
def test_a_file_outside_the_bundle(bundle, file):
    edit(bundle, lambda content: content["members"][0].update(file=file))
    assert refusal(bundle) == (
        f"{bundle / 'bundle.yaml'}: members.0.file: {file!r}: expected a name of the form "
        f"heads/NAME.safetensors; {AGAIN}"
    )


def test_a_fusion_in_another_file(bundle):
    edit(bundle, lambda content: content["fusion"].update(file="../fusion.json"))
    assert f"fusion.file: '../fusion.json' is not one of fusion.json; {AGAIN}" in refusal(bundle)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda content: content["fusion"].clear(), "KeyError"),
        (lambda content: content.update(method="mean"), "method 'mean', expected 'ridge'"),
        (lambda content: content["fusion"]["mi"].update(features=["distribution"]), "1 features, expected 2"),
    ],
    ids=["empty", "another", "of one member"],
)
def test_a_fusion_of_other_members(bundle, change, found):
    path = bundle / "fusion.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    edit(bundle, nothing)
    line = refusal(bundle)
    assert line.startswith(f"{path}: not a fusion of the 2 members (")
    assert found in line


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            lambda content: content.update(features=["score", "distribution"]),
            "pooling-dist-seed1: mi is a distribution on 20 bins, expected a score as in the fit split",
        ),
        (
            lambda content: content.update(bins=10, coefficients=[row[:10] for row in content["coefficients"]]),
            "pooling-dist-seed1: mi is a distribution on 20 bins, expected a distribution on 10 bins",
        ),
    ],
    ids=["other kinds", "other bins"],
)
def test_a_fusion_of_other_heads(bundle, change, found):
    path = bundle / "fusion.json"
    content = json.loads(path.read_text())
    change(content["fusion"]["mi"])
    path.write_text(json.dumps(content))
    edit(bundle, nothing)
    line = refusal(bundle)
    assert line.startswith(f"{path}: does not fit the 2 heads: ")
    assert found in line
    assert line.endswith(AGAIN)


def test_a_fusion_with_a_number_that_none_is(bundle):
    path = bundle / "fusion.json"
    content = json.loads(path.read_text())
    content["fusion"]["mi"]["intercept"] = 10**400
    path.write_text(json.dumps(content))
    edit(bundle, nothing)
    assert refusal(bundle).startswith(f"{path}: not a fusion of the 2 members (OverflowError(")


def test_a_fusion_that_is_not_known(bundle):
    """It is a user's, whose module must be imported first; or it is none."""
    content = {"method": "median", "members": ["pooling-dist-seed1", "cross-attention-dist-seed2"], "fusion": {}}
    (bundle / "fusion.json").write_text(json.dumps(content))
    edit(bundle, lambda content: content["fusion"].update(method="median"))
    assert "method 'median' is not one of mean, weighted, ridge" in refusal(bundle)
    part = {"kind": "fusion", "name": "median", "import": "my_fusions", "module": "my_fusions", "class": "Median",
            "version": None}  # fmt: skip
    edit(bundle, lambda content: content.update(parts=[part]))
    assert refusal(bundle) == (
        f"{bundle}/bundle.yaml: needs --import my_fusions, which registers fusion median (my_fusions.Median, version "
        "None); give it before the command"
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda weights: weights.pop("mi.1.linear.bias"), "mi.1.linear.bias is missing, expected (20,) torch.float32"),
        (lambda weights: weights.update(more=torch.ones(1)), "more is (1,) torch.float32, expected none"),
        (
            lambda weights: weights.update({"mi.1.linear.bias": torch.ones(5)}),
            "mi.1.linear.bias is (5,) torch.float32, expected (20,) torch.float32",
        ),
        (
            lambda weights: weights.update({"mi.1.linear.bias": torch.ones(20).half()}),
            "mi.1.linear.bias is (20,) torch.float16, expected (20,) torch.float32",
        ),
        (
            lambda weights: weights.update({"mi.1.linear.bias": torch.tensor([math.nan] + [0.0] * 19)}),
            "NaN or infinite weights in mi.1.linear.bias",
        ),
        (
            lambda weights: weights.update({"mi.1.linear.bias": torch.full((20,), -math.inf)}),
            "NaN or infinite weights in mi.1.linear.bias",
        ),
    ],
    ids=["fewer", "more", "another shape", "another dtype", "NaN", "infinite"],
)
def test_weights_of_another_head(bundle, change, found):
    path = bundle / HEAD
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    edit(bundle, nothing)
    assert refusal(bundle) == f"{path}: not a head that can be used, pooling-dist-seed1: {found}; {AGAIN}"


def test_weights_that_are_a_pickle(bundle):
    torch.save({"weight": torch.ones(1)}, bundle / HEAD)
    edit(bundle, nothing)
    assert refusal(bundle).startswith(f"{bundle / HEAD}: not a head that can be used, pooling-dist-seed1: ")


@pytest.mark.parametrize(
    "change",
    [
        lambda head: head["text_audio"].update(common_dim=1 << 16),
        lambda head: head["temporal"].update(kind="bilstm", layers=64),
        lambda head: head["temporal"].update(kind="transformer", feedforward=1 << 16),
        lambda head: head.update(layers=7),
        lambda head: head.update(layers="weighted"),
    ],
    ids=["wide", "deep", "wide inside", "another layer", "a mixture of one layer"],
)
def test_a_head_that_the_weights_are_not_of_takes_no_memory(bundle, change):
    edit(bundle, lambda content: change(content["members"][0]["head"]))
    assert refusal(bundle).startswith(f"{bundle / HEAD}: not a head that can be used, pooling-dist-seed1: ")


@pytest.mark.parametrize("width", [10**12, 10**19])
def test_a_head_beyond_all_tensors(bundle, width):
    edit(bundle, lambda content: content["members"][0]["head"]["text_audio"].update(common_dim=width))
    found = refusal(bundle)
    assert f"members.0.head.text_audio.common_dim: {width}: input should be less than or equal to 65536" in found


def test_a_head_whose_scores_depend_on_the_batch(bundle):
    def change(content):
        content["members"][0]["head"]["compat"] = "upstream"
        content["members"][0]["head"]["temporal"]["kind"] = "transformer"
        content["members"][0]["head"]["text_audio"]["kind"] = "decoupled"

    edit(bundle, change)
    assert refusal(bundle) == (
        f"{bundle / HEAD}: not a head that can be used, pooling-dist-seed1: it computes as the published code does, "
        f"where a clip's score depends on its batch; {AGAIN}"
    )


def test_intervals_of_another_level(bundle):
    edit(bundle, lambda content: content["intervals"].update(level=0.9))
    assert "intervals.level: 0.9: input should be less than or equal to 0.8" in refusal(bundle)


def test_layers_that_the_head_does_not_read(bundle):
    def change(content):
        content["fingerprint"]["fields"]["audio_encoder"]["layers"] = "0,1"
        content["members"][0]["head"]["layers"] = 0
        for member in content["members"]:
            member["audio_layers"] = [0, 1]
        content["members"][0]["layers_read"] = [1]
        tell_fingerprint(content)

    edit(bundle, change)
    assert refusal(bundle) == (
        f"{bundle / HEAD}: not a head that can be used, pooling-dist-seed1: reads layers [1], and its config has 0; "
        f"{AGAIN}"
    )


_HEADER = "format: audiomos-cache bundle\nformat_version: 1\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("format: [", "cannot be read as YAML"),
        ("- 1", "found list, expected keys such as members, fusion, encoders"),
        ("format: !!python/object/apply:os.system ['true']", "cannot be read as YAML"),
        ("a: &a [1]\nb: *a", "an anchor or alias (& or *); write its value out"),
        ("a: &a {b: 1}\nc: {<<: *a}", "an anchor or alias (& or *); write its value out"),
        ("a: " + "[" * 100_000, "nested too deeply"),
        ("a: \x1b[31m", "cannot be read as YAML"),
        (f"{_HEADER}versions: {{a: .nan}}", "'.nan' is not a number in line 3"),
        (
            f"{_HEADER}versions: !!binary aGk=",
            "the tag tag:yaml.org,2002:binary; leave it out",
        ),
        (
            "format: audiomos-cache bundle\nformat_version: 1\n1: x\nb: y",
            "the key 1 is no string, expected keys such as members, fusion, encoders",
        ),
    ],
    ids=[
        "not YAML",
        "no keys",
        "an object",
        "an alias",
        "a merge",
        "deep",
        "a control",
        "no number",
        "bytes",
        "a key that is no text",
    ],
)
def test_what_no_bundle_holds(tmp_path, text, found):
    (tmp_path / "bundle.yaml").write_text(text)
    assert found in refusal(tmp_path)


def test_merge_keys_that_stand_for_more_than_any_memory_take_none(tmp_path):
    """Nine of nine of nine ..., eight times: 43 million keys, were they put together."""
    lines = ["a0: &a0 {k: 1}"]
    for level in range(1, 9):
        lines.append(f"a{level}: &a{level}\n  <<: [{', '.join([f'*a{level - 1}'] * 9)}]")
    (tmp_path / "bundle.yaml").write_text("\n".join(lines))
    tracemalloc.start()
    line = refusal(tmp_path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "an anchor or alias" in line
    assert peak_bytes < 10_000_000


def test_a_bundle_yaml_that_is_no_text(tmp_path):
    (tmp_path / "bundle.yaml").write_bytes(b"format: \xff\xfe")
    assert "bundle.yaml: cannot be read as YAML: 'utf-8' codec can't decode" in refusal(tmp_path)


def test_a_bundle_yaml_of_many_bytes(tmp_path):
    (tmp_path / "bundle.yaml").write_text("#" * (2**20 + 1))
    assert refusal(tmp_path) == (
        f"{tmp_path / 'bundle.yaml'}: 1048577 bytes, expected keys such as members, fusion, encoders, of at "
        "most 1048576 bytes"
    )


def test_a_revision_of_a_folder(bundle):
    with pytest.raises(BundleError) as caught:
        load_bundle(f"{bundle}@main")
    assert str(caught.value) == f"--bundle {bundle}: is a folder, and a folder has no revision 'main' to pin"


def test_a_replaced_member_is_not_the_bundle_that_was_made(made, bundle, tmp_path):
    """Weights of the same head, trained otherwise, do not slip in."""
    make_bundle(made.runs[:1], tmp_path / "other", best="combined", check=False)
    shutil.copy(tmp_path / "other" / HEAD, bundle / HEAD)
    assert "so it was changed or is damaged" in refusal(bundle)
