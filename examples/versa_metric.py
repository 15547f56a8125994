"""A metric for VERSA: the scores of a bundle, such as MI, as `audiomos_mi`.

In a checkout of VERSA, with audiomos-cache installed beside it:

    cp versa_metric.py versa/utterance_metrics/audiomos_cache.py
    cp versa_metric.yaml egs/separate_metrics/audiomos_cache.yaml
    # name the module, and its register_audiomos_cache_metric, in METRIC_MODULES of versa/metric_registry.py
    python versa/bin/scorer.py --score_config egs/separate_metrics/audiomos_cache.yaml \\
        --pred wav.scp --io soundfile --text prompts.txt --output_file scores.jsonl

`prompts.txt` has `KEY PROMPT` in each line. It may be left out: then scores that depend on the prompt, such as TA, are
left out too. So are those that the bundle does not have: `muq-eval-a1` hears no prompt and has no TA, but
`ta_without_prompt`. Every clip gets the same columns, none of them empty, as VERSA averages what is there. A clip that
cannot be scored is an error, which VERSA records for it.
"""

from typing import Any

from versa.definition import BaseMetric, MetricCategory, MetricMetadata, MetricType

from audiomos_cache import Scorer

METADATA = MetricMetadata(
    name="audiomos_cache",
    category=MetricCategory.INDEPENDENT,
    metric_type=MetricType.DICT,
    requires_reference=False,
    requires_text=False,
    gpu_compatible=True,
    auto_install=False,
    dependencies=["audiomos_cache"],
    description="Mean opinion scores of generated music, predicted from the features of a frozen MuQ",
    paper_reference="https://arxiv.org/abs/2507.09904",
)


class AudiomosCacheMetric(BaseMetric):
    """Scores of one bundle, which `bundle` in the config names."""

    def _setup(self) -> None:
        device = "cuda" if self.config.get("use_gpu") else "cpu"
        self._scorer = Scorer(self.config.get("bundle", "muq-eval-a1"), device=device)

    def compute(
        self,
        predictions: Any,
        references: Any = None,  # noqa: ARG002  # VERSA passes it by name
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, float]:
        """Score one clip.

        Args:
            predictions: (samples,) or (samples, channels).
            references: not used.
            metadata: `sample_rate` in Hz, and `text`, the prompt, or None.
        Raises:
            audiomos_cache.errors.AudiomosError: the clip cannot be scored.
        """
        known = metadata or {}
        [score] = self._scorer.score([predictions], [known.get("text")], sample_rate=known.get("sample_rate"))
        found = {target.name: score.scores[target.name] for target in self._scorer.targets}
        return {f"audiomos_{name}": value for name, value in found.items() if value is not None}

    def get_metadata(self) -> MetricMetadata:
        """Return what VERSA knows of the metric."""
        return METADATA


def register_audiomos_cache_metric(registry: Any) -> None:
    """Make the metric known to VERSA."""
    registry.register(AudiomosCacheMetric, METADATA, aliases=["audiomos"])
