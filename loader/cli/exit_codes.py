"""The exit codes of `python -m loader`: the only table of them. click itself adds 0, and 2 for wrong usage."""

from __future__ import annotations

from loader.errors import (
    ApiFault,
    ArchiveFault,
    Busy,
    CallerError,
    CommandFault,
    DeviceFault,
    LoaderError,
    LoginRejected,
    LoginThrottled,
    NotLoggedIn,
    kind_of,
)

# The first that fits counts.
_BY_KIND: tuple[tuple[type[LoaderError], int], ...] = (
    (CommandFault, 3),
    (NotLoggedIn, 5),
    (LoginRejected, 5),
    (LoginThrottled, 5),
    (Busy, 9),
    (CallerError, 4),
    (ApiFault, 6),
    (ArchiveFault, 7),
    (DeviceFault, 8),
    (LoaderError, 1),
)


def exit_code(code: str) -> int:
    """The exit code for a failure with this code; 1 for one that is none of ours."""
    kind = kind_of(code) or LoaderError
    return next(number for family, number in _BY_KIND if issubclass(kind, family))
