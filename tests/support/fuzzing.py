"""Hostile files: mutations of valid ones, drawn by a seed, and the limits within which they must be refused.

A mutation knows what it changes: of JSON and YAML values and keys, of text lines and fields, of bytes anything.
"""

import copy
import json
import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

MOST_CPU_S, MOST_BYTES = 20, 1 << 30

Mutation = Callable[[bytes, random.Random], bytes]

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, 2**31, 2**63, 10**20, int("9" * 400), 0.5, 1e308, -1e308, 5e-324, float("nan"),
    float("inf"), "", " ", "x", "0", "3", "1_0", "\u0661", "nan", "\x1b[31m", "\u202e", "\ud800", "\x00", "a" * 100_000,
    "../..", "/dev/zero", "mi", "None", [], {}, [[]], [1, 2], [0.5] * 1000, ["x"], {"a": 1}, {"kind": []},
)  # fmt: skip
_PIECES = (
    b"\x00", b"\r\n", b"\n", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b'"', b"'", b",", b"\t", b"{", b"[", b"}", b"]",
    b"&a ", b"*a", b"!!int ''", b"!!binary AA", b"<<: ", b"- ", b"? ", b": ", b"%", b"#", b"|", b"\\U99999999",
    b"\\ud800", b"NaN", b"1e309", b"9" * 400, b"1_0", "\u0661".encode(), b"\x1b[2J", "\u202e".encode(), b"[" * 100_000,
    b'{"a":' * 10_000, b"0" * 5000, b"=", b"..", b"/", b"\x00" * 64, b"\xff" * 64, b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
)  # fmt: skip


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Cut, flip, repeat, splice, insert, re-encode."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(_BYTE_MUTATIONS)(content, rng)
    return content


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _flip(content: bytes, rng: random.Random) -> bytes:
    flipped = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20)) if flipped else 0):
        flipped[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _drop(content: bytes, rng: random.Random) -> bytes:
    start = _place(content, rng)
    return content[:start] + content[start + rng.choice((1, 4, 16, 256)) :]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    start, size = _place(content, rng), rng.choice((1, 16, 256, 4096))
    return content[:start] + content[start : start + size] * rng.choice((2, 3, 100)) + content[start + size :]


def _splice(content: bytes, rng: random.Random) -> bytes:
    source, target, size = _place(content, rng), _place(content, rng), rng.choice((4, 8, 64, 1024))
    return content[:target] + content[source : source + size] + content[target + size :]


def _insert(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + rng.choice(_PIECES) + content[at + rng.choice((0, 0, 1, 4, 8)) :]


def _other_line_ends(content: bytes, rng: random.Random) -> bytes:
    return content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\x0b", b"\n\n", b"\x85", b"")))


def _other_encoding(content: bytes, rng: random.Random) -> bytes:
    return content.decode("latin-1").encode(rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7")))


def _place(content: bytes, rng: random.Random) -> int:
    """Draw a place, half of the time near the start, where headers are."""
    return rng.randrange(min(len(content), rng.choice((64, 512, 1 << 30))) or 1)


_BYTE_MUTATIONS: tuple[Mutation, ...] = (
    _cut, _flip, _flip, _drop, _repeat, _splice, _insert, _insert, _other_line_ends, _other_encoding,
)  # fmt: skip


def mutate_lines(content: bytes, rng: random.Random) -> bytes:
    """Change a field of a line, or the lines; or any byte."""
    if rng.random() < 0.5:
        return mutate_bytes(content, rng)
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    fields = lines[at].split(b",")
    piece = rng.choice(_PIECES) if rng.random() < 0.5 else str(rng.choice(_VALUES)).encode(errors="replace")
    match rng.randrange(6):
        case 0:
            fields[rng.randrange(len(fields))] = piece
        case 1:
            fields.insert(rng.randrange(len(fields) + 1), piece)
        case 2:
            fields.pop(rng.randrange(len(fields)))
        case 3:
            rng.shuffle(fields)
        case 4:
            lines.insert(at, lines[at])
        case _:
            lines.insert(at, lines[rng.randrange(len(lines))])
    lines[at] = b",".join(fields)
    return b"\n".join(lines)


def mutate_json(content: bytes, rng: random.Random) -> bytes:
    """Change a value or a key somewhere inside, or give a key twice; or any byte."""
    if rng.random() < 0.25:
        return mutate_bytes(content, rng)
    document = json.loads(content)
    for _ in range(rng.choice((1, 1, 1, 2))):
        document = mutate_value(document, rng)
    text = json.dumps(document)
    if rng.random() < 0.05:
        text = text.replace('": ', '": 1, "x": ', 1).replace("{", '{"x": 1, ', 1)
    return text.encode()


def mutate_json_lines(content: bytes, rng: random.Random) -> bytes:
    """Change one of the objects, or the lines."""
    if rng.random() < 0.3:
        return mutate_lines(content, rng)
    lines = content.splitlines()
    at = rng.randrange(len(lines))
    lines[at] = mutate_json(lines[at], rng)
    return b"\n".join(lines) + b"\n"


def mutate_yaml(content: bytes, rng: random.Random) -> bytes:
    """Change a value or a key somewhere inside; or any byte."""
    if rng.random() < 0.4:
        return mutate_bytes(content, rng)
    document = mutate_value(yaml.safe_load(content), rng)
    try:
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode(errors="surrogatepass")
    except ValueError:  # more digits than Python writes
        return mutate_bytes(content, rng)


def mutate_value(document: Any, rng: random.Random) -> Any:
    """Replace, drop, rename or repeat something inside of lists and mappings, which are changed in place."""
    holder, key = _inside({"": document}, rng)
    whole = holder if key == "" else None
    match rng.randrange(6):
        case 0 | 1 | 2:
            holder[key] = copy.deepcopy(rng.choice(_VALUES))
        case 3 if whole is None:
            del holder[key]
        case 4 if isinstance(holder, dict) and whole is None:
            holder[rng.choice(("x", "mi", "", "a" * 1000, "\x1b"))] = holder.pop(key)
        case _:
            holder[key] = [holder[key]] if rng.random() < 0.5 else {"x": holder[key]}
    return document if whole is None else whole[""]


def _inside(holder: Any, rng: random.Random) -> tuple[Any, Any]:
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = rng.choice(keys)
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.1:
            return holder, key
        holder = inner


class HangError(BaseException):
    """A case took too long."""


@contextmanager
def limited() -> Iterator[None]:
    """Let what runs here take 20 seconds of CPU time and a GiB of memory more, and no more than that."""

    def stop(_signal: int, _frame: object) -> None:
        raise HangError

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MOST_CPU_S)
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, before[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGPROF, handler)
