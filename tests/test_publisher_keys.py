"""The file of the publishers' public keys: what is read, and every line that is refused."""

from __future__ import annotations

import base64
import os
import re
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from loader.publisher_keys import MAX_FILE_SIZE, PublisherKey, PublisherKeys, require_sound
from tests.support.publishers import ANNA, BEN, TRUSTED, write_publishers

# Edwards25519 once more, by the formulas of RFC 8032, section 5.1.4, in affine coordinates.
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)
Point = tuple[int, int]
RFC_8032_TEST_1 = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
NEUTRAL = (0, 1)
BASE = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    46316835694926478169428394003475163141307993866256225615783033603165251855960,
)


def add(first: Point, second: Point) -> Point:
    (x1, y1), (x2, y2) = first, second
    product = D * x1 * x2 * y1 * y2
    return (
        (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P,
    )


def multiple(point: Point, count: int) -> Point:
    found = NEUTRAL
    for _ in range(count):
        found = add(found, point)
    return found


def square_root(value: int) -> int:
    root = pow(value, (P + 3) // 8, P)
    return root if root * root % P == value % P else root * ROOT_OF_MINUS_1 % P


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def torsion() -> list[Point]:
    """Return the eight points whose order divides 8: the multiples of one of order 8.

    Twice such a point has y = 0, so that y^2 = -x^2, and the equation of the curve becomes d x^4 - 2 x^2 - 1 = 0.
    """
    for sign in (1, -1):
        x_squared = (1 + sign * square_root(1 + D)) * pow(D, -1, P) % P
        x, y = square_root(x_squared), square_root(-x_squared)
        if (x * x - x_squared) % P == 0 and (y * y + x_squared) % P == 0:
            return [multiple((x, y), count) for count in range(8)]
    raise AssertionError("there is no point of order 8")


def line_of(key: bytes) -> str:
    return f"anna {base64.b64encode(key).decode()}"


def test_the_points_of_small_order_are_eight() -> None:
    points = torsion()
    assert len(set(points)) == 8
    assert all(multiple(point, 8) == NEUTRAL for point in points)


@pytest.mark.parametrize("key", [encoded(point) for point in torsion()], ids=bytes.hex)
def test_a_key_of_small_order_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="line 1 has a key of small order"):
        PublisherKeys.parse(line_of(key))


def other_encodings() -> list[bytes]:
    """Return every encoding that is not the one of its point: a y of p or more, and a sign of x = 0."""
    large = [(y | sign << 255).to_bytes(32, "little") for y in range(P, 2**255) for sign in (0, 1)]
    return [*large, *((y | 1 << 255).to_bytes(32, "little") for y in (1, P - 1))]


@pytest.mark.parametrize("key", other_encodings(), ids=bytes.hex)
def test_a_key_in_another_encoding_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match=r"not canonical|small order"):
        require_sound(key)


def test_a_key_that_is_no_point_is_refused() -> None:
    """About half of all y belong to no point."""
    outcomes = []
    for y in range(2, 200):
        x_squared = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
        there = square_root(x_squared) ** 2 % P == x_squared
        with nullcontext() if there else pytest.raises(ValueError, match="no point of the curve"):
            require_sound(y.to_bytes(32, "little"))
        outcomes.append(there)
    assert 70 < sum(outcomes) < 130


def test_ordinary_keys_are_accepted() -> None:
    """Also one that differs from another by a point of order 8: only its owner can sign under it."""
    for key in (ANNA.public, BEN.public, encoded(BASE), encoded(multiple(BASE, 5)), encoded(add(BASE, torsion()[1]))):
        require_sound(key)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="not canonical"):
        require_sound(bytes([9] * size))


TEXT = f"""# the publishers of our fleet

anna {base64.b64encode(ANNA.public).decode()} 2030-01-31\r
   # ben has no expiry
\tben\t{base64.b64encode(BEN.public).decode()}\t
anna-again {base64.b64encode(ANNA.public).decode()}
"""


def test_comments_and_blank_lines_say_nothing_and_a_key_counts_once(tmp_path: Path) -> None:
    expected = (PublisherKey("anna", ANNA.public, date(2030, 1, 31)), PublisherKey("ben", BEN.public))
    (tmp_path / "keys").write_bytes(TEXT.encode())
    (tmp_path / "link").symlink_to("keys")
    (tmp_path / "windows").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    for found in (
        PublisherKeys.read(tmp_path / "windows"),
        PublisherKeys.parse(TEXT),
        PublisherKeys.read(tmp_path / "keys"),
        PublisherKeys.read(tmp_path / "link"),
    ):
        assert found.keys == expected


def test_the_example_of_the_document_is_read() -> None:
    document = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
    (example,) = re.findall(r"```\n(# NAME BASE64.*?)```", document, re.DOTALL)
    (key,) = PublisherKeys.parse(example).keys
    assert key == PublisherKey("anna", bytes.fromhex(RFC_8032_TEST_1), date(2027, 12, 31))


def test_a_key_is_found_by_its_bytes() -> None:
    assert TRUSTED.find(BEN.public) == PublisherKey("ben", BEN.public)
    assert TRUSTED.find(BEN.public[:-1] + bytes([BEN.public[-1] ^ 0x80])) is None


def test_a_line_is_read_as_it_is_written(tmp_path: Path) -> None:
    keys = PublisherKeys((PublisherKey("anna", ANNA.public, date(2030, 1, 31)), PublisherKey("ben", BEN.public)))
    assert PublisherKeys.read(write_publishers(tmp_path / "keys", keys)) == keys


ANNAS = base64.b64encode(ANNA.public).decode()
NO_LINES = {
    "only a name": ("anna", "is not NAME BASE64"),
    "only a key": (ANNAS, "is not NAME BASE64"),
    "a fourth word": (f"anna {ANNAS} 2030-01-31 x", "is not NAME BASE64"),
    "a name that a terminal obeys": (f"anna\x1b[2J {ANNAS}", "is not NAME BASE64"),
    "no base64": (f"anna {ANNAS[:-2]}*=", "not base64"),
    "hex": (f"anna {ANNA.public.hex()}", "not base64 of 32 bytes"),
    "without padding": (f"anna {ANNAS.rstrip('=')}", "not base64"),
    "31 bytes": (f"anna {base64.b64encode(ANNA.public[:31]).decode()}", "not base64 of 32 bytes"),
    "33 bytes": (f"anna {base64.b64encode(ANNA.public + bytes(1)).decode()}", "not base64 of 32 bytes"),
    "spare bits": (f"anna {ANNAS[:-2]}{chr(ord(ANNAS[-2]) + 1)}=", "not base64 of 32 bytes"),
    "no date": (f"anna {ANNAS} soon", "a date that is not YYYY-MM-DD"),
    "no such day": (f"anna {ANNAS} 2030-02-30", "a date that is not YYYY-MM-DD"),
    "a date of another form": (f"anna {ANNAS} 20300131", "a date that is not YYYY-MM-DD"),
}


@pytest.mark.parametrize(("line", "problem"), NO_LINES.values(), ids=NO_LINES)
def test_a_malformed_line_is_told_with_its_number_and_without_its_text(line: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"names a file whose line 3 {problem}|line 3 has .*{problem}") as refusal:
        PublisherKeys.parse(f"# first\nben {base64.b64encode(BEN.public).decode()}\n{line}\n")
    assert "\x1b" not in str(refusal.value)
    assert ANNAS[:20] not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "\n", "# nobody\n\n"])
def test_a_file_without_a_key_is_refused(text: str) -> None:
    """An empty setting trusts everybody, and a file of nobody would refuse every archive."""
    with pytest.raises(ValueError, match="names a file without a key"):
        PublisherKeys.parse(text)


def test_what_is_no_file_of_text_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"#" * (MAX_FILE_SIZE + 1))
    cases = {"absent": "No such file", "pipe": "not a regular file", "binary": "not UTF-8", "large": "more than 65536"}
    for name, problem in cases.items():
        with pytest.raises(ValueError, match=problem):
            PublisherKeys.read(tmp_path / name)
    with pytest.raises(ValueError, match="cannot be read"):
        PublisherKeys.read(tmp_path)


def test_a_key_counts_on_its_last_day_and_is_warned_of_after_it() -> None:
    today = datetime.now(UTC).date()
    days = {"past": today - timedelta(days=2), "future": today + timedelta(days=2), "never": None}
    keys = PublisherKeys(tuple(PublisherKey(name, bytes(32), day) for name, day in days.items()))
    (warning,) = keys.warnings()
    assert warning == f"PUBLISHER_KEYS: the key of past expired on {days['past']}, but counts while it is listed."
