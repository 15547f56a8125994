"""A model for CMI-RewardBench: a bundle's text alignment and music impression of each clip.

In a checkout of https://github.com/Haiwen-Xia/CMI-RewardBench, with audiomos-cache installed beside it:

    cp cmi_rewardbench_model.py custom_models/audiomos_model.py
    python inference_benchmark.py --model_class_path custom_models.audiomos_model:AudiomosModel \\
        -c muq-eval-a1 --device cuda:0 --dataset_jsonl data/all_test.jsonl --dataset_root data/

`-c` is the name of a published bundle, a folder, or a hub repository id. Of a bundle with other scores, say which is
which: `-c ./songeval --model_init_kwargs_json '{"musicality": "musicality"}'`.

Where the bundle has no alignment (`muq-eval-a1` hears no prompt), that column is NaN, with one warning, and the
benchmark reports musicality alone. Nothing else is put in its place: MI would be a fair guess, but not what the column
says; who wants it asks for it, `{"alignment": "mi"}`. A clip that cannot be scored is NaN in both, with a warning.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from core.model_abc import BenchmarkBatchInput, BenchmarkModelABC
from numpy.typing import NDArray

from audiomos_cache import Scorer

log = logging.getLogger(__name__)


class AudiomosModel(BenchmarkModelABC):
    """A bundle, as the benchmark calls it.

    Args:
        checkpoint: the bundle.
        device: where it is scored: "auto", "cpu", "cuda" or "cuda:1".
        alignment, musicality: the names of the scores that become the two columns.
        sr: sample rate of tensors that the benchmark gives instead of paths, in Hz.
        options: of `Scorer`.
    Raises:
        ValueError: the bundle has no score of the name that `musicality` is.
    """

    def __init__(
        self,
        checkpoint: str,
        device: str = "auto",
        *,
        alignment: str = "ta",
        musicality: str = "mi",
        sr: int = 24000,
        **options: Any,
    ) -> None:
        self._scorer = Scorer(checkpoint, device=device, **options)
        self._columns, self._sr = (alignment, musicality), sr
        known = [target.name for target in self._scorer.targets]
        if musicality not in known:
            raise ValueError(f"{checkpoint}: has no score {musicality!r}; musicality may be {', '.join(known)}")
        if alignment not in known:
            log.warning("%s has no score %r: the alignment of every clip is NaN", checkpoint, alignment)

    @property
    def sr(self) -> int:
        """Sample rate of tensors, in Hz."""
        return self._sr

    def score_batch(
        self,
        inputs: Sequence[BenchmarkBatchInput],
        batch_size: int,  # noqa: ARG002  # the scorer has its own
        max_dur: float,  # noqa: ARG002  # what is heard of a clip is the bundle's rule
        **kwargs: Any,  # noqa: ARG002
    ) -> NDArray[np.float64]:
        """Score clips.

        Args:
            inputs: N clips: `audio`, a path or a tensor, and `text`, the prompt; lyrics and reference audio are not
                heard.
            batch_size, max_dur: not used: a bundle hears as much of a clip as it was trained to.
            kwargs: not used.
        Returns:
            (N, 2): alignment and musicality.
        """
        clips, prompts = [each.audio for each in inputs], [each.text for each in inputs]
        scores = self._scorer.score(clips, prompts, sample_rate=self._sr, on_error="return")
        for score in scores:
            if score.error:
                log.warning("%s", score.error)
        rows = [[score.scores.get(name) for name in self._columns] for score in scores]
        return np.array([[math.nan if each is None else each for each in row] for row in rows]).reshape(-1, 2)
