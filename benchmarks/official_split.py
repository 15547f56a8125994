"""The official split of MusicEval, and what `reproduce.py` makes of it: paths, encoders, and what must not change."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from resumable_steps import Facts

from audiomos_cache.artifacts import hash_bytes
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.dataset.loading import load_dataset
from audiomos_cache.devices import resolve_device
from audiomos_cache.errors import DataError, first_five

PACKAGES = ("audiomos-cache", "torch", "torchaudio", "muq", "transformers", "numpy", "scipy", "scikit-learn", "h5py",
            "safetensors", "soundfile")  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """What is reproduced, and of what.

    Attributes:
        data: a folder in the layout of MusicEval-phase1.
        out: the folder of the results.
        muq_eval: the bundle that scores the held-out clips first.
        audio_encoder, text_encoder, pad_to: what `extract` takes.
        overrides: of the heads.
        made_labels: whether the labels were made by code.
    """

    data: Path
    out: Path
    muq_eval: str
    audio_encoder: str = "muq"
    text_encoder: str = "roberta"
    pad_to: float = 30.0
    overrides: tuple[str, ...] = ()
    made_labels: bool = False

    @property
    def held_out(self) -> str:
        """The split that decides nothing: `test`, or `eval` where it is that one that has labels."""
        return next((split for split in ("test", "eval") if self.labels(split).is_file()), "test")

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are extracted."""
        return ("train", "dev", self.held_out)

    def labels(self, split: str) -> Path:
        """The list of a split's clips and their labels."""
        return self.data / "sets" / f"{split}_mos_list.txt"

    def predictions(self, name: str) -> Path:
        """A file of predictions of the held-out clips that is written here."""
        return self.out / "predictions" / f"{name}.jsonl"

    @property
    def labels_of_scored(self) -> Path:
        """The labels of the held-out clips that MuQ-Eval-A1 gives a score."""
        return self.out / "predictions" / "muq-eval-a1.labels.txt"

    def clips(self) -> Mapping[str, tuple[Clip, ...]]:
        """Read the lists of all splits.

        Raises:
            DataError: the folder is not in the layout of MusicEval-phase1, or a clip has no file or no prompt.
        """
        needed = [self.labels(split) for split in self.splits]
        needed += [self.data / "wav", self.data / "prompt_info.txt", self.data / "demo_prompt_info.txt"]
        if missing := [path.relative_to(self.data).as_posix() for path in needed if not path.exists()]:
            raise DataError(
                f"{self.data}: no {first_five(missing)}, expected MusicEval-phase1: wav/, sets/train_mos_list.txt, "
                "sets/dev_mos_list.txt, sets/test_mos_list.txt, prompt_info.txt and demo_prompt_info.txt; give its "
                "folder as DATA=, or DATA=demo for made-up music"
            )
        found = load_dataset(self.data, self.splits)
        bad = [f"{clip.path} does not exist" for clips in found.values() for clip in clips if not clip.path.exists()]
        bad += [f"{clip.id} has no prompt" for clips in found.values() for clip in clips if clip.prompt is None]
        if bad:
            raise DataError(
                f"{self.data}: {first_five(bad)}; unpack the dataset again, and put the audio of the eval phase into "
                "wav, if it has a folder of its own"
            )
        return found

    def made_with(self) -> Facts:
        """What decides the results, as plain values: another run of the same folder must have the same."""
        return {
            "labels": {split: hash_bytes(self.labels(split).read_bytes()) for split in self.splits},
            "muq_eval": "made" if self.made_labels else self.muq_eval,
            "audio_encoder": self.audio_encoder,
            "text_encoder": self.text_encoder,
            "versions": {name: version(name) for name in PACKAGES},
            "device": resolve_device("auto"),
        }

    def described(self, clips: Mapping[str, tuple[Clip, ...]]) -> Facts:
        """Count clips, systems and prompts of each split."""
        return {
            "held_out": self.held_out,
            "clips": {split: len(each) for split, each in clips.items()},
            "systems": {split: len({clip.system for clip in each}) for split, each in clips.items()},
            "prompts": {split: len({clip.prompt for clip in each}) for split, each in clips.items()},
        }
