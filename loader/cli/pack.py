"""`azaion-loader images pack`: images of an engine, a file or a directory into an encrypted archive."""

from __future__ import annotations

import re
from contextlib import nullcontext, suppress
from pathlib import Path

import click

from loader.cli.archives import file_to_read, file_to_write, head_text, key_option, written_text
from loader.cli.key import read_fragment
from loader.cli.output import ProgressBar, require_replaceable
from loader.cli.signing import open_signing_key
from loader.crypto.archive_head import GZIP, PLAIN, Head
from loader.crypto.json_header import INTEGER_LIMIT, MAX_SIGNATURES
from loader.crypto.signatures import SigningKey
from loader.docker_engine import DockerEngine
from loader.errors import EngineUnavailable, ValidationFailed
from loader.packing.base import open_base
from loader.packing.pack import Wishes
from loader.packing.pack import pack as pack_archive
from loader.packing.release import full_references, new_release, require_room, serial_after
from loader.packing.sources import (
    STANDARD_INPUT,
    DirectorySource,
    EngineSource,
    Source,
    TarSource,
    ambiguities,
    find_images,
)
from loader.packing.verify import read_index

# Seconds that the Docker engine may be silent: it prepares the whole tar before it sends the first byte.
ENGINE_TIMEOUT = 1800
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(/[a-z0-9._-]+)?")


def _platform(_ctx: click.Context, _param: click.Parameter, platform: str | None) -> str | None:
    if platform is not None and not _PLATFORM.fullmatch(platform):
        raise click.BadParameter("write it as OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64")
    return platform


@click.command()
@click.argument("names", metavar="[IMAGE]...", nargs=-1)
@click.option(
    "--from",
    "origin",
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
    help="Tar or directory to take the images from; - for standard input.",
)
@key_option
@click.option("-o", "--output", required=True, type=file_to_write, help="Archive to write; replaced if it exists.")
@click.option(
    "--compress",
    "codec",
    type=click.Choice([PLAIN, GZIP]),
    default=GZIP,
    show_default=True,
    help="How to pack layers; gzip leaves those plain that it makes less than 10 % smaller.",
)
@click.option("--platform", callback=_platform, metavar="OS/ARCH[/VARIANT]", help="Platform to choose, of several.")
@click.option("--version", help="Version of the release; by default the tag that all images share.")
@click.option(
    "--serial",
    type=click.IntRange(0, INTEGER_LIMIT - 1),
    help="Number that grows with each release; by default the seconds since 1970, but more than that of --base.",
)
@click.option("--base", type=file_to_read, help="Archive of an earlier release, whose sealed layers stay as they are.")
@click.option(
    "--new-root", is_flag=True, help="Seal everything again under a new root; take only the serial of --base."
)
@click.option(
    "--sign", "signing", type=file_to_read, multiple=True, help="File with a signing key; may be given several times."
)
def pack(
    names: tuple[str, ...],
    origin: Path | None,
    key_file: Path,
    output: Path,
    codec: str,
    platform: str | None,
    version: str | None,
    serial: int | None,
    base: Path | None,
    new_root: bool,
    signing: tuple[Path, ...],
) -> None:
    """Write images into an encrypted archive.

    Without --from, the Docker engine saves the IMAGEs; DOCKER_HOST names the engine, and the default is the local one.

    With --from, no engine is needed. PATH is a docker-archive or an OCI layout, as docker, buildx, podman, skopeo and
    kaniko write them: a tar, also with gzip, or a directory. IMAGEs choose some of its images; the default is all. One
    IMAGE gives its name to an image that has none.

    An image without a tag means its `latest`. Everything is checked while it is read. No plaintext is written to a
    disk, and after an error there is no archive.

    With --base, a layer that the base has is neither compressed nor sealed again, so that a thin archive can leave it
    out. The base must be whole and sealed with the same key. After a device was captured, use --new-root and a new
    key: nothing but the serial comes from the base, whatever its key is.

    Passphrases of signing keys come from the terminal, or are one line of standard input each, in the order of --sign.
    With --from - there are none: use images sign afterwards.
    """
    if new_root and base is None:
        raise click.UsageError("--new-root needs --base; without a base every archive has a new root.")
    inputs = [path for path in (key_file, origin, base, *signing) if path is not None]
    file = require_replaceable(output, *inputs)
    fragment = read_fragment(key_file)
    if serial is None and base is not None:
        serial = serial_after(read_index(base).head.release)
    wishes = Wishes(version, serial, codec, _signers(signing, origin))
    engine = DockerEngine(ENGINE_TIMEOUT)
    references = full_references(names)
    if origin is not None:
        source: Source = _file_source(origin, references, platform, wishes)
    elif references:
        source = _engine_source(engine, references, platform, wishes)
    else:
        raise click.UsageError("Say which IMAGEs the engine shall save, or use --from.")
    with nullcontext() if base is None or new_root else open_base(base, fragment) as opened:
        head = pack_archive(source, wishes, fragment, file, ProgressBar, opened)
    click.echo(f"{head_text(head)}\n{written_text(output)}")
    if origin is None:
        _warn_of_platforms(engine, head)


# What is wrong with the order is told before a source is read, which takes minutes.


def _signers(paths: tuple[Path, ...], origin: Path | None) -> tuple[SigningKey, ...]:
    """Return each key once. Raises ValidationFailed, StorageError and UsageError."""
    # Standard input cannot have passphrases if it has the images.
    opened = [open_signing_key(path, may_ask=origin != STANDARD_INPUT) for path in paths]
    keys = {key.public: key for key in opened}
    if len(keys) > MAX_SIGNATURES:
        raise ValidationFailed(f"An archive has at most {MAX_SIGNATURES} signatures.")
    return tuple(keys.values())


def _file_source(origin: Path, references: dict[str, str], platform: str | None, wishes: Wishes) -> Source:
    kind = DirectorySource if origin.is_dir() else TarSource
    if references or wishes.version is not None:
        new_release(references, wishes.version, wishes.serial)
    return kind(origin, list(references), platform)


def _engine_source(
    engine: DockerEngine, references: dict[str, str], platform: str | None, wishes: Wishes
) -> EngineSource:
    found = find_images(engine, references)
    for text in ambiguities(engine, found):
        click.echo(f"warning: {text}", err=True)
    release = new_release(references, wishes.version, wishes.serial)
    require_room(release, {name: image for name, (_, image) in found.items()})
    return EngineSource(engine, found, platform)


def _warn_of_platforms(engine: DockerEngine, head: Head) -> None:
    """Warn of images that the engine here could not run."""
    # The archive is whole by now, so an engine that has gone away is no failure.
    with suppress(EngineUnavailable):
        described = engine.describe()
        for image, *_ in head.distinct_images:
            if not described.runs(image.platform):
                text = f"warning: {image.reference} is {image.platform}, the engine is {described.platform}"
                click.echo(text, err=True)
