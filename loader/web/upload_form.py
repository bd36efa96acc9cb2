"""The form of an upload, parsed as it streams by. The only importer of multipart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from flask import request
from marshmallow import ValidationError
from multipart import MultipartError, MultipartSegment, PushMultipartParser

from loader.errors import BodyTruncated, LengthRequired, UnsupportedMediaType
from loader.web.bodies import invalid, read_piece
from loader.web.schemas import MAX_FOLDER_LENGTH, check_folder

READ_SIZE = 1 << 20

# A part begins, a piece of its content, its end.
Event: TypeAlias = MultipartSegment | bytes | None


class StreamedForm:
    """The present request's `file` and `folder`, in either order, each once. See `loader.resources.UploadForm`.

    Every method raises BodyTruncated for a body that ends early and ValidationFailed for one that is no such form.
    """

    def __init__(self) -> None:
        """Raises UnsupportedMediaType and LengthRequired; nothing is read yet."""
        boundary = request.mimetype_params.get("boundary")
        if request.mimetype != "multipart/form-data" or not boundary:
            raise UnsupportedMediaType("The body must be of type multipart/form-data, with a boundary.")
        if request.content_length is None:
            raise LengthRequired("An upload must announce its Content-Length.")
        self.length = request.content_length
        self._events = self._parse(boundary)
        self._folder: str | None = None
        self._file_begun = False

    def folder_if_first(self) -> str | None:
        """Read up to the content of the file; the folder if it came before that."""
        for event in self._events:
            if isinstance(event, MultipartSegment) and self._enter(event):
                return self._folder
        raise invalid({"file": ["Missing part."]})

    def file_pieces(self) -> Iterator[bytes]:
        """The content of the file, whose part `folder_if_first` has found."""
        for event in self._events:
            if event is None:
                return
            yield event

    def folder_at_end(self) -> str:
        """Read what follows the file, to the very end; the folder."""
        for event in self._events:
            if isinstance(event, MultipartSegment):
                self._enter(event)
        if self._folder is None:
            raise invalid({"folder": ["Missing part."]})
        return self._folder

    def _enter(self, part: MultipartSegment) -> bool:
        """Whether `part` is the file; a folder is read."""
        if part.name == "file" and not self._file_begun:
            self._file_begun = True
            return True
        if part.name != "folder" or self._folder is not None:
            raise invalid({part.name or "form": ["Unexpected part."]})
        self._folder = self._read_folder()
        return False

    def _read_folder(self) -> str:
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
        """The parser's events for the whole body. Its errors are translated around its own calls only."""
        received = 0
        try:
            # Not strict: that refuses the line break behind the last boundary if a read happens to end between them.
            parser = PushMultipartParser(boundary, content_length=self.length, max_segment_count=3)
            while piece := read_piece(READ_SIZE):
                received += len(piece)
                yield from parser.parse(piece)
        except MultipartError as exc:
            raise invalid({"form": ["Not a multipart form."]}) from exc
        if received < self.length:
            raise BodyTruncated(f"Only {received} of {self.length} bytes of the body arrived.")
        try:
            parser.close()
        except MultipartError as exc:
            raise BodyTruncated("The form ends before its last boundary.") from exc
