"""The form of an upload, parsed while it arrives. Only this module imports multipart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from flask import request
from marshmallow import ValidationError
from multipart import MultipartError, MultipartSegment, PushMultipartParser

from loader.errors import BodyTruncated, LengthRequired, UnsupportedMediaType
from loader.web.bodies import invalid, read_piece
from loader.web.request_schemas import MAX_FOLDER_LENGTH, check_folder

READ_SIZE = 1 << 20
DEFAULT_FOLDER = "models"
# The names that clients give to the part with the file.
FILE_NAMES = ("file", "data")
# Holds any file name that a client sends, because the default of the parser refuses names of 4,000 characters.
HEADER_MAX_SIZE = 64 * 1024
MAX_PARTS = 64
# Limits the content of all unknown fields together, because a client must not send without end what nobody reads.
IGNORED_MAX_SIZE = 1 << 20

# The head of a form part, a piece of its content, or None at its end.
Event: TypeAlias = MultipartSegment | bytes | None


class StreamedForm:
    """The file and the folder of the current request, in either order, each at most once.

    The folder is DEFAULT_FOLDER if the form has none. The file name that the client gives and unknown fields are
    ignored, in any charset and within limits. Implements `loader.resources.UploadForm`. Every method raises
    BodyTruncated if the body ends early, and ValidationFailed if it is not such a form.
    """

    def __init__(self) -> None:
        """Check the headers without reading the body. Raises UnsupportedMediaType or LengthRequired."""
        boundary = request.mimetype_params.get("boundary")
        if request.mimetype != "multipart/form-data" or not boundary:
            raise UnsupportedMediaType("The body must be of type multipart/form-data, with a boundary.")
        if request.content_length is None:
            raise LengthRequired("An upload must announce its Content-Length.")
        self.length = request.content_length
        self._end_size = len(f"\r\n--{boundary}--\r\n")
        self._received = 0
        self._last_read = b""
        self._first_piece: bytes | None = None
        self._events = self._parse(boundary)
        self._folder: str | None = None
        self._file_started = False
        self._ignored = 0

    def folder_if_first(self) -> str | None:
        """Read up to the content of the file. Return the folder if it came before the file, otherwise None."""
        for event in self._events:
            if isinstance(event, MultipartSegment) and self._enter(event):
                self._first_piece = self._next_piece()
                return self._folder
        raise invalid({"file": ["Missing part."]})

    def file_size(self) -> int | None:
        """Return the size of the file if nothing but the last boundary follows it, as most clients send it.

        Call `folder_if_first` before this. The caller compares, because what follows the file is not known yet. None if
        the file is empty.
        """
        if self._first_piece is None:
            return None
        # The first piece usually runs to the end of the last read, and always begins in it or just before.
        found = self._last_read.rfind(self._first_piece)
        behind = len(self._first_piece) if found < 0 else len(self._last_read) - found
        return max(0, self.length - self._received + behind - self._end_size)

    def file_pieces(self) -> Iterator[bytes]:
        """Yield the content of the file; call `folder_if_first` before this."""
        piece, self._first_piece = self._first_piece, None
        while piece is not None:
            yield piece
            piece = self._next_piece()

    def folder_at_end(self) -> str:
        """Read to the end of the form and return the folder."""
        for event in self._events:
            if isinstance(event, MultipartSegment):
                self._enter(event)
        return DEFAULT_FOLDER if self._folder is None else self._folder

    def _next_piece(self) -> bytes | None:
        """Return the next piece of the current part, None at its end."""
        event = next(self._events, None)
        return None if isinstance(event, MultipartSegment) else event

    def _enter(self, part: MultipartSegment) -> bool:
        """Return whether `part` is the file; read `part` if it is anything else."""
        if part.name in FILE_NAMES:
            if self._file_started:
                raise invalid({"file": ["More than one file."]})
            self._file_started = True
        elif part.name == "folder":
            if self._folder is not None:
                raise invalid({"folder": ["More than one folder."]})
            self._folder = self._read_folder()
        else:
            self._ignore_content()
        return part.name in FILE_NAMES

    def _ignore_content(self) -> None:
        """Read to the end of the current part."""
        for event in self._events:
            if event is None:
                return
            self._ignored += len(event)
            if self._ignored > IGNORED_MAX_SIZE:
                raise invalid({"form": [f"More than {IGNORED_MAX_SIZE} bytes of unknown fields."]})

    def _read_folder(self) -> str:
        """Return the content of the current part as a valid folder."""
        value = bytearray()
        for event in self._events:
            if event is None:
                break
            value += event
            if len(value) > MAX_FOLDER_LENGTH:
                raise invalid({"folder": ["Too long."]})
        try:
            folder = value.decode()
            check_folder(folder)
        except (UnicodeDecodeError, ValidationError) as exc:
            messages = exc.messages if isinstance(exc, ValidationError) else ["Not UTF-8."]
            raise invalid({"folder": list(messages)}) from None
        return folder

    def _parse(self, boundary: str) -> Iterator[Event]:
        """Yield the parser's events for the whole body. Only exceptions of the parser itself are translated."""
        try:
            # Not `strict`, because a strict parser refuses the line break after the last boundary if a read ends there.
            # Latin-1 decodes every byte, so that no file name in another charset makes the form unreadable.
            parser = PushMultipartParser(
                boundary,
                content_length=self.length,
                max_header_size=HEADER_MAX_SIZE,
                max_segment_count=MAX_PARTS,
                header_charset="latin-1",
            )
            while piece := read_piece(READ_SIZE):
                self._received += len(piece)
                self._last_read = piece
                yield from parser.parse(piece)
        except MultipartError as exc:
            raise invalid({"form": ["Not a multipart form."]}) from exc
        if self._received < self.length:
            raise BodyTruncated(f"Only {self._received} of {self.length} bytes of the body arrived.")
        try:
            parser.close()
        except MultipartError as exc:
            raise BodyTruncated("The form ends before its last boundary.") from exc
