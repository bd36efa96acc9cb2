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
DATA = part("data", TRICKY, filename="x")
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


@pytest.mark.parametrize("size", [1, 2, 100, 5000])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 1000, 10_000])
def test_the_size_of_a_file_at_the_end_is_known_when_it_begins(step: int, size: int) -> None:
    content = bytes(range(256)) * 20
    body = form(FOLDER, part("file", content[:size], filename="x"))
    with a_request(Pieces(body[at : at + step] for at in range(0, len(body), step)), len(body)):
        streamed = StreamedForm()
        streamed.folder_if_first()
        seeming = streamed.file_size()
        assert b"".join(streamed.file_pieces()) == content[:size]
    assert seeming == size


@pytest.mark.parametrize(
    ("file", "seeming"), [(form(FOLDER, part("file", b"", filename="x")), None), (form(FILE, FOLDER), len(TRICKY) + 86)]
)
def test_an_empty_file_has_no_size_and_one_before_other_fields_seems_larger(file: bytes, seeming: int | None) -> None:
    with a_request(Pieces([file]), len(file)):
        streamed = StreamedForm()
        streamed.folder_if_first()
        assert streamed.file_size() == seeming


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
        ((), "file"),
        ((FOLDER, FILE, FILE), "file"),
        ((FILE, FILE, FOLDER), "file"),
        ((FOLDER, FOLDER, FILE), "folder"),
        ((FOLDER, FILE, FOLDER), "folder"),
        ((FILE, FOLDER, FOLDER), "folder"),
        ((DATA, FILE, FOLDER), "file"),
        ((FOLDER, FILE, DATA), "file"),
        ((part("FILE", b"x"), FOLDER), "file"),
        ((b"Content-Type: text/plain\r\n\r\nx", FILE), "form"),
        ((b"no header at all", FILE), "form"),
        ((part("folder", b"f" * 4097), FILE), "folder"),
        ((part("folder", b"m\xff"), FILE), "folder"),
        ((part("folder", b"../etc"), FILE), "folder"),
        ((FILE, part("folder", b"f" * 100_000)), "folder"),
        ((b"X: " + b"y" * 70_000 + b"\r\n" + FOLDER, FILE), "form"),
        ((b'Content-Disposition: form-data; name="file"; filename="' + b"n" * 3_000_000, FOLDER), "form"),
        ((FOLDER, part("comment", bytes(1 << 20)), part("comment", b"x"), FILE), "form"),
        ((FOLDER, FILE, part("comment", bytes((1 << 20) + 1))), "form"),
        ((FILE, part("thumbnail", bytes(3 << 20), filename="t"), FOLDER), "form"),
        ((*[part("", b"")] * 64, FILE), "form"),
    ],
)
def test_form_with_other_parts_is_refused_by_name(parts: tuple[bytes, ...], field: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse([form(*parts)])
    assert set(caught.value.errors) == {field}


UNKNOWN = {
    "a button": part("submit", b"Upload"),
    "a charset": part("_charset_", b"windows-1251"),
    "a field in another charset": b'Content-Disposition: form-data; name="\xef\xee\xeb\xe5"\r\n\r\n\xe4\xe0',
    "a field without a name": part("", b"x"),
    "a field in capitals": part("FOLDER", b"../etc"),
    "a file nobody asked for": part("thumbnail", bytes(1 << 20), filename="t.png"),
    "many fields": b"\r\n--boundary-of-the-tests\r\n".join([part("tag", b"x")] * 60),
    "a field like a boundary": part("note", TRICKY),
}


@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize("position", range(3), ids=["first", "between", "last"])
def test_unknown_fields_are_ignored_wherever_they_are(unknown: str, position: int) -> None:
    for known in ([FOLDER, FILE], [FILE, FOLDER]):
        parts = [*known[:position], UNKNOWN[unknown], *known[position:]]
        assert parse([form(*parts)]) == Parsed("models/day", TRICKY, known[0] is FOLDER)


# The parameters of a part with the file, as clients of all kinds write them.
FILE_NAMES = {
    "cp1251": b'name="file"; filename="\xec\xee\xe4\xe5\xeb\xfc.onnx"',
    "Shift JIS that ends with a backslash": b'name="file"; filename="' + "\u8868".encode("shift-jis") + b'"',
    "Shift JIS before the name": b'name=file; filename="' + "\u8868\u80fd.bin".encode("shift-jis") + b'"; x="y"',
    "GB 18030": b'name="file"; filename="' + "\u6a21\u578b".encode("gb18030") + b'"',
    "UTF-8": b'name="file"; filename="' + "\u043c\u043e\u0434\u0435\u043b\u044c".encode() + b'"',
    "cut UTF-8": b'name="file"; filename="\xd0"',
    "extended": b'name="file"; filename*=UTF-8\'\'%D0%BC; filename="\xd0\xbc"',
    "5,000 characters": b'name="file"; filename="' + b"n" * 5000 + b'"',
    "60,000 bytes": b'name="file"; filename="' + b"\xd0\xbc" * 30_000 + b'"',
    "quotes": b'name="file"; filename="a \\"b\\" %22.bin"',
    "NUL and control characters": b'name="file"; filename="\x00\x01\x85\xa0"',
    "folded": b'name="file";\r\n filename="\xff"',
    "no quotes": b"name=file; filename=\xe9.bin",
    "no file name": b'name="file"',
    "data": b'name="data"; filename="\xe9"',
    "data without a file name": b"name=data",
}


@pytest.mark.parametrize("name", FILE_NAMES)
def test_the_file_name_of_the_client_is_ignored_in_any_charset(name: str) -> None:
    file = b"Content-Disposition: form-data; " + FILE_NAMES[name] + b"\r\n\r\n" + TRICKY
    for parts in ((FOLDER, file), (file, FOLDER)):
        body = form(*parts)
        expected = Parsed("models/day", TRICKY, parts[0] is FOLDER)
        assert parse([body]) == expected
        if len(body) < 1000:
            assert parse(body[start : start + 1] for start in range(len(body))) == expected


@pytest.mark.parametrize("file", [FILE, DATA], ids=["file", "data"])
def test_a_form_without_a_folder_is_for_the_folder_models(file: bytes) -> None:
    assert parse([form(file)]) == Parsed("models", TRICKY, folder_was_first=False)


def test_an_empty_folder_is_not_a_missing_one() -> None:
    assert parse([form(FILE, part("folder", b""))]).folder == ""


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
