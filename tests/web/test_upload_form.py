"""The form of an upload, wherever its bytes are split into reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import pytest
from flask import Flask
from flask.ctx import RequestContext
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import create_environ

from loader.errors import BodyTruncated, LengthRequired, UnsupportedMediaType, ValidationFailed
from loader.web.upload_form import StreamedForm
from tests.support.http_calls import BOUNDARY, form, part

# Text that looks like a boundary but is not one.
TRICKY = (
    f"\r\n--{BOUNDARY[:-1]}\r\n--\r\r\n\n--{BOUNDARY}--\r\n\r\n-{BOUNDARY}\r\n--{BOUNDARY.upper()}\r\n-".encode()
    + b"\x00\xff\r"
)
FOLDER = part("folder", b"models/day")
FILE = part("file", TRICKY, filename="../../etc/passwd")
BODIES = {"folder first": form(FOLDER, FILE), "file first": form(FILE, FOLDER)}
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"

app = Flask("upload_form")


class Pieces:
    """A `wsgi.input` that returns one of these pieces per read."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes of the next piece."""
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if len(piece) > size:
            self._pieces.insert(0, piece[size:])
        return piece[:size]


def a_request(body: Pieces, length: int | None, content_type: str = MULTIPART) -> RequestContext:
    """Return the WSGI environment of a request as gunicorn makes it."""
    environ = create_environ(method="POST")
    environ |= {"wsgi.input": body, "wsgi.input_terminated": True, "CONTENT_TYPE": content_type}
    if length is not None:
        environ["CONTENT_LENGTH"] = str(length)
    else:
        environ.pop("CONTENT_LENGTH", None)
    return app.request_context(environ)


class Parsed(NamedTuple):
    """The content of a parsed form."""

    folder: str
    content: bytes
    folder_was_first: bool


def parse(pieces: Iterable[bytes], *, announced: int | None = None, content_type: str = MULTIPART) -> Parsed:
    """Read a whole form as an upload does."""
    sent = list(pieces)
    length = sum(map(len, sent)) if announced is None else announced
    with a_request(Pieces(sent), length, content_type):
        streamed = StreamedForm()
        early = streamed.folder_if_first()
        content = b"".join(streamed.file_pieces())
        return Parsed(streamed.folder_at_end(), content, early is not None)


@pytest.mark.parametrize("order", BODIES)
def test_form_split_at_every_byte_is_the_same_form(order: str) -> None:
    body = BODIES[order]
    expected = Parsed("models/day", TRICKY, order == "folder first")
    for position in range(len(body) + 1):
        assert parse([body[:position], body[position:]]) == expected, position
    for step in (1, 2, 3, 7):
        assert parse(body[start : start + step] for start in range(0, len(body), step)) == expected


@pytest.mark.parametrize("order", BODIES)
def test_preamble_and_epilogue_are_skipped_at_every_split(order: str) -> None:
    body = (
        b"This is a form\r\nof the old kind.\r\n" + BODIES[order] + b"\r\nThe end.\r\n--" + BOUNDARY.encode() + b"\r\n"
    )
    for position in range(len(body) + 1):
        parsed = parse([body[:position], body[position:]])
        assert (parsed.folder, parsed.content) == ("models/day", TRICKY), position


@pytest.mark.parametrize("order", BODIES)
def test_form_cut_at_every_byte_is_truncated_and_never_shorter(order: str) -> None:
    body = BODIES[order]
    for length in range(len(body)):
        with pytest.raises(BodyTruncated):
            parse([body[:length]], announced=len(body))
    complete = len(body) - len("\r\n")
    for length in range(complete):
        with pytest.raises(BodyTruncated):
            parse([body[:length]])
    assert parse([body[:complete]]).content == TRICKY


@settings(max_examples=200, deadline=None)
@given(
    content=st.one_of(st.binary(max_size=200), st.text(alphabet=f"\r\n-{BOUNDARY[:3]}", max_size=200).map(str.encode)),
    file_first=st.booleans(),
    cuts=st.lists(st.integers(min_value=0, max_value=500), max_size=6),
)
def test_any_content_is_read_unchanged(content: bytes, file_first: bool, cuts: list[int]) -> None:
    file = part("file", content)
    body = form(file, FOLDER) if file_first else form(FOLDER, file)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[start:end] for start, end in itertools.pairwise(edges)]
    assert parse(pieces) == Parsed("models/day", content, not file_first)


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ((FOLDER,), "file"),
        ((FILE,), "folder"),
        ((), "file"),
        ((FOLDER, FILE, FILE), "file"),
        ((FILE, FILE, FOLDER), "file"),
        ((FOLDER, FOLDER, FILE), "folder"),
        ((FOLDER, FILE, FOLDER), "folder"),
        ((FILE, FOLDER, FOLDER), "folder"),
        ((part("comment", b"x"), FOLDER, FILE), "comment"),
        ((FOLDER, FILE, part("comment", b"x")), "comment"),
        ((part("FILE", b"x"), FOLDER), "FILE"),
        ((part("", b"x"), FOLDER), "form"),
        ((b"Content-Type: text/plain\r\n\r\nx", FILE), "form"),
        ((b"no header at all", FILE), "form"),
        ((part("folder", b"f" * 4097), FILE), "folder"),
        ((part("folder", b"m\xff"), FILE), "folder"),
        ((part("folder", b"../etc"), FILE), "folder"),
        ((FILE, part("folder", b"f" * 100_000)), "folder"),
        ((b"X: " + b"y" * 10_000 + b"\r\n" + FOLDER, FILE), "form"),
    ],
)
def test_form_with_other_parts_is_refused_by_name(parts: tuple[bytes, ...], field: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse([form(*parts)])
    assert set(caught.value.errors) == {field}


def test_form_of_another_boundary_is_truncated() -> None:
    with pytest.raises(BodyTruncated):
        parse([BODIES["folder first"]], content_type="multipart/form-data; boundary=other")


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/mixed; boundary={BOUNDARY}",
        "application/x-www-form-urlencoded",
    ],
)
def test_other_content_types_are_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        parse([BODIES["folder first"]], content_type=content_type)


@pytest.mark.parametrize("boundary", ["\xe9", "b" * 2000, '"a b"', "\x7f"])
def test_a_strange_boundary_is_not_an_internal_error(boundary: str) -> None:
    with pytest.raises((BodyTruncated, ValidationFailed, UnsupportedMediaType)):
        parse([BODIES["folder first"]], content_type=f"multipart/form-data; boundary={boundary}")


def test_form_of_unknown_length_is_refused() -> None:
    with a_request(Pieces([BODIES["folder first"]]), None), pytest.raises(LengthRequired):
        StreamedForm()


def test_a_broken_connection_is_a_truncation() -> None:
    class Broken(Pieces):
        def read(self, size: int) -> bytes:
            piece = super().read(size)
            if not piece:
                raise ConnectionResetError("reset by the client")
            return piece

    with a_request(Broken([BODIES["folder first"][:250]]), 999):
        streamed = StreamedForm()
        streamed.folder_if_first()
        with pytest.raises(BodyTruncated):
            list(streamed.file_pieces())
