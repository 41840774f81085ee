"""Any upload is read as a card or refused: no crash, no hang, no growth of memory."""

import random
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.cards.formats.fields import character_fields
from service.cards.formats.reader import read_file
from service.errors import TooLarge, Unprocessable, UnsupportedMediaType
from tests.support.card_files import CONTAINERS, DIALECTS, in_byaf
from tests.support.cards import V1, V2, V3, V3_DATA, in_charx, in_json, in_png
from tests.support.pictures import chunk, draw_picture

pytestmark = pytest.mark.slow

ROUNDS = 60_000
LONGEST = 2.0  # seconds for one file of a few KiB
MOST = 100 * 1024**2  # bytes

PICTURE = draw_picture("PNG", 8, 8)
ICON = {"type": "icon", "uri": "embeded://assets/icon/a.png", "name": "main", "ext": "png"}
CORPUS = [
    in_json(V1),
    in_json(V2),
    in_json(V3 | {"data": V3_DATA | {"assets": [ICON]}}),
    in_png(PICTURE, chara=V2),
    in_png(PICTURE, chara=V2, ccv3=V3),
    in_charx(V3 | {"data": V3_DATA | {"assets": [ICON]}}, **{"assets/icon/a.png": PICTURE, "b": b"b" * 999}),
    draw_picture("JPEG", 8, 8) + in_charx(V3),
    PICTURE + in_charx(V2),
    *(make(document) for make in CONTAINERS.values() for document in DIALECTS.values()),
    in_byaf(),
]
TOKENS = [
    b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07",
    b"IEND", b"tEXt", b"chara\0", b"ccv3\0", b"chara-ext-asset_:", b"../", b'"', b"\\u0000", b"\\ud800", b"[" * 99,
    b'{"data":', b"1e999", b"9" * 500, b"NaN", b"\xef\xbb\xbf", chunk(b"tEXt", b"ccv3\0e30="),
    b"zTXt", b"iTXt", b"chara\0\1\0\0\0", b"Exif\0\0", b"RIFF", b"WEBP", b"UNICODE\0", b"II*\0", b"&a", b"*a", b"\n- ",
    b"manifest.json", b"characters/1/character.json", b'"kind": "character"', b"char_name: ", b"- " * 99,
]  # fmt: skip
OTHER_HEADS = [b"RIFF\0\0\0\0WEBPEXIF", b"name: "]
KINDS = [b"tEXt", b"IDAT", b"IEND", b"zTXt", b"iTXt"]


def is_read(content: bytes) -> bool:
    try:
        character_fields(read_file(content).card.data)
    except (TooLarge, UnsupportedMediaType, Unprocessable):
        return False
    return True


def mutated(chance: random.Random) -> Iterator[bytes]:
    """Endlessly: a few changes of a file of the corpus, or of two of them in one."""
    while True:
        content = bytearray(chance.choice(CORPUS))
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(content) + 1)
            match chance.randrange(6):
                case 0 if at < len(content):
                    content[at] ^= 1 << chance.randrange(8)
                case 1:
                    content[at : at + chance.randint(1, 64)] = b""
                case 2:
                    content[at:at] = chance.choice(TOKENS)
                case 3:
                    content[at : at + 4] = chance.randbytes(4)
                case 4:
                    other = chance.choice(CORPUS)
                    content[at:] = other[chance.randrange(len(other)) :]
                case _:
                    content[at:at] = content[: chance.randint(1, 200)]
        yield bytes(content)


def test_what_is_mutated() -> None:
    chance = random.Random(20261122)
    outcomes = {True: 0, False: 0}
    longest = 0.0
    tracemalloc.start()
    try:
        for content, _ in zip(mutated(chance), range(ROUNDS), strict=False):
            began = time.process_time()
            outcomes[is_read(content)] += 1
            longest = max(longest, time.process_time() - began)
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert min(outcomes.values()) > ROUNDS / 100, outcomes
    assert longest < LONGEST
    assert peak < MOST
    assert left < 5 * 1024**2


@settings(deadline=None, max_examples=20_000, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(CORPUS), st.binary(max_size=200), st.integers(0), st.integers(0, 200))
def test_what_is_put_in(base: bytes, put: bytes, at: int, without: int) -> None:
    at %= len(base) + 1
    is_read(base[:at] + put + base[at + without :])


@settings(deadline=None, max_examples=5_000, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"\xff\xd8\xff", b"{", *OTHER_HEADS]),
    st.binary(max_size=2_000),
)
def test_what_is_made_up(head: bytes, rest: bytes) -> None:
    is_read(head + rest)


def _chunks(*pieces: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in pieces)


@settings(deadline=None, max_examples=5_000, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.binary(max_size=50)), max_size=20))
def test_what_chunks_there_may_be(pieces: list[Any]) -> None:
    is_read(_chunks(*pieces))
    is_read(_chunks(*((kind, b"chara\0" + data) for kind, data in pieces)))
