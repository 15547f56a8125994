"""Is all of an audio file there? What FFmpeg reports of it, and what no library does: Ogg's pages, an MP3's count."""

import hashlib
import math
import struct
import zlib
from collections import Counter
from typing import NamedTuple, NoReturn

import numpy as np

from audiomos_cache.audio.ffmpeg import Survey
from audiomos_cache.errors import DataError

NO_LENGTH = "no length in its header: whether it is whole cannot be checked"
_STREAMED_SIZE = 0x7FFFF000  # this or more is the size in the header of a WAV that was written to a pipe
_MORE_FRAMES = 40  # of an mp3 than its header tells: a second; tags may look like some


def check_whole(name: str, content: bytes, survey: Survey) -> tuple[str, ...]:
    """Refuse a file of which a part is missing.

    Args:
        name: of the file, for messages.
        content: its bytes.
        survey: what FFmpeg reports of it.

    Returns:
        A warning, where nothing tells whether it is whole.

    Raises:
        DataError: it is truncated, or damaged inside.
    """
    if survey.container == "ogg":
        return _check_ogg(name, content)
    if not survey.packets:
        raise DataError(f"{name}: no samples, expected one or more; get it again, or remove it from the list")
    if survey.foreign:
        raise DataError(f"{name}: damaged, {survey.foreign} bytes between its frames are no audio; get it again")
    if survey.container == "mp3":
        return _check_mp3(name, content, survey)
    if survey.container in ("caf", "wav", "w64"):
        return _check_size(name, content, survey)
    if survey.gap is not None:
        raise DataError(f"{name}: damaged, its frames after sample {survey.gap} are missing; get it again")
    if survey.declared_s is None or not _tells_all(content, survey.start):
        if survey.cut:
            raise DataError(f"{name}: truncated, its last frame is cut off; get it again")
        return (NO_LENGTH,)
    if survey.cut or survey.held_s < survey.declared_s - survey.tolerance_s:
        _refuse_truncated(name, survey, round(survey.declared_s * survey.sample_rate_hz))
    if survey.container == "flac" and survey.held_s > survey.declared_s + survey.tolerance_s:
        expected = round(survey.declared_s * survey.sample_rate_hz)
        raise DataError(f"{name}: {survey.samples} samples, expected {expected} by its header; convert it again")
    return ()


def _refuse_truncated(name: str, survey: Survey, expected: int) -> NoReturn:
    held = round(survey.held_s * survey.sample_rate_hz)
    if held >= expected:
        raise DataError(f"{name}: truncated, its last frame is cut off; get it again")
    raise DataError(f"{name}: truncated, {held} samples, expected {expected}; get it again")


def _check_size(name: str, content: bytes, survey: Survey) -> tuple[str, ...]:
    """Compare what is there with the size of the samples in the header before them, of a WAV and its relatives."""
    held, promised = len(content) - survey.start, _promised_bytes(content, survey.start)
    if promised == 0:  # FFmpeg takes what follows for samples
        raise DataError(f"{name}: no samples by its header, expected one or more; get it again")
    if promised is not None and held < promised < math.inf:
        raise DataError(f"{name}: truncated, {held} bytes of audio, expected {promised}; get it again")
    if promised == math.inf:
        return (NO_LENGTH,)
    end = int.from_bytes(content[4:8], "little") + 8
    if content[:4] == b"RIFF" and content[end : end + 4] == b"RIFF":
        raise DataError(f"{name}: several recordings one after the other, expected one; cut it, or convert it again")
    if survey.cut:
        raise DataError(f"{name}: truncated, its last samples are cut off; get it again")
    return ()


def _promised_bytes(content: bytes, start: int) -> float | None:
    """Return the size of the samples that begin at `start`: infinity by a header of a pipe; None: it is elsewhere.

    Source: EBU Tech 3306 (RF64), Sony's and Apple's descriptions of Wave64 and the Core Audio Format.
    """
    kind, header, most = content[:4], content[:start], 1 << 62
    if kind in (b"RIFF", b"RIFX") and header[-8:-4] == b"data":
        size, most = int.from_bytes(header[-4:], "big" if kind == b"RIFX" else "little"), _STREAMED_SIZE
    elif kind in (b"RF64", b"BW64") and header[12:16] == b"ds64":
        size = int.from_bytes(header[28:36], "little")
    elif kind == b"riff" and header[-24:-20] == b"data":
        size = int.from_bytes(header[-8:], "little") - 24  # that of its own header counts too
    elif kind == b"caff" and header[-16:-12] == b"data":
        size = int.from_bytes(header[-12:-4], "big") - 4  # so does the number of edits
    else:
        return None
    return size if 0 <= size < most else math.inf


def _tells_all(content: bytes, start: int) -> bool:
    """Return whether an mp4 contains its length: one in fragments may tell that of each fragment alone."""
    header = content[:start]
    return b"mvex" not in header or b"mehd" in header or b"sidx" in header or content[-12:-8] == b"mfro"


def _check_mp3(name: str, content: bytes, survey: Survey) -> tuple[str, ...]:
    per_packet = survey.samples // survey.packets
    if (declared := _frames_of_mp3(content[: survey.start])) is None:
        if survey.cut:
            raise DataError(f"{name}: truncated, its last frame is cut off; get it again")
        return (NO_LENGTH,)
    if survey.packets < declared or (survey.packets == declared and survey.cut):
        _refuse_truncated(name, survey, declared * per_packet)
    if survey.packets > declared + _MORE_FRAMES:
        raise DataError(
            f"{name}: {survey.samples} samples, expected {declared * per_packet} by its header: several files one "
            "after the other; cut it, or convert it again"
        )
    return ()


def _frames_of_mp3(header: bytes) -> int | None:
    """Return how many frames an mp3 declares; None: it does not.

    Args:
        header: what is before its first frame of sound: a frame of silence that holds the number, and tags before.
    Source: the layouts of the Xing and VBRI headers, as encoders write them.
    """
    for mark, before_mark, flags_at, count_at in (
        (b"Xing", (13, 21, 36), 4, 8),
        (b"Info", (13, 21, 36), 4, 8),
        (b"VBRI", (36,), None, 14),
    ):
        at = header.rfind(mark)
        in_frame = any(at >= k and header[at - k] == 0xFF and header[at - k + 1] >= 0xE0 for k in before_mark)
        counted = flags_at is None or int.from_bytes(header[at + flags_at : at + flags_at + 4]) & 1
        if in_frame and counted:
            return int.from_bytes(header[at + count_at : at + count_at + 4]) or None
    return None


class _Page(NamedTuple):
    """One of the pages that an Ogg file consists of: the fields of its header, and what follows from them."""

    flags: int
    stream: int
    number: int
    ends_packet: bool
    size: int
    is_intact: bool  # by its checksum


_BEGINS, _ENDS = 2, 4  # a stream; bits of a page's flags
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _page_at(content: bytes, at: int) -> _Page:
    """Read the page that begins at an offset. Source: RFC 3533, section 6.

    Raises:
        struct.error: its header is not all there.
    """
    _, _, flags, _, stream, number, checksum, segments = struct.unpack_from("<4sBBqIIIB", content, at)
    lengths = content[at + 27 : at + 27 + segments]
    size = 27 + segments + sum(lengths)
    page = content[at : at + 22] + bytes(4) + content[at + 26 : at + size]
    # zlib's checksum has the same polynomial, with the bits of all bytes mirrored and other first and last values.
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return _Page(
        flags=flags,
        stream=stream,
        number=number,
        ends_packet=bool(lengths) and lengths[-1] < 255,
        size=size,
        is_intact=int(f"{mirrored:032b}"[::-1], 2) == checksum,
    )


def _check_ogg(name: str, content: bytes) -> tuple[str, ...]:
    last: dict[int, _Page] = {}
    begun: Counter[bool] = Counter()  # streams, by whether the pages of one had come before
    at = 0
    while content[at : at + 4] == b"OggS":
        try:
            page = _page_at(content, at)
        except struct.error:
            page = None
        if page is None or at + page.size > len(content):
            raise DataError(
                f"{name}: truncated, its last page is cut off after {len(content) - at} bytes; get it again"
            )
        if not page.is_intact:
            raise DataError(f"{name}: damaged, the page at byte {at} is not what it was; get it again")
        before = last.get(page.stream)
        if before and page.number != before.number + 1:
            raise DataError(f"{name}: damaged, pages before byte {at} are missing; get it again")
        if page.flags & _BEGINS:
            begun[any(not each.flags & _BEGINS for each in last.values())] += 1
        last[page.stream] = page
        at += page.size
    if begun[True]:
        raise DataError(f"{name}: {begun[True] + 1} recordings one after the other, expected one; convert it")
    if at < len(content) and (b"OggS" in content[at:] or b"OggS".startswith(content[at:])):
        raise DataError(f"{name}: damaged or truncated, no whole page at byte {at}; get it again")
    if any(not page.flags & _ENDS and not page.ends_packet for page in last.values()):
        raise DataError(f"{name}: truncated, its last packet is not all there; get it again")
    return () if all(page.flags & _ENDS for page in last.values()) else (NO_LENGTH,)


def check_flac(name: str, samples: np.ndarray, streaminfo: bytes) -> None:
    """Compare the decoded samples of a whole FLAC file with the MD5 of those that were encoded, if it contains one.

    Args:
        name: of the file, for messages.
        samples: (n, channels) float32, integers divided by a power of two.
        streaminfo: the 34 bytes of the file's STREAMINFO block (RFC 9639, section 8.2).

    Raises:
        DataError: they differ.
    """
    bits = 1 + ((streaminfo[12] & 1) << 4 | streaminfo[13] >> 4)
    expected = streaminfo[18:34]
    if bits > 24 or not any(expected):  # float32 has 24 bits; all zeros: none
        return
    integers = np.ascontiguousarray(samples * np.float32(1 << (bits - 1)), "<i4").view(np.uint8).reshape(-1, 4)
    if hashlib.md5(integers[:, : -(-bits // 8)].tobytes(), usedforsecurity=False).digest() != expected:
        raise DataError(f"{name}: damaged, its samples are not those that were encoded (MD5); get it again")
