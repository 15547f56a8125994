"""The examples for other people's tools, each called as its tool calls it: TRL, VERSA, CMI-RewardBench.

The tools are not installed. What the examples import of them is stood in for, by the little that their interfaces say.
"""

import json
import logging
import math
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from audiomos_cache.bundle.published import make_published_bundle
from audiomos_cache.encoders.lookup import load_audio_encoder, load_text_encoder
from audiomos_cache.errors import AudiomosError, ConfigError
from audiomos_cache.scoring.scorer import Scorer
from audiomos_cache.testing import make_muq_eval
from tests.support.scoring import PROMPTS, make_bundle, music, wav

EXAMPLES = Path(__file__).parents[1] / "examples"
RATE = 16000


@pytest.fixture(scope="module")
def bundle():
    """A real bundle of tiny encoders and untrained heads, with MI and TA."""
    return make_bundle(load_audio_encoder("muq-tiny"), load_text_encoder("roberta-tiny"), pad_to_s=4.0)


@pytest.fixture(scope="module")
def scorer(bundle):
    return Scorer(bundle, device="cpu")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The folder of a published bundle: MI, and a TA that hears no prompt."""
    folder = tmp_path_factory.mktemp("published")
    out = folder / "model"
    make_published_bundle("muq-eval-a1", make_muq_eval(folder / "weights"), out)
    return str(out)


@pytest.fixture
def load(monkeypatch):
    """Load an example, with stand-ins for the modules of its tool."""

    def load_example(name, **stand_ins):
        for module, content in stand_ins.items():
            top, _, sub = module.partition("_")
            made = ModuleType(f"{top}.{sub}")
            vars(made).update(content)
            monkeypatch.setitem(sys.modules, top, ModuleType(top))
            monkeypatch.setitem(sys.modules, f"{top}.{sub}", made)
        spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
        example = module_from_spec(spec)
        spec.loader.exec_module(example)
        return example

    return load_example


def samples(seed, seconds=3.2):
    return music(seconds, RATE, seed)[:, 0]


def values(scores, target):
    return [getattr(score, target) for score in scores]


# TRL: reward functions are called with prompts, completions and the columns, by name; None is no reward.


def trl_rewards(reward_functions, prompts, completions, **columns):
    """As GRPOTrainer: the rewards of each function, summed without those that are not there."""
    by_name = {"prompts": prompts, "completions": completions, "completion_ids": [[1]] * len(prompts)}
    found = [each(**by_name, **columns, trainer_state=SimpleNamespace(global_step=3)) for each in reward_functions]
    assert all(isinstance(each, list) for each in found)
    rows = [[math.nan if reward is None else reward for reward in rewards] for rewards in found]
    return torch.tensor(rows, dtype=torch.float32)


def test_a_reward_function_of_trl(load, bundle, scorer):
    def to_audio(completion):
        text = completion[0]["content"]  # conversational: a list of messages
        return samples(int(text)) if text.isdigit() else None

    make_reward = load("trl_reward").make_reward
    options = {"to_audio": to_audio, "sample_rate": RATE, "device": "cpu"}
    functions = [
        make_reward(bundle, **options),
        make_reward(bundle, "ta", prompt_column="caption", **options),
        make_reward(bundle, failed=1.0, **options),
    ]
    assert [each.__name__ for each in functions] == ["mi", "ta", "mi"]
    completions = [[{"role": "assistant", "content": text}] for text in ("0", "1", "no music", "2")]
    found = trl_rewards(functions, ["make music"] * 4, completions, caption=list(PROMPTS[:4]), level=[1, 2, 3, 4])
    clips, prompts = [samples(seed) for seed in range(3)], [*PROMPTS[:2], PROMPTS[3]]
    expected = scorer.score(clips, prompts, sample_rate=RATE)
    assert found[:, 2].isnan().tolist() == [True, True, False] and found[2, 2] == 1
    for row, target in enumerate(("mi", "ta", "mi")):
        torch.testing.assert_close(found[row, [0, 1, 3]], torch.tensor(values(expected, target)))


def test_a_reward_of_trl_that_the_bundle_does_not_have(load, published):
    reward = load("trl_reward").make_reward(published, "ta", to_audio=samples, sample_rate=RATE, device="cpu")
    with pytest.raises(ConfigError, match=r"^target 'ta' is not one of mi, ta_without_prompt$"):
        reward(completions=[0, 1], prompts=["a", "b"])


def test_best_of_n_as_the_example_says_it(load, bundle, scorer):
    text = load("trl_reward").__doc__
    [line] = [line for line in text.splitlines() if line.startswith("Best-of-N")]
    code = line.split("`")[1].replace('"model"', "bundle").replace("44100", str(RATE))
    clips = [np.zeros(RATE * 3, np.float32), *(samples(seed) for seed in range(4))]
    best = eval(code, {"Scorer": Scorer, "bundle": bundle, "clips": clips, "prompt": None})
    scores = values(scorer.score(clips[1:], sample_rate=RATE), "mi")
    assert best is clips[1 + int(np.argmax(scores))]


# VERSA: a metric is made by a factory from its entry of the config, and its errors are recorded clip by clip.


class MetricCategory(Enum):
    INDEPENDENT = "independent"


class MetricType(Enum):
    DICT = "dict"


@dataclass
class MetricMetadata:
    name: str
    category: MetricCategory
    metric_type: MetricType
    requires_reference: bool
    requires_text: bool
    gpu_compatible: bool
    auto_install: bool
    dependencies: list[str]
    description: str
    paper_reference: str | None = None
    implementation_source: str | None = None


class BaseMetric(ABC):
    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = config or {}
        self._setup()

    @abstractmethod
    def _setup(self): ...

    @abstractmethod
    def compute(self, predictions, references=None, metadata=None): ...

    @abstractmethod
    def get_metadata(self): ...


@dataclass
class Registry:
    known: dict[str, Any] = field(default_factory=dict)

    def register(self, metric_class, metadata, aliases=None):
        for name in (metadata.name, *(aliases or ())):
            self.known[name] = (metric_class, metadata)

    def create(self, config):
        metric_class, metadata = self.known[config["name"]]
        for dependency in metadata.dependencies:
            __import__(dependency)
        return metric_class({**config, "use_gpu": False})


VERSA = {each.__name__: each for each in (MetricCategory, MetricType, MetricMetadata, BaseMetric)}


@pytest.fixture
def versa(load):
    """The registry, after the metric has registered."""
    registry = Registry()
    load("versa_metric", versa_definition=VERSA).register_audiomos_cache_metric(registry)
    return registry


def versa_row(metric, text, audio, rate=RATE):
    return metric.compute(predictions=audio, references=None, metadata={"sample_rate": rate, "text": text, "key": "a"})


def test_a_metric_of_versa(versa, bundle, scorer):
    [entry] = yaml.safe_load((EXAMPLES / "versa_metric.yaml").read_text())
    assert entry == {"name": "audiomos_cache", "bundle": "muq-eval-a1"}
    metric = versa.create(entry | {"bundle": bundle})
    assert metric.get_metadata() is versa.known["audiomos"][1]
    assert not metric.get_metadata().requires_text and not metric.get_metadata().requires_reference
    for seed, text in enumerate(PROMPTS[:3]):
        [expected] = scorer.score([samples(seed)], [text], sample_rate=RATE)
        row = versa_row(metric, text, samples(seed).astype(np.float64))
        assert row == pytest.approx({"audiomos_mi": expected.mi, "audiomos_ta": expected.ta}, abs=1e-6)
        assert json.loads(json.dumps(row)) == row, "VERSA writes lines of JSON"
        assert versa_row(metric, None, samples(seed)) == pytest.approx({"audiomos_mi": expected.mi}, abs=1e-6)


def test_every_clip_has_the_same_columns_in_versa(versa, bundle):
    """Long clips have a spread of their windows, which others lack: none gets it."""
    metric = versa.create({"name": "audiomos_cache", "bundle": bundle})
    rows = [versa_row(metric, "rain", samples(0, seconds)) for seconds in (3.2, 9.0)]
    assert [list(row) for row in rows] == [["audiomos_mi", "audiomos_ta"]] * 2


def test_versa_gets_what_a_published_bundle_has(versa, published):
    metric = versa.create({"name": "audiomos_cache", "bundle": published})
    [expected] = Scorer(published, device="cpu").score([samples(0)], sample_rate=RATE)
    for text in (None, "rain"):
        assert versa_row(metric, text, samples(0)) == pytest.approx(
            {"audiomos_mi": expected.mi, "audiomos_ta_without_prompt": expected.scores["ta_without_prompt"]}, abs=1e-6
        )


@pytest.mark.parametrize(("audio", "rate"), [(np.zeros(RATE * 3), RATE), (samples(0), None)])
def test_what_cannot_be_scored_is_an_error_that_versa_records(versa, bundle, audio, rate):
    metric = versa.create({"name": "audiomos_cache", "bundle": bundle})
    with pytest.raises(AudiomosError, match=r"^clip 0: (silent, peak 0|an array at a sample rate of None)"):
        versa_row(metric, None, audio, rate)


# CMI-RewardBench: a class is found by its name, made with checkpoint, device and a JSON, and called batch by batch.


@dataclass
class BenchmarkBatchInput:
    audio: str | torch.Tensor
    text: str = ""
    lyrics: str = ""
    ref_audio: Any = None


class BenchmarkModelABC(ABC):
    @property
    @abstractmethod
    def sr(self): ...

    @abstractmethod
    def score_batch(self, inputs, batch_size, max_dur, **kwargs): ...


CMI = {each.__name__: each for each in (BenchmarkBatchInput, BenchmarkModelABC)}


@pytest.fixture
def make_cmi(load):
    def make(checkpoint, init_json="{}"):
        model_class = load("cmi_rewardbench_model", core_model_abc=CMI).AudiomosModel
        return model_class(**json.loads(init_json), checkpoint=checkpoint, device="cpu")

    return make


def cmi_scores(model, inputs):
    scores = model.score_batch(inputs=inputs, batch_size=len(inputs), max_dur=30.0)
    assert isinstance(scores, np.ndarray) and scores.shape == (len(inputs), 2)
    return [(float(scores[row, 0]), float(scores[row, 1])) for row in range(len(inputs))]


def test_a_model_of_cmi_rewardbench(make_cmi, bundle, scorer, tmp_path, caplog):
    model = make_cmi(bundle)
    assert isinstance(model.sr, int)
    paths = [str(wav(tmp_path / f"{seed}.wav", 3.2, RATE, seed)) for seed in range(2)]
    inputs = [
        BenchmarkBatchInput(paths[0], PROMPTS[0], lyrics="la la", ref_audio=paths[1]),
        BenchmarkBatchInput(paths[1], ""),
        BenchmarkBatchInput(torch.from_numpy(samples(2)), PROMPTS[1]),
        BenchmarkBatchInput(torch.zeros(model.sr), PROMPTS[2]),  # what the benchmark gives for a file that is not there
    ]
    with caplog.at_level(logging.WARNING):
        found = cmi_scores(model, inputs)
    clips = [paths[0], paths[1], (samples(2), model.sr)]
    expected = scorer.score(clips, [PROMPTS[0], None, PROMPTS[1]])
    assert found[0] == pytest.approx((expected[0].ta, expected[0].mi), abs=1e-6)
    assert found[1] == pytest.approx((math.nan, expected[1].mi), abs=1e-6, nan_ok=True)
    assert found[2] == pytest.approx((expected[2].ta, expected[2].mi), abs=1e-6)
    assert np.isnan(found[3]).all()
    assert caplog.messages == ["clip 3: silent, peak 0, expected music; check the clip"]
    assert cmi_scores(model, []) == []


def test_the_columns_of_cmi_can_be_chosen(make_cmi, bundle, scorer, tmp_path):
    path = str(wav(tmp_path / "a.wav", 3.2))
    [found] = cmi_scores(
        make_cmi(bundle, '{"alignment": "mi", "musicality": "ta"}'), [BenchmarkBatchInput(path, "rain")]
    )
    [expected] = scorer.score([path], ["rain"])
    assert found == pytest.approx((expected.mi, expected.ta), abs=1e-6)


def test_without_an_alignment_the_column_of_cmi_is_nan(make_cmi, published, tmp_path, caplog):
    path = str(wav(tmp_path / "a.wav", 3.2))
    with caplog.at_level(logging.WARNING):
        model = make_cmi(published)
        [(alignment, musicality)] = cmi_scores(model, [BenchmarkBatchInput(path, "rain")])
    assert caplog.messages == [f"{published} has no score 'ta': the alignment of every clip is NaN"]
    [expected] = Scorer(published, device="cpu").score([path])
    assert math.isnan(alignment) and musicality == pytest.approx(expected.mi, abs=1e-6)


def test_a_bundle_that_lacks_what_cmi_asks_for_is_refused(make_cmi, bundle):
    with pytest.raises(ValueError, match=r"has no score 'musicality'; musicality may be mi, ta$"):
        make_cmi(bundle, '{"musicality": "musicality"}')
    with pytest.raises(ConfigError, match=r"^batch_size is 0, expected a whole number from 1 to 65536$"):
        make_cmi(bundle, '{"batch_size": 0}')
