"""The commands for users: add, disable, remove and list them."""

import json
import sys

import click

from resource_api.accounts import Role, User, Users
from resource_api.cli_data import data_argument
from resource_api.data_directory import DataDirectory

EMAIL_CHARACTERS = 254
LINE_BYTES = 1 << 16
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@click.group()
def user() -> None:
    """Add, disable, remove and list the users, who may log in."""


@user.command("add")
@data_argument
@click.argument("email")
@click.option("--device", is_flag=True, help="Make a secret in place of a password; EMAIL may be any name.")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    help="A reader gets and lists; a publisher also uploads and deletes. Default: reader, or the role of before.",
)
def user_add(data: DataDirectory, email: str, role: str | None, *, device: bool) -> None:
    """Add the user EMAIL, or give an existing one a new password.

    The command prompts for the password on a terminal, and reads it as the first line of standard input elsewhere. A
    new password ends the tokens that were made with the old one, and enables a disabled user again.

    With --device the command makes a random secret and prints it, this once: nothing can show it again. The device
    logs in with it as its password.
    """
    _require_name(email, "a name" if device else "an e-mail address", needed="" if device else "@")
    users, chosen = Users(data), Role(role) if role else None
    if not device:
        _tell(email, "password", *users.set_password(email, _read_password(), chosen))
        return
    added, is_new, secret = users.set_secret(email, chosen)
    _tell(email, "secret", added, is_new)
    click.echo(secret)


@user.command("disable")
@data_argument
@click.argument("email")
def user_disable(data: DataDirectory, email: str) -> None:
    """Disable the user EMAIL, and end the tokens of that user; `user add` with a new password enables it again."""
    if not Users(data).disable(email):
        raise click.ClickException(f"there is no user {email}")
    click.echo(f"{email}: disabled")


@user.command("remove")
@data_argument
@click.argument("email")
def user_remove(data: DataDirectory, email: str) -> None:
    """Remove the user EMAIL, and end the tokens of that user."""
    if not Users(data).remove(email):
        raise click.ClickException(f"there is no user {email}")
    click.echo(f"{email}: removed")


@user.command("list")
@data_argument
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects with email, role, kind and disabled.")
def user_list(data: DataDirectory, *, as_json: bool) -> None:
    """List the users, one per line: address, role, and whether the user is a device or disabled."""
    users = Users(data).all()
    if as_json:
        click.echo(json.dumps([_as_json(each) for each in users], indent=1))
        return
    for each in users:
        click.echo(f"{each.email}  {each.role}{'  device' * each.is_device}{'  disabled' * each.disabled}")


def _require_name(email: str, what: str, needed: str) -> None:
    """Raise click.BadParameter, which says that `email` is not `what`, unless it is one word with `needed` in it."""
    if needed not in email or not 0 < len(email) <= EMAIL_CHARACTERS or not email.isprintable() or " " in email:
        raise click.BadParameter(f"{email!r} is not {what}", param_hint="EMAIL")


def _as_json(user: User) -> dict[str, str | bool]:
    kind = "device" if user.is_device else "person"
    return {"email": user.email, "role": user.role, "kind": kind, "disabled": user.disabled}


def _tell(email: str, what: str, added: User, is_new: bool) -> None:
    """Report an added user or a changed password or secret.

    It goes to standard error for a device, because a script takes the secret from standard output.
    """
    click.echo(f"{email}: {'added' if is_new else f'{what} changed'}, {added.role}", err=added.is_device)


def _read_password() -> str:
    if sys.stdin is None:
        raise click.ClickException("no password: standard input is closed")
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    try:
        # Tools of Windows add a byte order mark, and end a line with CR LF.
        password = sys.stdin.buffer.readline(LINE_BYTES).removeprefix(BYTE_ORDER_MARK).rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        # No `from`, because the exception holds the password.
        raise click.ClickException("the password is not UTF-8") from None
    if not password:
        raise click.ClickException("no password on standard input")
    return password
