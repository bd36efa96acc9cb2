"""Which bytes of a growing file go to the API next, in parts whose size follows from how often the link is cut.

A part that is cut is lost as a whole. So a part has at most 1/40 of what has arrived since the last cut: small parts go
over a link that is cut often, and large ones, which cost fewer requests, over a good one.
"""

from __future__ import annotations

from dataclasses import dataclass

# A cut costs one part that was being sent and at most one that waits for its response: 5 % if both are lost entirely.
SHARE = 40


@dataclass(frozen=True)
class Part:
    """The bytes of the file from `begin` to `end`. Numbers begin with 1 and grow with the offset, with gaps."""

    number: int
    begin: int
    end: int

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.end - self.begin


class PartPlan:
    """The parts of one upload. The caller holds a lock, because threads share it."""

    def __init__(self, smallest: int, largest: int) -> None:
        """Make parts of `smallest` to `largest` bytes; only the last one may be smaller.

        Each begins at a multiple of `smallest`, which makes its number, so that a part can be cut into smaller ones.
        """
        self._smallest = smallest
        self._largest = largest
        self._next = 0
        self._given_back: list[tuple[int, int]] = []
        self._etags: dict[Part, str] = {}
        self._steady = 0
        self.sent = 0

    def take(self, written: int, *, whole: bool) -> Part | None:
        """Return the next part of a file of `written` bytes; None if no part of it is ready.

        `whole` says that the file does not grow any more.
        """
        size = self._part_size()
        if self._given_back:
            begin, end = self._given_back.pop(0)
            if begin + size < end:
                self._given_back.insert(0, (begin + size, end))
            return self._part(begin, min(begin + size, end))
        left = written - self._next
        if not left or (left < size and not whole):
            return None
        begin, self._next = self._next, self._next + min(left, size)
        return self._part(begin, self._next)

    def acknowledge(self, part: Part, etag: str) -> None:
        """Note that the API has the part, and what it calls it."""
        self._etags[part] = etag
        self._steady += part.size
        self.sent += part.size

    def give_back(self, part: Part) -> None:
        """Note that the part did not arrive. It is taken again, perhaps in smaller parts."""
        self._steady = 0
        if self._etags.pop(part, None) is not None:
            self.sent -= part.size
        self._given_back = sorted([*self._given_back, (part.begin, part.end)])

    def arrived(self) -> list[tuple[Part, str]]:
        """Return the parts that the API has, in their order, and their ETags."""
        return sorted(self._etags.items(), key=lambda item: item[0].number)

    def next_numbers(self, part: Part, count: int) -> list[int]:
        """Return the numbers of `part` and of those that follow it, `count` in all, if their size stays the same."""
        step = -(-part.size // self._smallest)
        return [part.number + step * number for number in range(count)]

    def _part(self, begin: int, end: int) -> Part:
        return Part(begin // self._smallest + 1, begin, end)

    def _part_size(self) -> int:
        size = self._smallest
        while 2 * size <= min(self._steady // SHARE, self._largest):
            size *= 2
        return size
