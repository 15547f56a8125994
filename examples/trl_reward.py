"""A reward function for TRL: the opinion that listeners would have of the music that a completion stands for.

How a completion becomes music is yours: decode its audio tokens, render its notes, run its code. In this folder:

    from trl import GRPOConfig, GRPOTrainer
    from trl_reward import make_reward

    def to_audio(completion):
        return my_codec.decode(completion), 44100  # or None, where it is no music

    trainer = GRPOTrainer(
        model="my-music-model",
        args=GRPOConfig(output_dir="out"),
        train_dataset=dataset,  # with a column `caption` here
        reward_funcs=[
            make_reward("muq-eval-a1", "mi", to_audio=to_audio),
            make_reward("model", "ta", to_audio=to_audio, prompt_column="caption"),
        ],
    )
    trainer.train()

Best-of-N needs no trainer: `clips[Scorer("model").reward(clips, prompt, 44100).nan_to_num(0).argmax()]`.

A policy learns the mistakes of what it is optimised against: keep a KL penalty, and compare what it makes with other
bundles, and with listeners. Interface: https://huggingface.co/docs/trl/grpo_trainer, "Using a custom reward function".
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from audiomos_cache import Scorer


def make_reward(
    bundle: str = "muq-eval-a1",
    target: str = "mi",
    *,
    to_audio: Callable[[Any], Any],
    prompt_column: str | None = None,
    sample_rate: float | None = None,
    failed: float | None = None,
    **options: Any,
) -> Callable[..., list[float | None]]:
    """Load a bundle, and return a reward function that scores with it.

    Args:
        bundle: the name of a published one, a folder, or a hub repository id.
        target: which of its scores is the reward; of most bundles from 1 to 5.
        to_audio: turns a completion, as TRL gives it, into a clip, as `Scorer.score` takes it: a path, samples, or
            samples and their rate; None where it is no music.
        prompt_column: the column of the dataset with the text that the music is to fit, of a target that hears it.
        sample_rate: of samples that come without their own, in Hz.
        failed: the reward of a completion that cannot be scored. None leaves it to the trainer, which warns and takes
            it out of its group; until June 2026 TRL took it for 0, which is less than the worst music has.
        options: of `Scorer`, such as the device.
    """
    scorer = Scorer(bundle, **options)

    def reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """Return the reward of each completion; the columns of the dataset come as keyword arguments."""
        prompts = columns[prompt_column] if prompt_column else None
        clips = [to_audio(completion) for completion in completions]
        rewards = scorer.reward(clips, prompts, sample_rate, target=target).tolist()
        return [failed if math.isnan(each) else each for each in rewards]

    reward.__name__ = target  # by which TRL logs it
    return reward
