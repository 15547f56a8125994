"""A single flipped bit, wherever it is, is either found and named, or changes nothing that we read."""

import random
from collections import Counter
from dataclasses import replace

import h5py
import pytest

from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.format import COLUMNS
from audiomos_cache.cache.verify import verify_file
from audiomos_cache.errors import CacheError


@pytest.fixture
def file_of(sample, tmp_path):
    """Write a file of nine clips of 1 to 17 frames, some of them from padding, of these layers."""

    def write(layers):
        sample.header = replace(sample.header, layers=layers)
        sample.clips, sample.frames = [], []
        for number in range(9):
            prompt = sample.prompts[number % 2].text
            sample.add(f"S{number:03d}_P001", 1 + 2 * number, 1 + number, prompt=prompt)
        return sample.write(tmp_path / "train.h5")

    return write


def columns_of(file):
    return [file.column(name).tobytes() for name in COLUMNS]


def sort_bytes(path, sample):
    """Sort a file's bytes by what they hold: kind -> [(byte, the item that a message about it must name)]."""
    clips = [f"clip {clip.id}:" for clip in sample.clips for _ in range(clip.frames)]
    prompts = [f"prompt {prompt.text!r}:" for prompt in sample.prompts]
    tokens = [what for what, prompt in zip(prompts, sample.prompts, strict=True) for _ in prompt.tokens]
    rows = {"audio/frames": clips, "audio/frames_3": clips, "audio/frames_12": clips}
    rows |= {"text/tokens": tokens, "text/pad_vector": prompts}
    kinds = {"frames": [], "tokens": [], "index": []}

    def note(name, node):
        if isinstance(node, h5py.Dataset) and node.size:
            kind = {"audio": "frames", "text": "tokens"}[name.partition("/")[0]] if name in rows else "index"
            items = rows.get(name, [f"/{name}"] * len(node))
            start, width = node.id.get_offset(), node.nbytes // len(node)
            kinds[kind] += [(start + byte, items[byte // width]) for byte in range(node.nbytes)]

    with h5py.File(path, "r") as file:
        file.visititems(note)
    others = set(range(path.stat().st_size)).difference(byte for bytes_ in kinds.values() for byte, _ in bytes_)
    return kinds | {"structure": [(byte, "") for byte in sorted(others)]}


@pytest.mark.parametrize(("layers", "flips"), [((12,), 200), ((3, 12), 60)], ids=["one layer", "two layers"])
def test_no_flip_is_silent(sample, file_of, content_of, layers, flips):
    path = file_of(layers)
    before, raw = content_of(path), path.read_bytes()
    columns = columns_of(CacheFile(path))
    moments = random.Random(2025)
    refusals = Counter()
    for kind, positions in sort_bytes(path, sample).items():
        for flip in moments.sample(range(8 * len(positions)), flips // 4):
            (byte, item), bit = positions[flip // 8], flip % 8
            damaged = bytearray(raw)
            damaged[byte] ^= 1 << bit
            path.write_bytes(damaged)
            where = f"bit {bit} of byte {byte}, in the {kind}"
            report = verify_file(path)
            try:
                found = content_of(path)
            except CacheError as error:
                refusals[kind] += 1
                assert str(path) in str(error), where
                assert item in str(error), where
                assert any(item in line and str(path) in line for line in report.damaged), where
            else:
                assert report.damaged == [], where
                assert (found, columns_of(report.file)) == (before, columns), where
    assert refusals["frames"] == refusals["tokens"] == refusals["index"] == flips // 4
    assert refusals["structure"] > flips // 8  # HDF5 leaves room in it, where a flip harms nothing
