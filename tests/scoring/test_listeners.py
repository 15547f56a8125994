"""Several bundles in one call: what is shared, and that each gives what it gives alone."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from safetensors.torch import save_file
from torch import nn

from audiomos_cache.bundle.bundle import Bundle
from audiomos_cache.bundle.load import load_bundle
from audiomos_cache.bundle.published import make_published_bundle
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder, seed_weights
from audiomos_cache.encoders.muq import MuQEncoder, build_muq
from audiomos_cache.encoders.muq_weights import RELEASED_CONFIG
from audiomos_cache.encoders.tiny import TINY_MUQ_CONFIG
from audiomos_cache.errors import BundleError
from audiomos_cache.published.catalogue import MOST_SECONDS, PUBLISHED
from audiomos_cache.scoring.scorer import Scorer
from audiomos_cache.scoring.windows import DecodedClip
from audiomos_cache.testing import make_muq_eval
from tests.support.published import GOLDEN, made_up
from tests.support.scoring import make_bundle, wav

WIDE: dict[str, Any] = {
    **RELEASED_CONFIG,
    "encoder_depth": 7,
    "conv_dim": 8,
    "w2v2_config": RELEASED_CONFIG["w2v2_config"] | {"intermediate_size": 64},
}


@pytest.fixture(scope="module")
def muq() -> Any:
    """A MuQ as wide as the released one, of seven layers."""
    model = build_muq(WIDE)
    seed_weights(model, 3)
    return model


@pytest.fixture(scope="module")
def models(muq: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All published bundles, with one encoder: muq-eval-a1 with its own, songeval and madb with the same."""
    folder = tmp_path_factory.mktemp("models")
    weights = {"muq-eval-a1": make_muq_eval(folder / "weights", encoder=muq)}
    encoder = MuQEncoder(muq, name="muq", source="seeded", revision="none")
    songeval = made_up(GOLDEN["songeval"]["parameters"], GOLDEN["songeval"]["SCALE"])
    weights["songeval"] = folder / "model.safetensors"
    save_file(songeval, weights["songeval"])
    weights["madb"] = folder / "dimensions"
    weights["madb"].mkdir()
    madb = made_up(GOLDEN["madb"]["parameters"], GOLDEN["madb"]["SCALE"])
    for number, file in enumerate(PUBLISHED["madb"].files):
        changed = madb | {"head.mlp.8.bias": madb["head.mlp.8.bias"] + number / 10}
        torch.save(changed, weights["madb"] / Path(file).name)
    for name, path in weights.items():
        given = None if name == "muq-eval-a1" else encoder
        make_published_bundle(name, path, folder / name, given, check=False)  # type: ignore[arg-type]
    return {name: folder / name for name in weights}


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wav(tmp_path_factory.mktemp("song") / "song.wav", 13.3, rate=44100, channels=2, seed=2)


@pytest.mark.slow
def test_all_published_heads_by_their_originals_steps(models: dict[str, Path], muq: Any, song: Path) -> None:
    """Resample, crop, MuQ's own modules, and the heads written out once more; nothing of `audiomos_cache.scoring`."""
    scorer = Scorer(list(models.values()), audio_encoder=MuQEncoder(muq, name="m", source="s", revision="r"))
    [score] = scorer.score([song])
    samples, rate = soundfile.read(song, dtype="float32")
    mono = torch.from_numpy(samples.mean(axis=1, dtype=np.float64).astype(np.float32))
    whole = torchaudio.functional.resample(mono, rate, 24000)
    start = (len(whole) - 240_000) // 2
    with torch.inference_mode():
        middle, _ = hidden_states(muq, whole[start : start + 240_000])
        last, sixth = hidden_states(muq, whole)
        checkpoint = torch.load(models["muq-eval-a1"].parent / "weights" / "model_state_dict.pt", weights_only=True)
        for target, name in (("MI", "mi"), ("TA", "ta_without_prompt")):
            expected = muq_eval(checkpoint, target, middle)
            assert score.bundles["muq-eval-a1"].scores[name] == pytest.approx(expected, abs=1e-5)
        expected_song = songeval(made_up(GOLDEN["songeval"]["parameters"], GOLDEN["songeval"]["SCALE"]), sixth)
        assert list(score.bundles["songeval"].scores.values()) == pytest.approx(expected_song, abs=1e-5)
        first = madb(made_up(GOLDEN["madb"]["parameters"], GOLDEN["madb"]["SCALE"]), last.mean(0))
    found = list(score.bundles["madb"].scores.values())
    assert found == pytest.approx([first + number / 10 for number in range(11)], abs=1e-5)
    assert score.bundles["madb"].heard == score.bundles["songeval"].heard == (0.0, pytest.approx(13.3, abs=1e-4))
    assert score.bundles["muq-eval-a1"].heard == pytest.approx((1.65, 11.65), abs=1e-4)


def hidden_states(muq: Any, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The last and the sixth hidden state, (T, D), by the class's own modules."""
    kept = []
    model = muq.model
    mel = model.normalize(model.preprocessing(waveform[None], features=["melspec_2048"]))["melspec_2048"]
    hook = model.conformer.layers[6].register_forward_pre_hook(lambda _module, args: kept.append(args[0]))
    last = model.conformer(model.conv(mel)).last_hidden_state
    hook.remove()
    return last[0], kept[0][0]


def muq_eval(tensors: dict[str, torch.Tensor], target: str, frames: torch.Tensor) -> float:
    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    logits = linear("encoder.pooling.attention.2", linear("encoder.pooling.attention.0", frames).tanh())
    pooled = (logits.softmax(dim=0) * frames).sum(dim=0)
    hidden = nn.functional.gelu(linear(f"heads.{target}.mlp.0", pooled))
    return float(linear(f"heads.{target}.mlp.3", hidden))


def songeval(tensors: dict[str, torch.Tensor], frames: torch.Tensor) -> list[float]:
    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    wide = linear("ffd.2", linear("ffd.0", frames).relu())
    x = wide
    for i in range(4):
        projected = x @ tensors[f"attn.{i}.in_proj_weight"].T + tensors[f"attn.{i}.in_proj_bias"]
        q, k, v = (each.reshape(len(x), 8, 128).transpose(0, 1) for each in projected.chunk(3, dim=1))
        attended = (q @ k.transpose(1, 2) / 128**0.5).softmax(dim=2) @ v
        x = linear(f"attn.{i}.out_proj", attended.transpose(0, 1).reshape(len(x), 1024))
    pooled = torch.cat((x.mean(dim=0), wide.amax(dim=0)))
    scores: list[float] = (linear("fc", pooled).tanh() * 2 + 3).tolist()
    return scores


def madb(tensors: dict[str, torch.Tensor], mean: torch.Tensor) -> float:
    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def layer_norm(name: str, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def batch_norm(name: str, x: torch.Tensor) -> torch.Tensor:
        scaled = (x - tensors[f"{name}.running_mean"]) / (tensors[f"{name}.running_var"] + 1e-5).sqrt()
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    # Eight positions that attend to each other, in eight attention heads of 32.
    x = linear("transformer_encoder.input_linear", mean).reshape(8, 256)
    x = x + tensors["transformer_encoder.pos_encoder.pe"][0]
    for i in range(2):
        name = f"transformer_encoder.transformer_encoder.layers.{i}"
        projected = x @ tensors[f"{name}.self_attn.in_proj_weight"].T + tensors[f"{name}.self_attn.in_proj_bias"]
        q, k, v = (each.reshape(8, 8, 32).transpose(0, 1) for each in projected.chunk(3, dim=1))
        attended = ((q @ k.transpose(1, 2) / 32**0.5).softmax(dim=2) @ v).transpose(0, 1).reshape(8, 256)
        x = layer_norm(f"{name}.norm1", x + linear(f"{name}.self_attn.out_proj", attended))
        x = layer_norm(f"{name}.norm2", x + linear(f"{name}.linear2", linear(f"{name}.linear1", x).relu()))
    hidden = batch_norm("head.mlp.2", linear("head.mlp.0", x.reshape(2048)).relu())
    hidden = batch_norm("head.mlp.6", linear("head.mlp.4", hidden).relu())
    return float(linear("head.mlp.8", hidden))


class Counted:
    """Counts how often a method is called, and with how much."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.calls: list[Any] = []
        original = getattr(owner, name)

        def counting(self_: Any, *args: Any, **kwargs: Any) -> Any:
            self.calls.append(args[0] if args else None)
            return original(self_, *args, **kwargs)

        patch.setattr(owner, name, counting)


@pytest.mark.slow
def test_each_clip_is_decoded_once_and_encoded_once_for_the_same_features(
    models: dict[str, Path], muq: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = tmp_path / "twin"  # the same head under another name: another bundle of the same features
    make_published_bundle("muq-eval-a1", models["muq-eval-a1"].parent / "weights", twin, check=False)
    decoded = Counted(monkeypatch, DecodedClip, "__init__")
    encoded = Counted(monkeypatch, MuQEncoder, "encode")
    built = Counted(monkeypatch, MuQEncoder, "__init__")
    bundles = [load_bundle(models["muq-eval-a1"]), load_bundle(twin), load_bundle(models["songeval"])]
    encoder = MuQEncoder(muq, name="m", source="s", revision="r")
    scorer = Scorer(bundles, audio_encoder=encoder, device="cpu")
    clips = [wav(tmp_path / f"{i}.wav", 4.0 + i, seed=i) for i in range(3)]
    scores = scorer.score(clips)
    assert [*scorer.entries] == ["muq-eval-a1", "twin", "songeval"] and len(built.calls) == 1
    assert len(decoded.calls) == 3
    # Ten seconds of each for two bundles, and the whole of each for the third: 3 + 3 waveforms, not 9.
    assert sum(len(each) for each in encoded.calls) == 6
    for score in scores:
        assert score.bundles["twin"].scores == score.bundles["muq-eval-a1"].scores
        assert score.mi is None and score.scores == {} and score.error is None


def test_each_bundle_gives_what_it_gives_alone(audio: AudioEncoder, text: TextEncoder, tmp_path: Path) -> None:
    """Heads that were trained here, in windows of 2 s of the masked kind, beside a published one."""
    model = tmp_path / "muq-eval"
    make_published_bundle("muq-eval-a1", make_muq_eval(tmp_path / "weights"), model, check=False)
    trained = make_bundle(audio, text, pad_to_s=2.0)
    clip = wav(tmp_path / "a.wav", 5.0, seed=4)
    alone = [
        Scorer(trained, audio_encoder=audio, text_encoder=text).score([clip], "rain")[0],
        Scorer(model, device="cpu").score([clip], "rain")[0],
    ]
    other = replace(trained, name="other")
    published = load_bundle(model)
    [score] = Scorer([trained, other], audio_encoder=audio, text_encoder=text).score([clip], "rain")
    assert list(score.bundles) == ["model", "other"]
    for each in score.bundles.values():
        assert (each.mi, each.ta, each.scores, each.heard) == (
            alone[0].mi, alone[0].ta, alone[0].scores, alone[0].heard
        )  # fmt: skip
    [score] = Scorer([published, trained], text_encoder=text, device="cpu").score([clip], "rain")
    assert score.bundles["muq-eval"].scores == alone[1].scores
    assert score.bundles["model"].scores == alone[0].scores
    assert score.bundles["muq-eval"].warnings == ("no TA: muq-eval does not hear prompts",)
    assert score.warnings == () and score.bundles["model"].warnings != ()  # untrained


def test_the_order_of_bundles_that_store_other_dtypes_changes_nothing(
    audio: AudioEncoder, text: TextEncoder, tmp_path: Path
) -> None:
    """Prompts are rounded as each bundle's were, and not as those of the bundle that came first."""
    half, full = (make_bundle(audio, text, pad_to_s=2.0, dtype=dtype) for dtype in ("float16", "float32"))
    bundles = [replace(half, name="half"), replace(full, name="full")]
    clips = [wav(tmp_path / f"{i}.wav", 3.0 + i, seed=i) for i in range(2)]
    prompts = ["A slow piano ballad.", "Fast drums"]

    def scores(*some: Bundle) -> list[Any]:
        scorer = Scorer(list(some), audio_encoder=audio, text_encoder=text)
        return [each.bundles or {some[0].name: each} for each in scorer.score(clips, prompts)]

    alone = {name: found for each in bundles for name, found in [(each.name, scores(each))]}
    for order in (bundles, bundles[::-1]):
        for clip, found in enumerate(scores(*order)):
            assert set(found) == {"half", "full"}
            for name, score in found.items():
                expected = alone[name][clip][name]
                assert (score.scores, score.ta_interval) == (expected.scores, expected.ta_interval)
                assert score.ta is not None
    assert alone["half"][0]["half"].scores["ta"] != alone["full"][0]["full"].scores["ta"], "or it shows nothing"


def test_whole_songs_are_encoded_one_at_a_time_whatever_the_batch_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        PUBLISHED, "muq-eval-a1", replace(PUBLISHED["muq-eval-a1"], window="whole", seconds=MOST_SECONDS)
    )
    model = tmp_path / "whole"
    make_published_bundle("muq-eval-a1", make_muq_eval(tmp_path / "weights"), model, check=False)
    clips = [wav(tmp_path / f"{i}.wav", 4.0, seed=i) for i in range(3)]
    alone = [Scorer(model, device="cpu").score([clip])[0].scores for clip in clips]
    encoded = Counted(monkeypatch, MuQEncoder, "encode")
    found = Scorer(model, device="cpu", batch_size=8).score(clips)
    assert [len(each) for each in encoded.calls] == [1, 1, 1]
    assert [each.scores for each in found] == alone


def test_two_bundles_of_one_name_are_refused(audio: AudioEncoder, text: TextEncoder) -> None:
    trained = make_bundle(audio, text)
    with pytest.raises(BundleError, match=r"^2 bundles, and more than one is called 'model', which their scores are"):
        Scorer([trained, trained], audio_encoder=audio, text_encoder=text)


def test_a_clip_that_is_too_long_for_one_bundle_has_the_scores_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PUBLISHED, "songeval", replace(PUBLISHED["songeval"], layer=-1))
    small = MuQEncoder(build_muq(TINY_MUQ_CONFIG | {"encoder_dim": 64}), name="m", source="s", revision="r")
    tensors = {"ffd.0": (4, 64), "ffd.2": (64, 4), "fc": (5, 128)}
    shapes = {f"{name}.weight": shape for name, shape in tensors.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in tensors.items()}
    for i in range(4):
        shapes |= {f"attn.{i}.in_proj_weight": (192, 64), f"attn.{i}.in_proj_bias": (192,)}
        shapes |= {f"attn.{i}.out_proj.weight": (64, 64), f"attn.{i}.out_proj.bias": (64,)}
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "model.safetensors")
    make_published_bundle("songeval", tmp_path / "model.safetensors", tmp_path / "songeval", small, check=False)
    make_published_bundle("muq-eval-a1", make_muq_eval(tmp_path / "weights"), tmp_path / "muq-eval", check=False)
    room = int(small.working_bytes(24_000 * 4) / 0.8)
    monkeypatch.setattr("audiomos_cache.scoring.listeners.available_ram", lambda: room)
    songs = [wav(tmp_path / f"{seconds}.wav", seconds) for seconds in (3.0, 20.0)]
    scorer = Scorer(load_bundle(tmp_path / "songeval"), audio_encoder=small)
    short, long = scorer.score(songs, on_error="return")
    dimensions = ("coherence", "musicality", "memorability", "clarity", "naturalness")
    assert short.scores == dict.fromkeys(dimensions, 3.0)
    assert long.error is not None and long.scores == dict.fromkeys(dimensions)
    assert re.fullmatch(
        rf"{songs[1]}: 20\.0 s long, and there is memory for [45] s at once; all of it is heard at once: cut it, "
        "or score it where there is more memory",
        long.error,
    )
    # Two encoders here, so each is loaded for its own bundle.
    bundles = [
        load_bundle(tmp_path / "muq-eval"),
        replace(load_bundle(tmp_path / "songeval"), own_encoder=lambda **_: small),
    ]
    [score] = Scorer(bundles, device="cpu").score(songs[1:], on_error="return")
    assert score.bundles["muq-eval"].mi is not None and score.bundles["songeval"].error == long.error
    assert score.error == f"songeval: {long.error}"
