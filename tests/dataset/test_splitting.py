"""An inner split: which clips are set aside, and that the two lists are the first one's own lines."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from audiomos_cache.dataset.labels import read_labels
from audiomos_cache.dataset.splitting import held_out, split, stratified
from audiomos_cache.errors import DataError

SIZES = {"A": 1, "B": 2, "C": 10, "D": 57, "E": 30}
SYSTEMS = [system for system, size in SIZES.items() for _ in range(size)]
IDS = [f"{system}_P{number:03d}" for number, system in enumerate(SYSTEMS)]


def set_aside(systems, chosen):
    return Counter(system for system, each in zip(systems, chosen, strict=True) if each)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_each_systems_share_is_rounded_and_the_whole_is_as_asked(fraction, seed):
    chosen = stratified(IDS, SYSTEMS, fraction, seed)
    counts = set_aside(SYSTEMS, chosen)
    assert counts["A"] == 0, "its only clip is not set aside"
    for system, size in SIZES.items():
        assert counts[system] in {int(fraction * size), min(int(fraction * size) + 1, size - 1)}
    assert chosen.sum() == round(fraction * len(IDS))


def test_no_system_gives_its_last_clip():
    counts = set_aside(SYSTEMS, stratified(IDS, SYSTEMS, 0.999, 0))
    assert counts == {system: size - 1 for system, size in SIZES.items() if size > 1}


def test_a_tiny_share_is_one_clip():
    assert stratified(IDS, SYSTEMS, 1e-9, 0).sum() == 1


def test_the_choice_depends_on_the_seed_and_the_names_and_not_on_their_order():
    def ids_of(order, seed):
        chosen = stratified([IDS[i] for i in order], [SYSTEMS[i] for i in order], 0.2, seed)
        return {IDS[i] for i, each in zip(order, chosen, strict=True) if each}

    order = list(range(len(IDS)))
    assert ids_of(order, 1) == ids_of(order[::-1], 1)
    assert ids_of(order, 1) != ids_of(order, 2)


def test_every_clip_is_as_likely_as_the_others_of_its_system():
    drawn = sum(stratified(IDS, SYSTEMS, 0.3, seed).astype(int) for seed in range(300))
    of_c = drawn[np.array(SYSTEMS) == "C"] / 300
    assert of_c.mean() == pytest.approx(0.3, abs=0.03)
    assert np.abs(of_c - 0.3).max() < 4.5 * np.sqrt(0.3 * 0.7 / 300)


def test_systems_of_one_clip_cannot_be_on_both_sides():
    with pytest.raises(DataError, match="each of the 2 systems has one clip, none can be on both sides"):
        stratified(["a", "b"], ["a", "b"], 0.5, 0)


@pytest.mark.parametrize("seed", range(5))
def test_whole_groups_are_held_out_and_come_near_the_share(seed):
    groups = [f"g{n % 23}" for n in range(500)]
    chosen = held_out(groups, 0.2, seed)
    inside = {g for g, each in zip(groups, chosen, strict=True) if each}
    outside = {g for g, each in zip(groups, chosen, strict=True) if not each}
    assert inside.isdisjoint(outside)
    assert inside and outside
    assert chosen.sum() == pytest.approx(100, abs=12)  # a group has 21 or 22 clips


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_at_least_one_group_is_held_out_and_one_is_not(fraction):
    chosen = held_out(["a", "a", "b", "c"], fraction, 0)
    assert 0 < chosen.sum() < 4


def test_one_group_cannot_be_held_out():
    with pytest.raises(DataError, match="found 1 of prompts, expected 2 or more to hold out some"):
        held_out(["a", "a"], 0.5, 0, "prompts")


# Lists


@pytest.fixture
def mos_list(tmp_path):
    """120 clips of 6 systems and 20 prompts; two of the systems are demo systems, whose prompts are their own."""
    systems = ("S001", "S002", "S003", "S004", "S006", "S007")
    rows = [f"audiomos2025-track1-{s}_P{p:03d}.wav" for s in systems for p in range(20)]
    scores = np.random.default_rng(0).integers(10, 51, (120, 2)) / 10
    (tmp_path / "sets").mkdir()
    path = tmp_path / "sets" / "train_mos_list.txt"
    lines = [f"{name},{mi},{ta:.2f}\n" for name, (mi, ta) in zip(rows, scores.tolist(), strict=True)]
    path.write_text("\ufeff" + "\r\n".join(line.strip() for line in lines), newline="")
    return path


@pytest.mark.parametrize("hold_out", ["clips", "systems", "prompts"])
def test_the_two_lists_hold_the_lists_own_lines_in_its_order(mos_list, hold_out):
    sides = split(mos_list, hold_out=hold_out, fraction=0.3).sides
    lines = mos_list.read_text(encoding="utf-8-sig").splitlines()
    found = {name: side.path.read_text().splitlines() for name, side in sides.items()}
    assert [side.path.name for side in sides.values()] == ["train_mos_list-train.txt", "train_mos_list-dev.txt"]
    assert sorted(found["train"] + found["dev"]) == sorted(lines)
    for name, side in sides.items():
        assert found[name] == [line for line in lines if line in found[name]]
        labels = read_labels(side.path)
        assert side.clips == labels.ids
        assert (side.mi.tolist(), side.ta.tolist()) == (labels.mi.tolist(), labels.ta.tolist())
        assert side.systems == len(set(labels.systems))


def test_held_out_systems_are_on_one_side(mos_list):
    train, dev = (read_labels(side.path) for side in split(mos_list, hold_out="systems", fraction=0.3).sides.values())
    assert set(train.systems).isdisjoint(dev.systems)
    assert len(dev.ids) == 40


def test_held_out_prompts_are_on_one_side_and_a_demo_systems_are_its_own(mos_list):
    sides = split(mos_list, hold_out="prompts", fraction=0.3).sides

    def prompts(side):
        bare = [clip.removeprefix("audiomos2025-track1-") for clip in side.clips]
        return {clip if clip[:4] in ("S001", "S006") else clip[5:] for clip in bare}

    train, dev = map(prompts, sides.values())
    assert train.isdisjoint(dev)
    assert (len(train), len(dev)) == (sides["train"].prompts, sides["dev"].prompts)
    assert len(train | dev) == 20 + 2 * 20


def test_prompts_of_one_text_are_one_prompt(mos_list):
    folder = mos_list.parents[1]
    texts = [f"P{p:03d}\ttext {p // 2}\n" for p in range(20)]
    (folder / "prompt_info.txt").write_text("".join(texts))
    own = [f"audiomos2025-track1-{s}_P{p:03d}.wav\ttext {p // 2}\n" for s in ("S001", "S006") for p in range(20)]
    (folder / "demo_prompt_info.txt").write_text("".join(own))
    for seed in range(5):
        sides = split(mos_list, hold_out="prompts", fraction=0.3, seed=seed, overwrite=True).sides
        texts = [{int(clip[-3:]) // 2 for clip in side.clips} for side in sides.values()]
        assert texts[0].isdisjoint(texts[1])
        assert len(sides["dev"].clips) == 36  # 3 texts of 12 clips


def test_a_csv_manifest_keeps_its_rows_and_columns(tmp_path):
    path = tmp_path / "m.csv"
    header = "path,prompt,note,mi,ta,split\n"
    rows = [f'c{n}.wav,"two\nlines, {n % 4}",n{n},2.5,{1 + n / 10},{"train" if n < 20 else "dev"}\n' for n in range(24)]
    path.write_text(header + "\n".join(rows))  # a blank line between two rows
    sides = split(path, hold_out="prompts", fraction=0.25, split="train").sides
    content = [side.path.read_text() for side in sides.values()]
    assert all(text.startswith(header) for text in content)
    assert sum(len(text) - len(header) for text in content) == sum(map(len, rows[:20]))
    assert all(sum(row in text for text in content) == (n < 20) for n, row in enumerate(rows))
    train, dev = (read_labels(side.path, "train") for side in sides.values())
    assert (len(train.ids), len(dev.ids)) == (15, 5)
    assert {int(clip[1:]) % 4 for clip in train.ids}.isdisjoint({int(clip[1:]) % 4 for clip in dev.ids})


def test_a_jsonl_manifest_keeps_its_rows_and_its_systems(tmp_path):
    path = tmp_path / "m.jsonl"
    rows = [
        {"path": f"c{n}.wav", "prompt": "x", "mi": 2, "ta": 3, "system": f"s{n % 2}", "more": [n]} for n in range(10)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sides = split(path, fraction=0.4).sides
    assert sorted(line for side in sides.values() for line in side.path.read_text().splitlines()) == sorted(
        json.dumps(row) for row in rows
    )
    assert Counter(read_labels(sides["dev"].path).systems) == {"s0": 2, "s1": 2}


def test_a_manifests_lists_stand_beside_it(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("path,prompt,mi,ta\na.wav,x,2,3\nb.wav,y,2,3\n")
    with pytest.raises(DataError) as error:
        split(path, tmp_path / "elsewhere")
    assert str(error.value) == (
        f"{path}: names audio from its own folder, where the two manifests must be; leave out --out"
    )
    assert [each.name for each in tmp_path.iterdir()] == ["m.csv"]


def test_what_cannot_be_divided_is_said_with_the_lists_name(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("S001_a.wav,2,3\nS002_b.wav,2,3\n")
    with pytest.raises(DataError, match=r"list\.txt: each of the 2 systems has one clip"):
        split(path)
    path.write_text(Path(path).read_text() + "S003_c.wav,9,3\n")
    with pytest.raises(DataError, match=r"list\.txt:3: MI is '9', expected a number from 1 to 5"):
        split(path)
    with pytest.raises(DataError, match="fraction is nan, expected a share between 0 and 1"):
        split(path, fraction=float("nan"))
    assert [each.name for each in tmp_path.iterdir()] == ["list.txt"]
