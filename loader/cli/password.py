"""The password or passphrase of a command, from the terminal or from standard input."""

from __future__ import annotations

import sys
import threading

import click

# After this time without a password, a command says what it waits for.
NOTICE_SECONDS = 1.0
PASSWORD_MAX_SIZE = 1 << 16
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_password(what: str = "password", *, confirm: bool = False) -> str:
    """Prompt for the password on a terminal, twice with `confirm`, and read one line of standard input elsewhere.

    A byte order mark and the end of the line, CR LF included, are no part of it, because tools of Windows add them. The
    password is never an argument, because other users can see the arguments of a process. `what` is how messages call
    it. Raises UsageError.
    """
    title = what[0].upper() + what[1:]
    if sys.stdin is None:
        raise click.UsageError(f"There is no {what}: standard input is closed.")
    try:
        if sys.stdin.isatty():
            return str(click.prompt(title, hide_input=True, err=True, confirmation_prompt=confirm))
        password = _next_line(what).removeprefix(BYTE_ORDER_MARK).rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        # No `from`, because the exception holds the password.
        raise click.UsageError(f"The {what} is not UTF-8.") from None
    if not password:
        raise click.UsageError(f"There is no {what} on standard input.")
    return password


def _next_line(what: str) -> bytes:
    """Return the next line of standard input, and say that the command waits for it if it does not come."""
    notice = threading.Timer(NOTICE_SECONDS, click.echo, [f"Waiting for the {what} on standard input."], {"err": True})
    notice.daemon = True
    notice.start()
    try:
        return sys.stdin.buffer.readline(PASSWORD_MAX_SIZE)
    finally:
        notice.cancel()
