"""The commands for users: add, disable, remove and list them."""

import json
import sys

import click

from resource_api.accounts import Role, Users
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
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    help="A reader gets and lists; a publisher also uploads and deletes. Default: reader, or the role of before.",
)
def user_add(data: DataDirectory, email: str, role: str | None) -> None:
    """Add the user EMAIL, or give an existing one a new password.

    The command prompts for the password on a terminal, and reads it as the first line of standard input elsewhere. A
    new password ends the tokens that were made with the old one, and enables a disabled user again.
    """
    if "@" not in email or len(email) > EMAIL_CHARACTERS or not email.isprintable() or " " in email:
        raise click.BadParameter(f"{email!r} is not an e-mail address", param_hint="EMAIL")
    added, is_new = Users(data).set_password(email, _read_password(), Role(role) if role else None)
    click.echo(f"{email}: {'added' if is_new else 'password changed'}, {added.role}")


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
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects with email, role and disabled.")
def user_list(data: DataDirectory, *, as_json: bool) -> None:
    """List the users, one per line: address, role, and whether the user is disabled."""
    users = Users(data).all()
    if as_json:
        listed = [{"email": each.email, "role": each.role, "disabled": each.disabled} for each in users]
        click.echo(json.dumps(listed, indent=1))
        return
    for each in users:
        click.echo(f"{each.email}  {each.role}{'  disabled' if each.disabled else ''}")


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
