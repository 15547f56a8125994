"""The card's front matter, as huggingface_hub reads it back: every number, and strings of any kind."""

import json
from dataclasses import asdict

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index

from audiomos_cache.bundle.entries import EncoderEntry
from audiomos_cache.bundle.evidence import Evidence
from audiomos_cache.bundle.front_matter import front_matter, on_hub
from audiomos_cache.bundle.make import make_bundle
from audiomos_cache.bundle.published import make_published_bundle
from audiomos_cache.fusion.fuse import fuse
from audiomos_cache.targets import MEASURES, VIEWS
from audiomos_cache.testing import make_muq_eval

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LEVELS = {"utt": "clips", "sys": "systems"}
METRICS = {"mse": "mse", "lcc": "pearsonr", "srcc": "spearmanr", "ktau": "kendalltau"}
SCORES = {view: dict.fromkeys(MEASURES, 0.123456) for view in VIEWS} | {"n_clips": 16, "n_systems": 2}


def encoder(source, revision):
    return EncoderEntry(
        name=source, source=source, revision=revision, weights_xxh3_128="0" * 32, precision="fp32", notice=None
    )


def card_of(text):
    return ModelCard(f"{text}\n\n# A heading\n").data


def by_name(card):
    return {result.metric_name: (result.metric_type, result.metric_value) for result in card.eval_results}


def expected_of(scores):
    """All that the scores of a fusion, or of `evaluate --json`, have."""
    return {
        f"{measure.upper()}, {view[4:].upper()}, {LEVELS[view[:3]]}": (
            METRICS[measure],
            round(scores[view][measure], 4),
        )
        for view in VIEWS
        for measure in MEASURES
    }


def test_the_hub_reads_the_sixteen_numbers_back(made, ridge_bundle):
    card = ModelCard.load(ridge_bundle / "README.md")
    assert card.text.startswith("\n# A predictor of listeners' opinions")
    scores = json.loads((made.fused("ridge") / "fusion.json").read_text())["out_of_fold"]["scores"]
    assert len(card.data.eval_results) == 16
    assert by_name(card.data) == expected_of(scores)
    assert card.data.model_name == "audiomos-cache: ridge of 2 heads"
    for result in card.data.eval_results:
        assert result.task_type == "audio-classification"
        assert result.dataset_name == "dev_list.txt, dev, out-of-fold"
        assert (result.dataset_type, result.dataset_split) == ("mean-opinion-scores", "dev")
        assert result.dataset_args == {
            "clips": 16,
            "systems": scores["n_systems"],
            "out_of_fold": "5 folds by prompt",
            "checkpoints_chosen_on_these_clips": 2,
        }


def test_the_rest_is_what_the_hub_asks_for(ridge_bundle):
    data = ModelCard.load(ridge_bundle / "README.md").data
    assert (data.library_name, data.pipeline_tag) == ("audiomos-cache", "audio-classification")
    assert data.tags == ["audio", "music", "mean-opinion-score"]
    assert (data.license, data.license_name) == ("other", "of-encoders-and-training-data")
    assert data.license_link.startswith("https://")
    assert data.base_model is None, "encoders that are made by code"


def test_it_is_what_the_hubs_own_writer_writes(ridge_bundle):
    """Also the keys that ModelCardData does not know by name would survive it."""
    content = yaml.safe_load((ridge_bundle / "README.md").read_text().split("---\n", 2)[1])
    data = ModelCard.load(ridge_bundle / "README.md").data
    assert eval_results_to_model_index(data.model_name, data.eval_results) == content["model-index"]
    assert data.to_dict() == content


def test_of_a_mean_the_numbers_are_of_the_labels_that_were_given(made, tmp_path):
    made_bundle = make_bundle(made.runs, tmp_path / "model", made.fused("mean"), labels=made.labels, n_boot=0)
    again = make_bundle(made.runs, tmp_path / "again", made.fused("mean"), labels=made.labels, n_boot=0)
    content = [(each.folder / "README.md").read_bytes() for each in (made_bundle, again)]
    assert content[0] == content[1]
    [name] = {result.dataset_name for result in ModelCard.load(tmp_path / "model" / "README.md").data.eval_results}
    assert name == "dev_list.txt, dev, not those that the blend was fitted on"


def test_without_evidence_there_are_no_results(made, tmp_path):
    make_bundle(made.runs[:1], tmp_path / "model")
    data = ModelCard.load(tmp_path / "model" / "README.md").data
    assert not data.eval_results and "model-index" not in data.to_dict()


def test_encoders_of_the_hub_are_the_base_models():
    encoders = [encoder("OpenMuQ/MuQ-large-msd-iter", COMMIT), encoder("/models/roberta", "local")]
    data = card_of(front_matter("cc-by-nc-4.0", on_hub(encoders)))
    assert data.base_model == ["OpenMuQ/MuQ-large-msd-iter"]
    assert data.license == "cc-by-nc-4.0" and data.license_name is None and data.license_link is None


def test_a_published_bundle_is_based_on_what_was_published(tmp_path):
    made = make_published_bundle("muq-eval-a1", make_muq_eval(tmp_path / "weights"), tmp_path / "model")
    assert made.lines()[-1] == f"publish: hf upload OWNER/NAME {tmp_path / 'model'}"
    data = ModelCard.load(tmp_path / "model" / "README.md").data
    assert data.base_model == ["zhudi2825/MuQ-Eval-A1"] and data.license == "cc-by-nc-4.0"
    assert data.pipeline_tag == "audio-classification" and not data.eval_results


def test_a_correlation_that_is_not_defined_is_left_out():
    scores = SCORES | {"sys_ta": SCORES["sys_ta"] | {"srcc": None}}
    results = card_of(front_matter("mit", [], Evidence(scores), "name")).eval_results
    assert len(results) == 15 and "SRCC, TA, systems" not in {result.metric_name for result in results}
    assert {result.metric_value for result in results} == {0.1235}


@pytest.mark.parametrize(
    "name",
    [
        'it\'s "so": {a: b} # no',
        "a\n---\nlicense: mit\n---\n",
        "\r\n---\r\n",
        "- &a *a !!python/object:os.system [",
        "null",
        "1e5",
        "\x00\x1b[2J\u2028\x85\ufeff",
        "音楽\U0001f3b5",
        "x" * 500,
        "caf\udce9.txt",
        "",
    ],
)
def test_hostile_names_stay_in_their_strings(name):
    text = front_matter("mit", [f"owner/{name}"], Evidence(SCORES, labels=name, split=name), name)
    data = card_of(text)
    assert data.license == "mit" and data.model_name == name
    assert data.base_model == [f"owner/{name}"]
    [shown] = {(result.dataset_name, result.dataset_split) for result in data.eval_results}
    listed = ", ".join([name or "labelled clips", *([name] if name else []), "not those that the blend was fitted on"])
    assert shown == (listed, name or None)
    assert text.isascii() and len({json.dumps(asdict(result)) for result in data.eval_results}) == 16


def test_a_list_with_a_hostile_name(made, tmp_path):
    labels = tmp_path / "a\n---\nlicense: mit\n'\".txt"
    labels.write_bytes(made.labels.read_bytes())
    fuse(made.runs, out=tmp_path / "fused", method="ridge", labels=labels, n_boot=0)
    make_bundle(made.runs, tmp_path / "model", tmp_path / "fused")
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert card.data.license == "other"
    assert card.data.eval_results[0].dataset_name == f"{labels.name}, dev, out-of-fold"
    assert len(card.data.eval_results) == 16
