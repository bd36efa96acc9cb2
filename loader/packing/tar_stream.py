"""The members of a tar that comes as a stream.

The module `tarfile` parses each header. It does not read the stream, because it takes a tar that is cut between two
members for a whole one, and reads extended headers of any size into memory.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator

from loader.errors import SourceCorrupt
from loader.packing.members import MAX_MEMBERS, Member, link_target, member_name

# An extended header holds a name or a few fields.
EXTENSION_MAX_SIZE = 1 << 20
LENGTH_MAX_DIGITS = 8
# Zeros may follow a tar: of its last record, or of the disk to which it was copied, but not without end.
END_MAX_SIZE = 1 << 36
_BLOCK = tarfile.BLOCKSIZE
_LONG = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


def tar_members(pieces: Iterable[bytes]) -> Iterator[Member]:
    """Yield the files and links of a tar, and read it to its end.

    Raises SourceCorrupt for anything but a whole tar of files, directories and links with safe names, and what `pieces`
    raises.
    """
    stream = _Stream(pieces)
    count = 0
    while (entry := _next_entry(stream)) is not None:
        count += 1
        if count > MAX_MEMBERS:
            raise SourceCorrupt(f"The source has more than {MAX_MEMBERS} files.")
        content = stream.pieces(entry.size)
        name = member_name(entry.name)
        if entry.type in _FILES and name:
            yield Member(name, entry.size, content)
        elif entry.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) and name:
            target = link_target(name, entry.linkname, hard=entry.type == tarfile.LNKTYPE)
            yield Member(name, 0, iter(()), target)
        elif entry.type != tarfile.DIRTYPE:
            raise SourceCorrupt(f"{entry.name!r} of the source is neither a file, a directory nor a link.")
        # The consumer may have left a part of the content.
        for _ in content:
            pass
        stream.read(-entry.size % _BLOCK)
    stream.require_end()


def _next_entry(stream: _Stream) -> tarfile.TarInfo | None:
    """Return the next member as the extended headers before it describe it; None at the end of the tar."""
    fields: dict[str, str] = {}
    while True:
        block = stream.read(_BLOCK)
        if block == bytes(_BLOCK) and not fields:
            return None
        entry = _header(block)
        if entry.type in _LONG:
            fields[_LONG[entry.type]] = _text(stream.extension(entry.size).partition(b"\0")[0])
        elif entry.type == tarfile.XHDTYPE:
            fields |= _pax_fields(stream.extension(entry.size))
        elif entry.type == tarfile.XGLTYPE:
            stream.extension(entry.size)
        else:
            return _described(entry, fields)


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError) as exc:
        raise SourceCorrupt("The source is not a tar, or it is damaged.") from exc
    if entry.size < 0:
        raise SourceCorrupt("The source has a file of negative size.")
    return entry


def _described(entry: tarfile.TarInfo, fields: dict[str, str]) -> tarfile.TarInfo:
    if any(field.startswith("GNU.sparse.") for field in fields):
        raise SourceCorrupt(f"{entry.name!r} of the source is a sparse file.")
    entry.name = fields.get("path", entry.name)
    entry.linkname = fields.get("linkpath", entry.linkname)
    if "size" in fields:
        if not (fields["size"].isascii() and fields["size"].isdigit() and len(fields["size"]) <= 16):
            raise SourceCorrupt("The source has a file whose size is no number.")
        entry.size = int(fields["size"])
    # A link has no content, whatever its header says.
    entry.size = entry.size if entry.type in _FILES else 0
    return entry


def _pax_fields(data: bytes) -> dict[str, str]:
    """Parse the records `length key=value\\n` of POSIX.1-2001, pax, "Extended header"."""
    fields = {}
    begin, end = 0, len(data.rstrip(b"\0"))
    while begin < end:
        number = data[begin : begin + LENGTH_MAX_DIGITS + 1].partition(b" ")[0]
        length = int(number) if number.isdigit() and len(number) <= LENGTH_MAX_DIGITS else 0
        key, equals, value = data[begin + len(number) + 1 : begin + length].partition(b"=")
        begin += length
        if not equals or begin > len(data) or value[-1:] != b"\n":
            raise SourceCorrupt("The source is damaged: it has a malformed extended header.")
        fields[_text(key)] = _text(value[:-1])
    return fields


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class _Stream:
    """The bytes of the tar, in order."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes. Raises SourceCorrupt if the tar has fewer."""
        return b"".join(map(bytes, self.pieces(size)))

    def extension(self, size: int) -> bytes:
        """Return the content of an extended header."""
        if size > EXTENSION_MAX_SIZE:
            raise SourceCorrupt(f"The source has an extended header of {size} bytes.")
        data = self.read(size)
        self.read(-size % _BLOCK)
        return data

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield the next `size` bytes as they come. Raises SourceCorrupt if the tar has fewer."""
        while size:
            piece = self._take(size)
            if not piece:
                raise SourceCorrupt("The source is cut short: its tar ends too early.")
            size -= len(piece)
            yield piece

    def require_end(self) -> None:
        """Read the second block of zeros that ends a tar, and what a writer fills up with zeros."""
        is_zero, left = self.read(_BLOCK) == bytes(_BLOCK), END_MAX_SIZE
        while is_zero and (piece := self._take(END_MAX_SIZE)):
            left -= len(piece)
            is_zero = left >= 0 and bytes(piece).count(0) == len(piece)
        if not is_zero:
            raise SourceCorrupt("The source is damaged: bytes follow the end of its tar.")

    def _take(self, size: int) -> memoryview:
        """Return the next bytes, at most `size`; nothing at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken
