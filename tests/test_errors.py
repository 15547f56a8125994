"""Messages: one line that a terminal prints as it is, which quotes at most 200 characters of what others wrote."""

import pickle

import pytest

from audiomos_cache.errors import CacheError, DataError, escaped, first_five, quoted, reason_of, shown

LONG = "a b " * 250_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("song \u00e9 \u4e2d", "song \u00e9 \u4e2d"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nError: b", r"a\nError: b"),
        ("\x9b2J\x85", r"\x9b2J\x85"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("half \udce9", r"half \udce9"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_a_terminal_obeys_is_escaped(text, expected):
    assert escaped(text) == expected
    assert str(DataError(f"{text}: not found")) == f"{expected}: not found"


@pytest.mark.parametrize("value", [LONG, "x" * 10**6, "\x1b" * 10**6, ["x" * 10**6] * 10, {LONG: LONG}, b"x" * 10**6])
def test_a_quote_is_short_whatever_is_quoted(value):
    assert len(quoted(value)) <= 4 * 202 and quoted(value).isprintable()
    assert len(str(DataError(f"found {quoted(value)}, expected a name"))) < 900


def test_a_long_string_keeps_its_two_ends():
    assert quoted("x" * 1000 + ".wav") == f"'{'x' * 147}...{'x' * 46}.wav'"
    assert shown("short") == "short" and shown("a\tb") == r"'a\tb'"
    assert first_five([LONG] * 7).count("...") == 6 and len(first_five([LONG] * 7)) < 3100


def test_lists_in_lists_in_lists_can_be_quoted():
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert quoted(nested) in ("<list>", "[...]") or len(quoted(nested)) <= 200
    while nested:
        nested = nested.pop()  # type: ignore[assignment]


def test_a_message_is_cut_as_a_last_resort():
    assert len(str(DataError("x " * 10**6))) <= 4000
    assert str(DataError("/folder/" + "n" * 1000 + "/a.wav: not found")).endswith("n/a.wav: not found")


def test_details_are_lines_of_their_own_and_survive_a_pickle():
    error = CacheError("first\nline", "second\x1b")
    assert str(error) == "first\\nline\nsecond\\x1b"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_missing_permission_says_what_to_do():
    error = PermissionError(13, "Permission denied", "/secret")
    assert reason_of(error) == "/secret: permission denied; change it with chmod, or give another path"
    assert reason_of(OSError(28, "No space left on device")) == "No space left on device"
