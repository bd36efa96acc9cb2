"""The password of a command, from the terminal or from standard input."""

from __future__ import annotations

import sys
import threading

import click

# After this time without a password, a command says what it waits for.
NOTICE_SECONDS = 1.0
PASSWORD_MAX_SIZE = 1 << 16
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_password() -> str:
    """Prompt for the password on a terminal, and read one line of standard input elsewhere.

    A byte order mark and the end of the line, CR LF included, are no part of it, because tools of Windows add them. The
    password is never an argument, because other users can see the arguments of a process. Raises UsageError.
    """
    if sys.stdin is None:
        raise click.UsageError("There is no password: standard input is closed.")
    try:
        if sys.stdin.isatty():
            return str(click.prompt("Password", hide_input=True, err=True))
        password = _first_line().removeprefix(BYTE_ORDER_MARK).rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        # No `from`, because the exception holds the password.
        raise click.UsageError("The password is not UTF-8.") from None
    if not password:
        raise click.UsageError("There is no password on standard input.")
    return password


def _first_line() -> bytes:
    """Return the first line of standard input, and say that the command waits for it if it does not come."""
    notice = threading.Timer(NOTICE_SECONDS, click.echo, ["Waiting for the password on standard input."], {"err": True})
    notice.daemon = True
    notice.start()
    try:
        return sys.stdin.buffer.readline(PASSWORD_MAX_SIZE)
    finally:
        notice.cancel()
