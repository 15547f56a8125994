"""A small dataset of made-up music, for the demo, our tests and users' tests.

`make_dataset` writes a folder in the MusicEval-phase1 layout: a prompt is a sentence of five words, the music
plays those words (or, in a share of the clips, others), and eight systems damage it more and more. The labels
are made, not heard: MI follows the damage and TA the words that match. They show that a pipeline learns and
are worthless as a benchmark.
"""

from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from audiomos_cache.artifacts import refuse_occupied

Audio = npt.NDArray[np.float32]
_Wave = npt.NDArray[np.float64]

SAMPLE_RATE_HZ = 16_000
RATERS = 5

# From the cleanest to the most damaged, in even steps. A clip is up to DAMAGE_SPREAD off: neighbours overlap.
SYSTEMS = ("S003", "S007", "S001", "S008", "S004", "S002", "S006", "S005")
DAMAGE_SPREAD = 0.12
# These take their prompts from `demo_prompt_info.txt`, as in the real data.
DEMO_SYSTEMS = ("S001", "S006")

WORDS = {
    "tempo": ("slow", "fast"),
    "mood": ("happy", "sad"),
    "register": ("low", "high"),
    "instrument": ("flute", "organ", "guitar", "synth"),
    "drums": ("with", "without"),
}


@dataclass(frozen=True)
class PromptWords:
    """The words of a prompt, one of each entry of `WORDS`.

    Raises:
        ValueError: a word is not one of its entry's.
    """

    tempo: str
    mood: str
    register: str
    instrument: str
    drums: str

    def __post_init__(self) -> None:
        for entry, word in asdict(self).items():
            if word not in WORDS[entry]:
                raise ValueError(f"{entry}: {word!r} is not one of {', '.join(WORDS[entry])}")

    @property
    def text(self) -> str:
        """The prompt as a sentence."""
        melody = f"a {self.tempo} and {self.mood} piece for a {self.register} {self.instrument}"
        return f"{melody}, {self.drums} drums"

    def share_in(self, played: "PromptWords") -> float:
        """The share of these words that `played` has too, 0 to 1."""
        return len(asdict(self).items() & asdict(played).items()) / len(WORDS)


@dataclass(frozen=True)
class _Timbre:
    harmonics: tuple[float, ...]
    attack_s: float
    decay_s: float


_TIMBRES = {
    "flute": _Timbre((1, 0.12, 0.05), attack_s=0.05, decay_s=4),
    "organ": _Timbre((1, 0.7, 0.4, 0.5, 0, 0.3, 0, 0.3), attack_s=0.01, decay_s=60),
    "guitar": _Timbre(tuple(1 / k for k in range(1, 9)), attack_s=0.003, decay_s=0.18),
    "synth": _Timbre(tuple(1 / k for k in range(1, 41)), attack_s=0.01, decay_s=2),
}
_BASS = _Timbre((1, 0.3), attack_s=0.01, decay_s=0.6)

# Every piece is in A, so that major and minor are different pitches and not only different intervals.
_TONIC = {"low": 45, "high": 69}  # as MIDI notes: A2 and A4
_BASS_TONIC = 33
_SCALES = {"happy": (0, 2, 4, 5, 7, 9, 11), "sad": (0, 2, 3, 5, 7, 8, 10)}
_PROGRESSIONS = ((0, 4, 5, 3), (0, 3, 4, 3), (0, 5, 3, 4))
_BEAT_S = {"slow": 60 / 66, "fast": 60 / 168}
_RMS, _PEAK = 0.1, 0.95


def render_prompt(words: PromptWords, seconds: float, seed: int) -> Audio:
    """Play chords, a melody, a bass and perhaps drums as the words ask for, from the tonic chord on.

    Args:
        words: what to play.
        seconds: length of the clip.
        seed: decides the chord progression, the melody and the drums' noise.
    Returns:
        (seconds * SAMPLE_RATE_HZ,) float32 at 0.1 RMS or below, peak at most 0.95.
    """
    rng = np.random.default_rng(seed)
    track = np.zeros(round(seconds * SAMPLE_RATE_HZ))
    timbre, tonic, scale = _TIMBRES[words.instrument], _TONIC[words.register], _SCALES[words.mood]
    beat_s = _BEAT_S[words.tempo]
    progression = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]

    for beat in range(int(np.ceil(seconds / beat_s))):
        root = progression[beat // 2 % len(progression)]
        start_s = beat * beat_s
        if beat % 2 == 0:
            for third in (0, 2, 4):
                _add(track, start_s, 0.3 * _note(timbre, tonic + _semitones(scale, root + third), 2 * beat_s))
        _add(track, start_s, 0.5 * _note(_BASS, _BASS_TONIC + _semitones(scale, root), beat_s))
        chord_tone = root + int(rng.choice((0, 2, 4)))
        for half, degree in enumerate((chord_tone, chord_tone + int(rng.choice((-1, 0, 1))))):
            pitch = tonic + 12 + _semitones(scale, degree)
            _add(track, start_s + half * beat_s / 2, 0.4 * _note(timbre, pitch, beat_s / 2))
        if words.drums == "with":
            _add(track, start_s, 0.8 * _rattle(rng, 0.04) if beat % 2 else _kick())
            for half in (0, 1):
                _add(track, start_s + half * beat_s / 2, 0.3 * np.diff(_rattle(rng, 0.012)))
    return _level(track)


def _semitones(scale: tuple[int, ...], degree: int) -> int:
    octave, step = divmod(degree, len(scale))
    return scale[step] + 12 * octave


def _add(track: _Wave, start_s: float, wave: _Wave) -> None:
    rest = track[round(start_s * SAMPLE_RATE_HZ) :]
    rest[: len(wave)] += wave[: len(rest)]


def _note(timbre: _Timbre, pitch: int, duration_s: float) -> _Wave:
    seconds = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    hz = 440 * float(np.exp2((pitch - 69) / 12))
    period = _period(timbre.harmonics[: int(0.95 * SAMPLE_RATE_HZ / 2 / hz)])  # no harmonic aliases
    tone: _Wave = period[(seconds * hz % 1 * len(period)).astype(int)]
    fade: _Wave = np.minimum(1, seconds / timbre.attack_s) * np.minimum(1, (duration_s - seconds) / 0.02)
    return tone * fade * np.exp(-seconds / timbre.decay_s)


@cache
def _period(harmonics: tuple[float, ...]) -> _Wave:
    """One period of a tone: looking it up is ten times faster than summing sines for every note."""
    phase = 2 * np.pi * np.arange(4096) / 4096
    wave = sum((gain * np.sin(k * phase) for k, gain in enumerate(harmonics, 1)), np.zeros(4096))
    return wave / _rms(wave)


def _kick() -> _Wave:
    seconds = np.arange(0, 0.2, 1 / SAMPLE_RATE_HZ)
    falling_tone: _Wave = np.sin(2 * np.pi * (50 * seconds - 4 * np.exp(-seconds / 0.03)))
    return 2 * falling_tone * np.exp(-seconds / 0.06)


def _rattle(rng: np.random.Generator, decay_s: float) -> _Wave:
    seconds = np.arange(0, 4 * decay_s, 1 / SAMPLE_RATE_HZ)
    return rng.standard_normal(len(seconds)) * np.exp(-seconds / decay_s)


def _rms(audio: _Wave) -> float:
    return float(np.sqrt(np.mean(audio**2)))


def _level(audio: _Wave) -> Audio:
    """Bring audio to one loudness, or as near as its peak allows."""
    gain = min(_RMS / _rms(audio), _PEAK / float(np.abs(audio).max()))
    return (gain * audio).astype(np.float32)


def damage(audio: Audio, strength: float, seed: int) -> Audio:
    """Damage a clip: wow, clipping, coarse samples, low-pass, noise and dropouts, in a mix of its own.

    Args:
        audio: (N,) float32.
        strength: 0 (next to nothing) to 1 (hardly music).
        seed: decides the mix: how far each kind of damage is above or below `strength`.
    Returns:
        (N,) float32 at the loudness of `render_prompt`: loudness does not reveal the damage.
    """
    rng = np.random.default_rng(seed)
    wow, clipping, coarse, low_pass, noise, dropouts = np.clip(strength * rng.uniform(0.6, 1.4, 6), 0, 1)
    samples = np.arange(len(audio))
    damaged = audio.astype(np.float64)

    warp = 60 * wow * np.sin(2 * np.pi * (1.3 * samples / SAMPLE_RATE_HZ + rng.random()))
    damaged = np.interp(samples + warp, samples, damaged)
    limit = np.abs(damaged).max() * (1 - 0.85 * clipping)
    damaged = np.clip(damaged, -limit, limit)
    step = limit * 2 ** (10 * coarse - 13)
    damaged = np.round(damaged / step) * step
    hz = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE_HZ)
    cutoff_hz = 8000 * 2 ** (-2.5 * low_pass)
    damaged = np.fft.irfft(np.fft.rfft(damaged) / np.sqrt(1 + (hz / cutoff_hz) ** 8), len(audio))
    damaged += 0.3 * noise**2 * _rms(damaged) * rng.standard_normal(len(audio))
    gap = SAMPLE_RATE_HZ // 25
    for start in rng.integers(len(audio), size=rng.poisson(2 * dropouts * len(audio) / SAMPLE_RATE_HZ)):
        damaged[start : start + gap] = 0
    return _level(damaged)


def make_dataset(
    root: str | PathLike[str], *, prompts: int = 24, seconds: tuple[float, float] = (4.0, 8.0), seed: int = 0
) -> Path:
    """Write a MusicEval-phase1 folder of made-up music: 8 systems times `prompts` clips, 16 kHz mono PCM16.

    Two clips in five play their prompt, one in five three of its words, two in five the least alike of the
    other prompts. Each split has all systems, about 70/15/15 percent of their clips. The labels are made, not
    heard: the means of five simulated raters, so multiples of 0.2.

    Args:
        root: a new or an empty folder.
        prompts: prompts per system, at least 3 (one for each split).
        seconds: shortest and longest clip.
        seed: the same seed writes the same bytes.
    Returns:
        `root`, as a Path.
    Raises:
        OutputExistsError: `root` is a file, or a folder that is not empty.
        ValueError: fewer than 3 prompts.
    """
    if prompts < 3:
        raise ValueError(f"prompts: {prompts}, expected at least 3, one for each split")
    root = Path(root)
    refuse_occupied(root, what="new dataset", own=(), overwrite=False)
    for folder in ("wav", "sets"):
        (root / folder).mkdir(parents=True)

    rng = np.random.default_rng(seed)
    pool = _draw_prompts(prompts, rng)
    held_out = max(1, round(0.15 * prompts))
    lists: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    infos = {"prompt_info.txt": [f"P{p:03d}\t{words.text}" for p, words in enumerate(pool, 1)]}
    infos["demo_prompt_info.txt"] = []

    for rank, system in enumerate(SYSTEMS):
        splits = ["dev"] * held_out + ["test"] * held_out + ["train"] * (prompts - 2 * held_out)
        for p, split in enumerate(rng.permutation(splits)):
            name = f"audiomos2025-track1-{system}_P{p + 1:03d}.wav"
            # A demo system has another prompt under the same number: reading the wrong file gives the wrong prompt.
            words = pool[(p + 1) % prompts if system in DEMO_SYSTEMS else p]
            if system in DEMO_SYSTEMS:
                infos["demo_prompt_info.txt"].append(f"{name}\t{words.text}")
            audio, mi, ta = _make_clip(words, pool, rank / (len(SYSTEMS) - 1), rng.uniform(*seconds), rng)
            soundfile.write(root / "wav" / name, audio, SAMPLE_RATE_HZ, subtype="PCM_16")
            lists[split].append(f"{name},{mi:.1f},{ta:.1f}")

    for split, lines in lists.items():
        _write_lines(root / "sets" / f"{split}_mos_list.txt", sorted(lines))
    _write_lines(root / "sets" / "eval_list.txt", sorted(line.partition(".wav")[0] for line in lists["test"]))
    for file, lines in infos.items():
        _write_lines(root / file, ["id\ttext", *sorted(lines)])
    return root


def _draw_prompts(count: int, rng: np.random.Generator) -> list[PromptWords]:
    """Prompts in random order, none twice before every one was drawn."""
    every = [PromptWords(*words) for words in product(*WORDS.values())]
    return [every[i] for i in np.resize(rng.permutation(len(every)), count)]


def _make_clip(
    words: PromptWords,
    pool: list[PromptWords],
    system_damage: float,
    seconds: float,
    rng: np.random.Generator,
) -> tuple[Audio, float, float]:
    """Audio, MI and TA of one clip."""
    other = min(pool, key=words.share_in)
    swapped = rng.permutation(list(WORDS))[: rng.choice((0, 0, 2, 5, 5))]
    played = replace(words, **{entry: getattr(other, entry) for entry in swapped})
    strength = float(np.clip(system_damage + rng.uniform(-DAMAGE_SPREAD, DAMAGE_SPREAD), 0, 1))

    audio = render_prompt(played, seconds, seed=int(rng.integers(2**32)))
    audio = damage(audio, strength, seed=int(rng.integers(2**32)))
    mi = _rate(4.7 - 3.4 * strength + rng.normal(0, 0.15), rng)
    ta = _rate(1.2 + 3.6 * words.share_in(played) - 0.6 * strength, rng)
    return audio, mi, ta


def _rate(opinion: float, rng: np.random.Generator) -> float:
    """The mean of five whole scores around an opinion."""
    return float(np.clip(np.round(opinion + rng.normal(0, 0.5, RATERS)), 1, 5).mean())


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
