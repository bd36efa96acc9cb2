"""Hostile names in paths, in JSON and in forms: encodings, traversal, NUL, CR LF, Unicode and excessive length."""

from __future__ import annotations

import json
import random
from urllib.parse import quote_from_bytes

from tests.support.http_calls import form, part
from tests.web.hostile.requests import (
    FOLDER,
    FORM_TYPE,
    JSON_TYPE,
    NAME,
    Attack,
    Attacks,
    head,
    seeded,
    with_length,
)

PIECES = (
    *("..", "../", "/", "\\", "//", ".", "%2e", "%2f", "%5c", "%252e%252e%252f", "%c0%ae", "%00", "\0", "\r\n", "\n"),
    *(
        "%0d%0aX-Injected: 1",
        "é",
        "\u202e",
        "\ufeff",
        "\uff41",
        "\U0001d52b",
        "\ud800",
        "\U0010ffff",
        " ",
        "+",
        "~",
        "-",
        "'",
        '"',
    ),
    *(";", ":", "?", "#", "[", "]", "@", "etc/passwd", "C:", "CON", "name.bin", ".small", ".big", "a" * 130, "${x}"),
    *("%s%n", "{{7*7}}", "<script>", "$(id)", "`id`", "|", "&", "*", "\x7f", "\x1b[2J", "x" * 3_000),
)
ROUTES = (b"/load/", b"/upload/", b"/static/", b"/")


def _name(chance: random.Random) -> str:
    """Return a random name that is never valid, because it has a forbidden character or is too long."""
    pieces = chance.choices(PIECES, k=chance.randint(1, 4))
    return "".join(pieces) + chance.choice(("/..", "\0", "%", "é", "a" * 130))


def _encoded(name: str, chance: random.Random) -> bytes:
    raw = name.encode("utf-8", "surrogatepass")
    safe = chance.choice(("", "/", "/%", "/%~'()*;:@"))
    return quote_from_bytes(raw, safe).encode()


def in_paths(count: int) -> Attacks:
    """Yield `count` requests with a name in the path, percent-encoded once, twice or wrongly, for each route."""
    chance = seeded("names in paths")
    for _ in range(count):
        path = chance.choice(ROUTES) + _encoded(_name(chance), chance)
        if chance.random() < 0.3:
            yield Attack("name in a GET", head(b"GET", path), framed=True)
        else:
            body = json.dumps({"filename": _name(chance), "folder": FOLDER}).encode()
            yield Attack("name in a POST", with_length(b"POST", path, body, JSON_TYPE), framed=True)


def in_json(count: int) -> Attacks:
    """Yield `count` loads with a valid path, a bad folder, and a filename that is valid or bad."""
    chance = seeded("names in JSON")
    for _ in range(count):
        document = {"filename": chance.choice((NAME, _name(chance))), "folder": _name(chance)}
        body = json.dumps(document).encode()
        yield Attack("name in JSON", with_length(b"POST", f"/load/{NAME}".encode(), body, JSON_TYPE), framed=True)


def in_forms(count: int) -> Attacks:
    """Yield `count` uploads with bad names as the folder, as the names of the parts and as the file's name."""
    chance = seeded("names in forms")
    path = f"/upload/{NAME}".encode()
    for _ in range(count):
        folder = _name(chance).encode("utf-8", chance.choice(("surrogatepass", "replace")))
        file = part(chance.choice(("file", "file", "folder", "x")), b"content", filename="file")
        file = file.replace(b'"file"', b'"' + _name(chance).encode("utf-8", "replace") + b'"', chance.randint(0, 1))
        parts = [part("folder", folder), file]
        chance.shuffle(parts)
        yield Attack("name in a form", with_length(b"POST", path, form(*parts), FORM_TYPE), framed=True)


def raw_bytes(count: int) -> Attacks:
    """Yield `count` paths of bytes that no path may have, some of which contain the head of another request."""
    chance = seeded("raw bytes in paths")
    for _ in range(count):
        name = bytes(chance.choices(range(256), k=chance.randint(1, 30)))
        injected = chance.choice((b"", b" HTTP/1.1\r\nX: ", b"\r\n\r\nGET /status HTTP/1.1\r\n"))
        yield Attack("raw bytes in a path", head(b"POST", b"/load/" + name + injected + b"\xff", JSON_TYPE))
