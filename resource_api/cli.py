"""The command line, which prepares a data directory and starts the server."""

import os
import secrets
import sys
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

import click

from resource_api.cli_audit import audit
from resource_api.cli_data import data_argument
from resource_api.cli_output import output_has_failed
from resource_api.cli_users import user
from resource_api.data_directory import DataDirectory, DataDirectoryError
from resource_api.fragments import SERIAL_LIMIT, Fragments

GENERATED_FRAGMENT_BYTES = 32


class _OneLineErrors(click.Group):
    """A group whose commands print one line, not a traceback, for a data directory or a file that cannot be used."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except DataDirectoryError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if isinstance(error, BrokenPipeError) or (error.filename is None and output_has_failed()):
                raise
            place = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{place}{error.strerror}") from error


def _version() -> str:
    """Return the version of the package, of which this server is a part."""
    try:
        return metadata.version("azaion-loader")
    except metadata.PackageNotFoundError:
        return "(not installed as a package)"


@click.group(cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="azaion-resource-api")
def main() -> None:
    """A small resource API for loaders, with all its data in one directory.

    \b
    To start:
      azaion-resource-api init DIR
      azaion-resource-api user add DIR --device device-7
      azaion-resource-api user add DIR training@example.com --role publisher
      azaion-resource-api key new DIR --out key-fragment
      azaion-resource-api serve DIR

    Run all commands as the user of the server, because only the owner of the files can read them.
    """


@main.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--storage", type=click.Path(path_type=Path), help="Make this directory for the objects; else DIR has them."
)
def init(directory: Path, storage: Path | None) -> None:
    """Make the data directory DIR, or add the files that are missing in it."""
    click.echo(f"{DataDirectory.create(directory, storage).root} is ready")


main.add_command(user)
main.add_command(audit)


@main.group()
def key() -> None:
    """Set, add, list and retire the key fragments that archives are encrypted with."""


@key.command("set")
@data_argument
@click.argument("file", type=click.File("rb"))
@click.option("--force", is_flag=True, help="Remove other fragments; their archives can no longer be unlocked.")
def key_set(data: DataDirectory, file: BinaryIO, *, force: bool) -> None:
    """Read the only key fragment from FILE ("-" is standard input); refused if there are others.

    FILE has 32 to 4096 bytes. Every byte counts, also a line break at the end.
    """
    click.echo(f"key fragment {Fragments(data).set(file.read(), force=force)} set")


@key.command("add")
@data_argument
@click.argument("file", type=click.File("rb"))
def key_add(data: DataDirectory, file: BinaryIO) -> None:
    """Read one more key fragment from FILE ("-" is standard input); the others stay until `key retire`.

    A device gets the fragment that its archive names.
    """
    click.echo(f"key fragment {Fragments(data).add(file.read())} added")


@key.command("list")
@data_argument
def key_list(data: DataDirectory) -> None:
    """List the key fragments by the check that archives name, with the time of their addition, the newest last."""
    for fragment in Fragments(data).all():
        click.echo(f"{fragment.check}  {fragment.added}")


@key.command("retire")
@data_argument
@click.argument("check")
def key_retire(data: DataDirectory, check: str) -> None:
    """Remove the key fragment CHECK, as `key list` names it; archives made with it can no longer be unlocked."""
    if not Fragments(data).retire(check):
        raise click.ClickException(f"there is no key fragment {check}")
    click.echo(f"key fragment {check} retired")


@key.command("minimum")
@data_argument
@click.argument("serial", type=click.IntRange(0, SERIAL_LIMIT - 1))
def key_minimum(data: DataDirectory, serial: int) -> None:
    """Let devices unlock no release whose serial is smaller than SERIAL; 0 permits all.

    Devices learn it with the key fragment. `azaion-loader images show` shows the serial of an archive.
    """
    Fragments(data).set_minimum_serial(serial)
    click.echo(f"the smallest serial is {serial}")


@key.command("new")
@data_argument
@click.option("--out", type=click.Path(path_type=Path), help="Also write it to this new file, for packing archives.")
def key_new(data: DataDirectory, out: Path | None) -> None:
    """Make a random key fragment of 32 bytes; refused if there is one already."""
    fragments = Fragments(data)
    if fragments.all():
        raise click.ClickException(f"there is a key fragment already: {data.key_fragments_file}")
    fragment = secrets.token_bytes(GENERATED_FRAGMENT_BYTES)
    if out is not None:
        _write_new(out, fragment)
    try:
        click.echo(f"key fragment {fragments.set(fragment)} set")
    except BaseException:
        if out is not None:
            out.unlink()  # nobody may make archives with a fragment that no server has
        raise


@main.command()
@data_argument
@click.option("--bind", default="127.0.0.1:9000", show_default=True, help="ADDRESS:PORT or unix:PATH.")
@click.option(
    "--threads",
    default=32,
    show_default=True,
    type=click.IntRange(min=1),
    help="Requests that each process serves at the same time; logins take up to 16 of them.",
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 16), help="Processes.")
@click.option("--log", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Log file; else stderr.")
@click.option(
    "--storage",
    envvar="RESOURCE_API_STORAGE",
    type=click.Path(path_type=Path),
    help="The directory of the objects, made by `init --storage`; else DIR.",
)
def serve(data: DataDirectory, bind: str, threads: int, workers: int, log: Path | None, storage: Path | None) -> None:
    """Serve DIR over HTTP with gunicorn.

    The server reads DIR and writes only the objects. So several servers, also of several hosts, may have DIR read-only
    and share the directory of --storage.

    The server has no TLS, so passwords and tokens are sent unencrypted: put a proxy with TLS in front of it if other
    machines use it. The environment variable RESOURCE_API_TOKEN_SECONDS sets how long a token is valid (default 3600).
    RESOURCE_API_STORE and the variables that begin with it name an S3-compatible store of the objects; see
    docs/resource-api.md. On the signal HUP new processes start, and the old ones end what they do.
    """
    options = ["--config", "python:resource_api.gunicorn_conf", "--bind", bind, "--threads", str(threads)]
    options += ["--workers", str(workers)]
    command = [sys.executable, "-m", "gunicorn", *options, "resource_api.wsgi:app"]
    environment = {**os.environ, "RESOURCE_API_DATA": str(data.root)}
    if storage is not None:
        environment["RESOURCE_API_STORAGE"] = str(storage.absolute())
    if log is not None:
        # Open it here, because an error is one line here, and only its owner may read it.
        os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        environment["RESOURCE_API_LOG"] = str(log.absolute())
    os.execve(sys.executable, command, environment)  # noqa: S606  # no shell is wanted: gunicorn replaces this process


def _write_new(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 that must not exist yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
