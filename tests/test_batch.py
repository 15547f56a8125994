"""Batches are made in one module: padding, masks, and the check of what a head could not pool."""

from collections.abc import Iterator

import pytest
import torch

from audiomos_cache.batch import Batch, batched, check_masks, chunks, collate, pad_sequences, valid_mask


def example() -> Batch:
    tokens, token_counts = pad_sequences([torch.ones(2, 3, dtype=torch.float16), torch.ones(1, 3, dtype=torch.float16)])
    return collate(torch.ones(2, 4, 5), torch.tensor([4, 1]), tokens, token_counts)


def test_masks_say_which_positions_are_valid() -> None:
    batch = example()
    assert batch.frame_mask.tolist() == [[True] * 4, [True, False, False, False]]
    assert batch.token_mask.tolist() == [[True, True], [True, False]]
    assert batch.tokens.dtype == torch.float32 and batch.tokens[1].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert len(batch) == 2
    for each, named in zip(batch, ("frames", "frame_mask", "tokens", "token_mask"), strict=True):
        assert each is getattr(batch, named)


def test_frames_of_several_layers_have_one_mask() -> None:
    batch = collate(torch.ones(2, 3, 4, 5), torch.tensor([4, 1]), torch.ones(2, 1, 3), torch.tensor([1, 1]))
    assert batch.frame_mask.tolist() == example().frame_mask.tolist()


def test_sequences_are_padded_each_with_its_own_vector() -> None:
    sequences = [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])]
    padded, lengths = pad_sequences(sequences, [torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -4.0])])
    assert lengths.tolist() == [1, 3]
    assert padded.tolist() == [[[1, 2], [-1, -2], [-1, -2]], [[3, 4], [5, 6], [7, 8]]]
    assert pad_sequences(sequences)[0][0].tolist() == [[1, 2], [0, 0], [0, 0]]


@pytest.mark.parametrize(("which", "word"), [("frame_mask", "frame"), ("token_mask", "token")])
def test_a_row_without_anything_valid_is_named(which: str, word: str) -> None:
    batch = example()
    check_masks(batch)
    getattr(batch, which)[1] = False
    with pytest.raises(ValueError) as caught:
        check_masks(batch)
    assert str(caught.value) == f"row 1 of the batch has no valid {word}; every clip needs at least one"


def test_masks_stay_on_the_device_of_their_lengths() -> None:
    assert valid_mask(torch.zeros(2, dtype=torch.int64, device="meta"), 3).device.type == "meta"
    with torch.device("meta"):
        frames = torch.ones(2, 4, 5)
    assert {each.device.type for each in collate(frames, torch.tensor([4, 1]), torch.ones(2, 1, 3), torch.ones(2))} == {
        "meta"
    }


def test_chunks_keep_the_order_and_the_rest() -> None:
    assert chunks(range(5), 2) == [[0, 1], [2, 3], [4]]
    assert chunks([], 2) == []


def test_items_of_a_stream_are_taken_when_they_are_needed() -> None:
    taken: list[int] = []

    def stream() -> Iterator[int]:
        for item in range(5):
            taken.append(item)
            yield item

    batches = batched(stream(), 2)
    assert (next(batches), taken) == ([0, 1], [0, 1])
    assert (list(batches), list(batched([], 2)), chunks("abc", 2)) == ([[2, 3], [4]], [], [["a", "b"], ["c"]])
