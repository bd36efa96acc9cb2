"""Hostile bodies: cut at every position, of a wrong length, in broken chunks, of a wrong type, nested too deeply."""

from __future__ import annotations

import json

from tests.web.hostile.requests import (
    FORM,
    FORM_TYPE,
    JSON_TYPE,
    LOAD,
    NAME,
    Attack,
    Attacks,
    head,
    seeded,
    with_length,
)

UPLOAD_PATH, LOAD_PATH = f"/upload/{NAME}".encode(), f"/load/{NAME}".encode()
KINDS = ((UPLOAD_PATH, FORM_TYPE, FORM), (LOAD_PATH, JSON_TYPE, LOAD), (b"/login", JSON_TYPE, LOAD))
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTHS = (
    *(
        b"-1",
        b"-0",
        b"+5",
        b" 5",
        b"5 5",
        b"0x10",
        b"1e3",
        b"1_0",
        b"5.0",
        b"five",
        b"",
        b"5,5",
        b"5, 6",
        b"\xb2",
        b"5;",
    ),
    *(b"5\x00", b"\xd9\xa3", b"00000000005", b"9" * 18, b"9" * 40, b"9" * 4_000, b"9" * 5_000, b"2147483648"),
    *(b"18446744073709551616", b"9223372036854775807"),
)
SIZES = (
    *(b"", b"-1", b"+5", b"0x5", b"5 ", b" 5", b"5\t", b"g", b"1_0", b"FFFFFFFF", b"F" * 16, b"F" * 17, b"F" * 4_000),
    *(
        b"7fffffffffffffff",
        b"5;" + b"e" * 9_000,
        b"5;a=b;c",
        b"5\x00",
        b"5\r",
        b"5\n",
        b"00000000000000000005",
        b"\xff",
    ),
)
TRAILERS = (
    *(
        b"",
        b"X-Trailer: 1\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: evil\r\n",
        b"\0\r\n",
    ),
    *(b"no colon\r\n", b": \r\n", b"X: " + b"t" * 20_000 + b"\r\n", b"X: 1\r\n" * 500, b"\xff: \xff\r\n", b"X: 1"),
)
VALUES: tuple[object, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    " ",
    "\0",
    "\ud800",
    "x" * 5_000,
    [],
    ["a"],
    {},
    {"email": "a"},
    [[]] * 50,
)


def cut_bodies() -> Attacks:
    """Yield bodies cut at every position, with the Content-Length of the whole body and with the right one."""
    for path, kind, body in KINDS:
        for length in range(len(body)):
            announced = b"Content-Length: %d\r\n" % len(body)
            yield Attack("cut body", head(b"POST", path, kind, announced) + body[:length])
            yield Attack("shorter body", with_length(b"POST", path, body[:length], kind), framed=True)


def wrong_lengths() -> Attacks:
    """Yield bodies whose Content-Length is too long, too short, negative, not a number or present twice."""
    for path, kind, body in KINDS:
        for length in LENGTHS:
            line = b"Content-Length: " + length + b"\r\n"
            yield Attack("wrong length", head(b"POST", path, kind, line) + body)
            right = b"Content-Length: %d\r\n" % len(body)
            yield Attack("two lengths", head(b"POST", path, kind, right, line) + body)
            yield Attack("length and chunks", head(b"POST", path, kind, CHUNKED, line) + body)
        for short in range(len(body)):
            yield Attack("too short", head(b"POST", path, kind, b"Content-Length: %d\r\n" % short) + body)


def broken_chunks() -> Attacks:
    """Yield chunked bodies with wrong chunk sizes, with trailers, and cut at every position."""
    for path, kind, body in KINDS:
        start = head(b"POST", path, kind, CHUNKED)
        for size in SIZES:
            yield Attack("chunk size", start + size + b"\r\n" + body + b"\r\n0\r\n\r\n")
        whole = b"%x\r\n" % len(body) + body + b"\r\n0\r\n"
        for trailer in TRAILERS:
            yield Attack("trailer", start + whole + trailer + b"\r\n")
        for length in range(len(whole)):
            yield Attack("cut chunk", start + whole[:length])
        yield Attack("chunks of one byte", start + b"".join(b"1\r\n%c\r\n" % each for each in body) + b"0\r\n\r\n")


def wrong_documents() -> Attacks:
    """Yield JSON bodies of other types, fields and encodings; none of them is a valid login or load."""
    for path in (b"/login", b"/unlock", LOAD_PATH):
        for value in VALUES:
            documents: list[object] = [value, {"email": value}, {"folder": value, "filename": value, "x": value}]
            documents += [{"email": value, "password": []}, {"email": [], "password": value}]
            for document in documents:
                body = json.dumps(document).encode()
                yield Attack("wrong document", with_length(b"POST", path, body, JSON_TYPE), framed=True)
        for encoding in ("utf-16", "utf-32", "utf-7", "cp037"):
            body = LOAD.decode().encode(encoding)
            yield Attack("other encoding", with_length(b"POST", b"/login", body, JSON_TYPE), framed=True)


def deep_documents() -> Attacks:
    """Yield deeply nested JSON, some of it within the size limit of a body and some beyond it."""
    for path in (b"/login", b"/unlock", LOAD_PATH):
        for count in (1_000, 30_000, 100_000):
            bodies = (b"[" * count + b"]" * count, b"[" * count, b'{"a":' * count, b'{"email":' + b"[" * count + b"}")
            for body in bodies:
                yield Attack("deep JSON", with_length(b"POST", path, body, JSON_TYPE))


def broken_forms(count: int) -> Attacks:
    """Yield `count` forms with a few bytes changed, removed or inserted; their Content-Length is right."""
    chance = seeded("broken forms")
    for _ in range(count):
        body = bytearray(FORM)
        for _ in range(chance.randint(1, 3)):
            start = chance.randrange(len(body))
            inserted = chance.choice((b"", b"\0", b"\xff", b"\r\n", b"--", b'"', b"\r\n\r\n", b"a" * 5_000))
            body[start : start + chance.randint(0, 3)] = inserted
        yield Attack("broken form", with_length(b"POST", UPLOAD_PATH, bytes(body), FORM_TYPE), framed=True)
