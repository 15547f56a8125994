from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from audiomos_cache.errors import OutputExistsError
from audiomos_cache.testing import music
from audiomos_cache.testing.music import (
    DEMO_SYSTEMS,
    SAMPLE_RATE_HZ,
    SYSTEMS,
    WORDS,
    Audio,
    PromptWords,
    damage,
    make_dataset,
    render_prompt,
)

QUIET_FLUTE = PromptWords("slow", "happy", "high", "flute", "without")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "new", prompts=12, seconds=(1.0, 1.5))


def read_labels(root: Path, split: str) -> dict[str, tuple[float, float]]:
    rows = [line.split(",") for line in (root / "sets" / f"{split}_mos_list.txt").read_text().splitlines()]
    return {name: (float(mi), float(ta)) for name, mi, ta in rows}


def all_labels(root: Path) -> dict[str, tuple[float, float]]:
    return {name: label for split in ("train", "dev", "test") for name, label in read_labels(root, split).items()}


def read_prompts(file: Path) -> dict[str, str]:
    header, *rows = file.read_text().splitlines()
    assert header == "id\ttext"
    return dict(row.split("\t", 1) for row in rows)


def system_of(name: str) -> str:
    return name.removeprefix("audiomos2025-track1-")[:4]


def contents(root: Path) -> dict[Path, bytes]:
    return {file.relative_to(root): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_layout_is_that_of_musiceval(root: Path) -> None:
    expected = {f"audiomos2025-track1-{system}_P{p:03d}.wav" for system in SYSTEMS for p in range(1, 13)}
    assert {file.name for file in (root / "wav").iterdir()} == expected
    assert {file.name for file in (root / "sets").iterdir()} == {
        "train_mos_list.txt",
        "dev_mos_list.txt",
        "test_mos_list.txt",
        "eval_list.txt",
    }
    test_ids = sorted(name.removesuffix(".wav") for name in read_labels(root, "test"))
    assert (root / "sets" / "eval_list.txt").read_text().splitlines() == test_ids


def test_splits_share_out_every_clip_and_hold_every_system(root: Path) -> None:
    splits = {split: read_labels(root, split) for split in ("train", "dev", "test")}
    assert {split: len(labels) for split, labels in splits.items()} == {"train": 64, "dev": 16, "test": 16}
    assert len(all_labels(root)) == 96
    for labels in splits.values():
        assert {system_of(name) for name in labels} == set(SYSTEMS)


def test_wavs_are_16_khz_mono_pcm_of_the_length_asked_for(root: Path) -> None:
    infos = [soundfile.info(file) for file in (root / "wav").iterdir()]
    assert {(info.samplerate, info.channels, info.subtype) for info in infos} == {(16_000, 1, "PCM_16")}
    durations = [info.duration for info in infos]
    assert 1.0 <= min(durations) < 1.1 and 1.4 < max(durations) <= 1.5


def test_demo_systems_take_their_prompts_from_the_demo_file(root: Path) -> None:
    prompts, demo = read_prompts(root / "prompt_info.txt"), read_prompts(root / "demo_prompt_info.txt")
    assert list(prompts) == [f"P{p:03d}" for p in range(1, 13)]
    assert len(set(prompts.values())) == 12
    assert set(demo) == {name for name in all_labels(root) if system_of(name) in DEMO_SYSTEMS}
    # The wrong file would give a wrong text:
    assert all(prompts[name[-8:-4]] != text for name, text in demo.items())


def test_labels_are_means_of_five_raters(root: Path) -> None:
    scores = np.array(list(all_labels(root).values()))
    assert scores.min() >= 1 and scores.max() <= 5
    np.testing.assert_allclose(scores * 5, np.round(scores * 5), atol=1e-9)
    assert (scores.std(axis=0) > 0.8).all()


def test_mi_follows_the_systems_damage_and_neighbours_overlap(root: Path) -> None:
    labels = all_labels(root)
    mi = [[label[0] for name, label in labels.items() if system_of(name) == system] for system in SYSTEMS]
    assert spearmanr([np.mean(scores) for scores in mi], range(len(SYSTEMS))).statistic < -0.95
    assert all(max(worse) > min(better) for better, worse in pairwise(mi))


def test_ta_follows_the_words_that_are_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = []

    def note_down(words: PromptWords, seconds: float, seed: int) -> Audio:
        played.append(words.text)
        return np.random.default_rng(seed).normal(0, 0.1, round(seconds * 1000)).astype(np.float32)

    monkeypatch.setattr(music, "render_prompt", note_down)
    root = make_dataset(tmp_path / "data")
    prompts = read_prompts(root / "prompt_info.txt") | read_prompts(root / "demo_prompt_info.txt")
    labels = all_labels(root)
    names = [f"audiomos2025-track1-{system}_P{p:03d}.wav" for system in SYSTEMS for p in range(1, 25)]
    sentences = [prompts[name if system_of(name) in DEMO_SYSTEMS else name[-8:-4]] for name in names]
    shares = [len(set(a.split()) & set(b.split())) for a, b in zip(sentences, played, strict=True)]
    own = [a == b for a, b in zip(sentences, played, strict=True)]

    assert spearmanr(shares, [labels[name][1] for name in names]).statistic > 0.85
    assert 0.3 < np.mean(own) < 0.5


def test_labels_can_be_learnt_from_the_sound(root: Path) -> None:
    def features(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        audio = soundfile.read(root / "wav" / name)[0]
        power = np.abs(np.fft.rfft(audio[: len(audio) // 512 * 512].reshape(-1, 512))) ** 2
        bands = np.log(power[:, 1:].reshape(len(power), 32, 8).sum(2) + 1e-6)
        return np.concatenate([bands.mean(0), bands.std(0)])

    train, test = read_labels(root, "train") | read_labels(root, "dev"), read_labels(root, "test")
    ridge = make_pipeline(StandardScaler(), Ridge(30.0))
    ridge.fit([features(name) for name in train], [mi for mi, _ in train.values()])
    predicted = ridge.predict([features(name) for name in test])
    assert spearmanr(predicted, [mi for mi, _ in test.values()]).statistic > 0.7


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    first, again, other = (
        contents(make_dataset(tmp_path / name, prompts=3, seconds=(0.5, 0.8), seed=seed))
        for name, seed in (("first", 7), ("again", 7), ("other", 8))
    )
    assert len(first) == 3 * len(SYSTEMS) + 6
    assert first == again
    assert all(first[file] != other[file] for file in first if file.suffix == ".wav")


def test_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OutputExistsError, match=r"holds mine\.txt, which is not part of a new dataset"):
        make_dataset(tmp_path)
    with pytest.raises(OutputExistsError, match=r"mine\.txt"):
        make_dataset(tmp_path / "mine.txt")
    assert contents(tmp_path) == {Path("mine.txt"): b"precious"}


def test_refuses_too_few_prompts_before_it_writes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prompts: 2, expected at least 3"):
        make_dataset(tmp_path / "data", prompts=2)
    assert not (tmp_path / "data").exists()


def test_words_are_checked_and_make_a_sentence() -> None:
    assert QUIET_FLUTE.text == "a slow and happy piece for a high flute, without drums"
    with pytest.raises(ValueError, match="tempo: 'brisk' is not one of slow, fast"):
        replace(QUIET_FLUTE, tempo="brisk")


def test_share_counts_the_words_played() -> None:
    assert QUIET_FLUTE.share_in(QUIET_FLUTE) == 1
    assert QUIET_FLUTE.share_in(replace(QUIET_FLUTE, tempo="fast", mood="sad")) == pytest.approx(3 / 5)
    assert QUIET_FLUTE.share_in(PromptWords("fast", "sad", "low", "organ", "with")) == 0


@pytest.mark.parametrize(("mood", "triad"), [("happy", {69, 73, 76}), ("sad", {69, 72, 76})])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_first_chord_is_a_major_or_a_minor(mood: str, triad: set[int], seed: int) -> None:
    first_notes = render_prompt(replace(QUIET_FLUTE, mood=mood), 0.45, seed)
    spectrum = np.abs(np.fft.rfft(first_notes * np.hanning(len(first_notes)), SAMPLE_RATE_HZ))  # a bin per Hz
    loudness = {note: spectrum[round(440 * 2 ** ((note - 69) / 12))] for note in range(67, 79)}
    assert set(sorted(loudness, key=lambda note: loudness[note])[-3:]) == triad


def centre_hz(audio: Audio) -> float:
    spectrum = np.abs(np.fft.rfft(audio)) ** 2
    return float(np.average(np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE_HZ), weights=spectrum))


def onsets(audio: Audio) -> int:
    """How often the sound grows by half from one hundredth of a second to the next."""
    loudness = np.sqrt(np.mean(audio[: len(audio) // 160 * 160].reshape(-1, 160) ** 2, axis=1))
    return int((loudness[1:] > 1.5 * loudness[:-1]).sum())


@pytest.mark.parametrize(
    ("quality", "more", "less"),
    [
        (onsets, {"tempo": "fast", "instrument": "guitar"}, {"tempo": "slow", "instrument": "guitar"}),
        (onsets, {"drums": "with"}, {"drums": "without"}),
        (centre_hz, {"register": "high"}, {"register": "low"}),
        (centre_hz, {"instrument": "synth"}, {"instrument": "flute"}),
    ],
)
def test_words_are_heard(quality: Callable[[Audio], float], more: dict[str, str], less: dict[str, str]) -> None:
    heard_more, heard_less = (
        quality(render_prompt(replace(QUIET_FLUTE, **words), 4.0, seed=1)) for words in (more, less)
    )
    assert heard_more > 1.5 * heard_less


@pytest.mark.parametrize("instrument", WORDS["instrument"])
@pytest.mark.parametrize("drums", WORDS["drums"])
def test_clean_music_is_of_one_loudness_and_not_clipped(instrument: str, drums: str) -> None:
    audio = render_prompt(PromptWords("fast", "sad", "low", instrument, drums), 2.0, seed=3)
    assert audio.dtype == np.float32 and audio.shape == (2 * SAMPLE_RATE_HZ,)
    assert np.abs(audio).max() <= 0.95
    assert np.sqrt(np.mean(audio**2)) == pytest.approx(0.1, rel=0.05)


def test_damage_grows_with_strength_and_keeps_the_loudness() -> None:
    clean = render_prompt(QUIET_FLUTE, 2.0, seed=0)
    damaged = [damage(clean, strength, seed=0) for strength in (0, 0.25, 0.5, 0.75, 1)]
    spectra = [np.log(np.abs(np.fft.rfft(audio)) + 1e-3) for audio in (clean, *damaged)]
    distances = [np.abs(spectrum - spectra[0]).mean() for spectrum in spectra[1:]]
    assert distances == sorted(distances) and distances[0] < 0.1 < distances[1]
    for audio in damaged:
        assert np.sqrt(np.mean(audio**2)) == pytest.approx(0.1, rel=1e-3)
