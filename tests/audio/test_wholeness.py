"""A file of which a part is missing is never taken for a whole one; a whole one never for such a file."""

import struct
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from audiomos_cache.audio.decode import read_channels
from audiomos_cache.audio.ffmpeg import survey
from audiomos_cache.audio.source import EncodedAudio
from audiomos_cache.audio.wholeness import NO_LENGTH
from audiomos_cache.errors import DataError
from tests.support.audio import RATE, chord, encode, film, noise, soundfile_bytes

SECONDS = 4


def mp3(*, varying: bool = False, header: bool = True, piped: bool = False) -> bytes:
    options = {"q": "2"} if varying else {"b": "128k"}
    content = encode(
        chord(SECONDS), 44100, "mp3", "libmp3lame", options | {"write_xing": str(int(header))}, piped=piped
    )
    assert (b"Xing" in content[:500] or b"Info" in content[:500]) is (header and not piped)
    return content


def flac(samples: np.ndarray | None = None) -> bytes:
    return soundfile_bytes(chord(SECONDS) if samples is None else samples, 44100, format="FLAC")


def in_fragments(flags: str) -> bytes:
    options = {"movflags": flags, "frag_duration": "500000"}
    content = encode(chord(SECONDS), 44100, "mp4", "aac", options)
    assert content.count(b"moof") >= 7
    return content


# Every kind that can be told to be cut, by how it is made.
TELLING: dict[str, Callable[[], bytes]] = {
    "mp3, Info": mp3,
    "mp3, Xing": lambda: soundfile_bytes(chord(SECONDS), 44100, format="MP3", bitrate_mode="VARIABLE"),
    "vorbis": lambda: soundfile_bytes(noise(SECONDS * 44100), 44100, format="OGG"),
    "opus": lambda: encode(chord(SECONDS, 48000), 48000, "ogg", "libopus"),
    "opus, libsndfile": lambda: soundfile_bytes(chord(SECONDS, 48000), 48000, format="OGG", subtype="OPUS"),
    "flac": flac,
    "flac in ogg": lambda: encode(chord(SECONDS), 44100, "ogg", "flac"),
    "wav": lambda: soundfile_bytes(chord(SECONDS), 44100, format="WAV"),
    "wav, float": lambda: soundfile_bytes(chord(SECONDS), 44100, format="WAV", subtype="FLOAT"),
    "wav, adpcm": lambda: soundfile_bytes(chord(SECONDS), 44100, format="WAV", subtype="IMA_ADPCM"),
    "wav, mp3": lambda: encode(chord(SECONDS), 44100, "wav", "libmp3lame")[:-1],  # a byte that fills up
    "wavex": lambda: soundfile_bytes(chord(SECONDS), 44100, format="WAVEX"),
    "rf64": lambda: soundfile_bytes(chord(SECONDS), 44100, format="RF64"),
    "w64": lambda: soundfile_bytes(chord(SECONDS), 44100, format="W64"),
    "aiff": lambda: soundfile_bytes(chord(SECONDS), 44100, format="AIFF"),
    "aifc, float": lambda: soundfile_bytes(chord(SECONDS), 44100, format="AIFF", subtype="FLOAT"),
    "caf, alac": lambda: soundfile_bytes(chord(SECONDS), 44100, format="CAF", subtype="ALAC_16"),
    "m4a": lambda: encode(chord(SECONDS), 44100, "ipod", "aac"),
    "mp4, fragments": lambda: in_fragments("frag_keyframe+empty_moov"),
    "m4a, alac": lambda: encode(chord(SECONDS), 44100, "ipod", "alac"),
    "mov": lambda: encode(chord(SECONDS), 44100, "mov", "pcm_s16le"),
    "webm": lambda: encode(chord(SECONDS, 48000), 48000, "webm", "libopus"),
    "mka": lambda: encode(chord(SECONDS), 44100, "matroska", "flac"),
}
# Those that do not contain their length.
STREAMED: dict[str, Callable[[], bytes]] = {
    "mp3": lambda: mp3(header=False),
    "mp3, varying": lambda: mp3(header=False, varying=True),
    "mp3, piped": lambda: mp3(piped=True),
    "aac": lambda: encode(chord(SECONDS), 44100, "adts", "aac"),
    "flac, piped": lambda: encode(chord(SECONDS), 44100, "flac", "flac", piped=True),
    "mp4, fragments alone": lambda: in_fragments("frag_keyframe+empty_moov+skip_trailer"),
    "wav, piped": lambda: encode(chord(SECONDS), 44100, "wav", "pcm_s16le", piped=True),
    "webm, live": lambda: encode(chord(SECONDS, 48000), 48000, "webm", "libopus", {"live": "1"}),
    "ogg, no last page": lambda: without_last_page(TELLING["opus"]()),
}


INDEXED = {"mov", "m4a", "m4a, alac", "mp4, fragments", "mka", "webm"}  # their ends may be something else than audio


@cache
def made(kinds: str, kind: str) -> bytes:
    return {"telling": TELLING, "streamed": STREAMED}[kinds][kind]()


def read(content: bytes) -> tuple[float, tuple[str, ...]]:
    """The seconds that are decoded, and the warnings."""
    audio = read_channels(EncodedAudio("a", content), None, RATE)
    assert len(audio.samples) / audio.sample_rate_hz == pytest.approx(audio.duration_s)
    return audio.duration_s, audio.warnings


def pages(content: bytes) -> list[int]:
    return [at for at in range(len(content)) if content[at : at + 4] == b"OggS"]


def without_last_page(content: bytes) -> bytes:
    return content[: pages(content)[-1]]


@pytest.mark.parametrize("kind", TELLING)
def test_a_whole_file(kind: str) -> None:
    duration_s, warnings = read(made("telling", kind))
    assert duration_s == pytest.approx(SECONDS, abs=0.06)
    assert warnings == ()


@pytest.mark.parametrize("kind", STREAMED)
def test_a_whole_file_that_does_not_tell_its_length(kind: str) -> None:
    duration_s, warnings = read(made("streamed", kind))
    assert duration_s == pytest.approx(SECONDS, abs=1.05 if kind.startswith("ogg") else 0.06)
    assert warnings == (NO_LENGTH,)


@pytest.mark.parametrize("kind", TELLING)
def test_a_file_that_is_cut_is_refused_wherever_that_is(kind: str) -> None:
    content = made("telling", kind)
    places = {round(share * len(content)) for share in np.linspace(0.01, 0.99, 30)}
    places |= {len(content) - missing for missing in (1, 2, 10, 100, 1000)}
    accepted = []
    for place in sorted(places):
        try:
            accepted.append((place, *read(content[:place])))
        except DataError as error:
            assert str(error).startswith("a: "), error
    if kind in INDEXED:
        accepted = [(place, *rest) for place, *rest in accepted if place < len(content) - 1000]
    assert accepted == []


@pytest.mark.parametrize("kind", ["wav", "wav, float", "wavex", "rf64", "bw64", "w64", "caf"])
def test_a_file_of_samples_that_is_cut_between_two_packets_of_ffmpeg(kind: str) -> None:
    """As a full disk leaves it: at a whole block."""
    rf64 = made("telling", "rf64")
    caf = soundfile_bytes(chord(SECONDS), 44100, format="CAF")
    content = b"BW64" + rf64[4:] if kind == "bw64" else caf if kind == "caf" else made("telling", kind)
    start = survey("a", content).start
    assert read(content) == (SECONDS, ())
    for blocks in (1, 10, 50):
        found = f"a: truncated, {8192 * blocks} bytes of audio, expected {len(content) - start}; get it again"
        with pytest.raises(DataError, match=f"^{found}$"):
            read(content[: start + 8192 * blocks])


@pytest.mark.parametrize("sound_s", [3.5, 3.9, 4.0, 4.5])
@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("matroska", "aac"), ("webm", "libopus")])
def test_a_film_whose_sound_and_picture_differ_in_length_is_whole(container: str, codec: str, sound_s: float) -> None:
    duration_s, warnings = read(film(chord(sound_s, 48000), 48000, 4.0, container, codec))
    assert duration_s == pytest.approx(sound_s, abs=0.03)
    assert warnings == ()


@pytest.mark.parametrize("kind", STREAMED)
def test_a_streamed_file_that_is_cut_is_refused_or_warned_of(kind: str) -> None:
    content = made("streamed", kind)
    refused = 0
    for place in np.linspace(0.01, 0.99, 30) * len(content):
        try:
            assert read(content[: int(place)])[1] == (NO_LENGTH,)
        except DataError:
            refused += 1
    # Of samples as they are, or of packets with their lengths, nothing tells a part from a whole.
    assert refused >= {"wav, piped": 0, "webm, live": 0, "mp4, fragments alone": 0, "flac, piped": 20}.get(kind, 29)


NOISE = np.random.default_rng(3).bytes(20_000)


HOLED = [
    "mp3, Info",
    "mp3, Xing",
    "vorbis",
    "opus",
    "flac",
    "flac in ogg",
    "webm",
    "mka",
    "m4a",
    "m4a, alac",
    "caf, alac",
]


@pytest.mark.parametrize("kind", HOLED)
@pytest.mark.parametrize("damage", ["replaced", "inserted", "removed"])
@pytest.mark.parametrize("most", [None, 3 * RATE], ids=["whole", "its first 3 s"])
def test_a_file_with_a_hole_is_refused(kind: str, damage: str, most: int | None) -> None:
    content = made("telling", kind)
    middle, size = len(content) // 2, min(len(NOISE), len(content) // 4)
    inside = b"" if damage == "removed" else NOISE[:size]
    holed = content[:middle] + inside + content[middle + (0 if damage == "inserted" else size) :]
    with pytest.raises(DataError, match=r"^a: (damaged|truncated|not audio)"):
        read_channels(EncodedAudio("a", holed), most, RATE)


@pytest.mark.parametrize("place", np.linspace(0.2, 0.99, 12))
@pytest.mark.parametrize("kind", ["vorbis", "opus", "flac", "flac in ogg"])
def test_a_flipped_bit_in_audio_with_checksums_is_found(kind: str, place: float) -> None:
    content = bytearray(made("telling", kind))
    content[int(place * len(content))] ^= 16
    with pytest.raises(DataError, match=r"^a: (damaged|truncated)"):
        read(bytes(content))


def test_frames_of_a_flac_that_are_taken_out() -> None:
    content = made("telling", "flac")
    starts = [at for at in range(42, len(content)) if content[at : at + 2] == b"\xff\xf8"]
    with pytest.raises(DataError, match=r"^a: damaged, its frames after sample \d+ are missing; get it again"):
        read(content[: starts[10]] + content[starts[20] :])


def test_a_flac_that_is_longer_than_its_header_tells() -> None:
    content = bytearray(flac())
    content[21:26] = bytes([content[21] & 0xF0]) + (44100).to_bytes(4)
    with pytest.raises(DataError, match=r"^a: 176400 samples, expected 44100 by its header"):
        read(bytes(content))


def test_a_flac_without_an_md5_is_read() -> None:
    content = bytearray(flac())
    content[26:42] = bytes(16)
    assert read(bytes(content)) == (SECONDS, ())


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
def test_the_md5_of_a_flac_is_of_its_samples(subtype: str) -> None:
    samples = noise(44100, channels=2)
    assert read(soundfile_bytes(samples, 44100, format="FLAC", subtype=subtype)) == (1.0, ())


def test_recordings_one_after_the_other_are_refused() -> None:
    with pytest.raises(DataError, match=r"^a: 2 recordings one after the other, expected one; convert it"):
        read(made("telling", "vorbis") + TELLING["vorbis"]())
    with pytest.raises(DataError, match=r"^a: several recordings one after the other, expected one"):
        read(made("telling", "wav") + made("telling", "wav"))
    mp3s = made("telling", "mp3, Info")
    with pytest.raises(DataError, match="damaged, 253 bytes between its frames are no audio"):
        read(mp3s + mp3s)
    with pytest.raises(DataError, match="expected 178560 by its header: several files one after the other"):
        read(mp3s + mp3s[mp3s.index(b"\xff\xfb", 400) :])


def test_pages_of_an_ogg_that_are_taken_out() -> None:
    content = made("telling", "opus")
    begins = pages(content)
    with pytest.raises(DataError, match=r"^a: damaged, pages before byte \d+ are missing"):
        read(content[: begins[3]] + content[begins[4] :])


def checksum(page: bytes) -> int:
    """CRC-32 as RFC 3533 has it: polynomial 0x04c11db7, from 0, nothing mirrored."""
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc


def test_an_ogg_whose_last_page_ends_within_a_packet() -> None:
    """The last of the packet lengths in its header is 255 then; otherwise it is as it should be."""
    content = made("telling", "opus")
    last = pages(content)[-2]
    lengths = last + 27
    count = content[last + 26]
    cut = bytearray(content[: lengths + count] + content[lengths + count :][: sum(content[lengths:][:count])])
    cut += bytes(255 - cut[lengths + count - 1])
    cut[lengths + count - 1] = 255
    cut[last + 22 : last + 26] = bytes(4)
    cut[last + 22 : last + 26] = checksum(cut[last:]).to_bytes(4, "little")
    with pytest.raises(DataError, match=r"^a: truncated, its last packet is not all there; get it again"):
        read(bytes(cut))


ID3V1 = b"TAG" + b"title".ljust(124, b"\0") + b"\xff"


def ape_tag(held: int, *, header: bool = True) -> bytes:
    """An APEv2 tag with a cover of so many bytes."""
    key, value = b"Cover Art (Front)\0", b"cover.jpg\0" + np.random.default_rng(3).bytes(held)
    item = struct.pack("<II", len(value), 2) + key + value
    ends = [
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, header << 31 | first << 29) + bytes(8)
        for first in (True, False)
    ]
    return (ends[0] if header else b"") + item + ends[1]


def lyrics_tag(held: int) -> bytes:
    """A Lyrics3v2 tag with so many bytes of lyrics."""
    fields = b"LYRICSBEGIN" + b"IND0000210" + b"LYR" + f"{held:05}".encode() + b"la " * (held // 3) + b"l" * (held % 3)
    return fields + f"{len(fields):06}".encode() + b"LYRICS200"


def id3v24_footer(held: int) -> bytes:
    size = bytes([held >> 21 & 127, held >> 14 & 127, held >> 7 & 127, held & 127])
    ends = [mark + b"\4\0\x10" + size for mark in (b"ID3", b"3DI")]
    return ends[0] + np.random.default_rng(4).bytes(held) + ends[1]


AFTER = {
    "zeros": bytes(5000),
    "one byte": b"\0",
    "id3v1": ID3V1,
    "id3v2.4 with footer": id3v24_footer(20_000),
    "ape": ape_tag(20_000),
    "ape without its header": ape_tag(20_000, header=False),
    "ape, id3": ape_tag(900_000) + ID3V1,
    "lyrics, id3": lyrics_tag(20_000) + ID3V1,
    "ape, lyrics, id3": ape_tag(20_000) + lyrics_tag(20_000) + ID3V1,
    "a picture": b"\xff\xd8\xff\xe0\0\x10JFIF" + b"\xff\xfe\0\x10" * 500 + np.random.default_rng(5).bytes(50_000),
}


@pytest.mark.parametrize("name", AFTER)
@pytest.mark.parametrize("kind", ["mp3, Info", "mp3, Xing", "flac", "wav"])
def test_what_follows_a_whole_file_changes_nothing(kind: str, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    after, content = AFTER[name], made("telling", kind)
    bare = read_channels(EncodedAudio("a", content), None, RATE)
    tagged = read_channels(EncodedAudio("a", content + after), None, RATE)
    np.testing.assert_array_equal(tagged.samples, bare.samples)
    assert (tagged.length, tagged.duration_s, tagged.warnings) == (bare.length, bare.duration_s, ())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
@pytest.mark.parametrize("kind", ["mp3", "mp3, varying", "mp3, piped"])
def test_what_follows_an_mp3_without_its_length(kind: str, after: bytes) -> None:
    content = made("streamed", kind)
    assert read(content + after) == read(content)


def test_an_mp3_of_varying_rate_without_its_length_is_read_whole() -> None:
    """Of which libsndfile guesses a length that is too short."""
    loud_first = np.concatenate([noise(44100 * 2), 0.01 * noise(44100 * 8)])
    content = encode(
        loud_first,
        44100,
        "mp3",
        "libmp3lame",
        {"write_xing": "0"},
        quality={"flags": "+qscale", "global_quality": "236"},
    )
    duration_s, warnings = read(content)
    assert duration_s == pytest.approx(10, abs=0.06)
    assert warnings == (NO_LENGTH,)


def test_an_mp2_is_read_whole() -> None:
    duration_s, warnings = read(encode(chord(SECONDS), 44100, "mp2", "mp2"))
    assert duration_s == pytest.approx(SECONDS, abs=0.06)
    assert warnings == (NO_LENGTH,)


@pytest.mark.parametrize("extra", [1, 40])
def test_an_mp3_may_seem_to_have_some_frames_more_than_it_tells(extra: int) -> None:
    content = bytearray(made("telling", "mp3, Info"))
    at = content.index(b"Info") + 8
    content[at : at + 4] = (int.from_bytes(content[at : at + 4]) - extra).to_bytes(4)
    assert read(bytes(content))[1] == ()
    content[at : at + 4] = (int.from_bytes(content[at : at + 4]) - 41 + extra).to_bytes(4)
    with pytest.raises(DataError, match="several files one after the other"):
        read(bytes(content))


def test_a_wav_of_an_mp3_with_metadata_that_is_not_utf8() -> None:
    content = made("telling", "wav")
    info = b"INFOINAM" + struct.pack("<I", 4) + "Süß".encode("latin-1") + b"\0"
    chunk = b"LIST" + struct.pack("<I", len(info)) + info
    assert read(content[:36] + chunk + content[36:]) == (SECONDS, ())
