"""`azaion-loader images`: the commands of the machine that ships images to devices, and `prune` of a device."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import click

from loader.cli.key import read_fragment
from loader.cli.output import ProgressBar, count_text, json_option, print_result, require_replaceable, size_text
from loader.cli.prune import prune
from loader.crypto.archive import ArchiveIndex
from loader.crypto.archive_head import GZIP, PLAIN, Head, Image
from loader.crypto.json_header import INTEGER_LIMIT
from loader.docker_engine import DockerEngine
from loader.errors import EngineUnavailable
from loader.packing.pack import Wishes, pack
from loader.packing.release import full_references, new_release, require_room
from loader.packing.rewrap import rewrap
from loader.packing.sources import DirectorySource, EngineSource, Source, TarSource, ambiguities, find_images
from loader.packing.verify import document, read_index, verify

# Seconds that the Docker engine may be silent: it prepares the whole tar before it sends the first byte.
ENGINE_TIMEOUT = 1800
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(/[a-z0-9._-]+)?")

_file_to_read = click.Path(exists=True, dir_okay=False, path_type=Path)
_file_to_write = click.Path(dir_okay=False, path_type=Path)
_key_option = click.option("--key", "key_file", required=True, type=_file_to_read, help="File with the key fragment.")


def _platform(_ctx: click.Context, _param: click.Parameter, platform: str | None) -> str | None:
    if platform is not None and not _PLATFORM.fullmatch(platform):
        raise click.BadParameter("write it as OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64")
    return platform


@click.group()
def images() -> None:
    """Pack, show, verify and rewrap encrypted archives of Docker images; remove old versions of unlocked ones."""


images.add_command(prune)


@images.command("pack")
@click.argument("names", metavar="[IMAGE]...", nargs=-1)
@click.option(
    "--from",
    "origin",
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
    help="Tar or directory to take the images from; - for standard input.",
)
@_key_option
@click.option("-o", "--output", required=True, type=_file_to_write, help="Archive to write; replaced if it exists.")
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
    help="Number that grows with each release; by default the seconds since 1970.",
)
def pack_images(
    names: tuple[str, ...],
    origin: Path | None,
    key_file: Path,
    output: Path,
    codec: str,
    platform: str | None,
    version: str | None,
    serial: int | None,
) -> None:
    """Write images into an encrypted archive.

    Without --from, the Docker engine saves the IMAGEs; DOCKER_HOST names the engine, and the default is the local one.

    With --from, no engine is needed. PATH is a docker-archive or an OCI layout, as docker, buildx, podman, skopeo and
    kaniko write them: a tar, also with gzip, or a directory. IMAGEs choose some of its images; the default is all. One
    IMAGE gives its name to an image that has none.

    An image without a tag means its `latest`. Everything is checked while it is read. No plaintext is written to a
    disk, and after an error there is no archive.
    """
    file = require_replaceable(output, key_file, *([] if origin is None else [origin]))
    fragment = read_fragment(key_file)
    references = full_references(names)
    engine = DockerEngine(ENGINE_TIMEOUT)
    if origin is not None:
        kind = DirectorySource if origin.is_dir() else TarSource
        source: Source = kind(origin, list(references), platform)
        if references or version is not None:
            new_release(references, version, serial)
    elif references:
        found = find_images(engine, references)
        for text in ambiguities(engine, found):
            click.echo(f"warning: {text}", err=True)
        # What is wrong with the order is told before the engine saves anything, which takes minutes.
        require_room(new_release(references, version, serial), {name: image for name, (_, image) in found.items()})
        source = EngineSource(engine, found, platform)
    else:
        raise click.UsageError("Say which IMAGEs the engine shall save, or use --from.")
    head = pack(source, Wishes(version, serial, codec), fragment, file, ProgressBar)
    click.echo(f"{_head_text(head)}\n{_written_text(output)}")
    if origin is None:
        _warn_of_platforms(engine, head)


@images.command("show")
@click.argument("archive", type=_file_to_read)
@json_option
def show_archive(archive: Path) -> None:
    """Print what ARCHIVE holds. Needs no key, so nothing of it is verified."""
    index = read_index(archive)
    print_result(document(index), f"{_head_text(index.head)}\n{_index_text(archive, index)}")


@images.command("verify")
@click.argument("archive", type=_file_to_read)
@click.option("--key", "key_file", type=_file_to_read, help="File with the key fragment.")
def verify_archive(archive: Path, key_file: Path | None) -> None:
    """Compare every byte of ARCHIVE with its head.

    Nothing is written. Without --key this finds damage and tells nothing about the author. With --key everything is
    authenticated, and the content of each blob is compared with its digest.
    """
    index = verify(archive, None if key_file is None else read_fragment(key_file), ProgressBar)
    click.echo(f"{_head_text(index.head)}\n{_index_text(archive, index)}")
    if key_file is None:
        click.echo(f"{archive}: undamaged. This does not prove who made it; use --key for that.")
    else:
        click.echo(f"{archive}: authentic and undamaged")


@images.command("rewrap")
@click.argument("archive", type=_file_to_read)
@_key_option
@click.option("--new-key", required=True, type=_file_to_read, help="File with the new key fragment.")
@click.option("-o", "--output", type=_file_to_write, help="Whole archive to write; it may be ARCHIVE itself.")
def rewrap_archive(archive: Path, key_file: Path, new_key: Path, output: Path | None) -> None:
    """Seal ARCHIVE with another key fragment.

    Without -o, only the new head is written: a file of some KB beside ARCHIVE, with the suffix .head instead of .enc.
    Whoever had the former fragment can still read the blobs.
    """
    file = None if output is None else require_replaceable(output, key_file, new_key)
    written = rewrap(archive, read_fragment(key_file), read_fragment(new_key), file, ProgressBar)
    click.echo(_written_text(output or written))


def _written_text(path: Path) -> str:
    return f"{path}: {size_text(path.stat().st_size)}"


def _head_text(head: Head) -> str:
    lines = [f"release {head.release.version}, serial {head.release.serial}, made {head.release.created}"]
    lines += [f"  {_image_text(head, image)}" for image in head.images]
    return "\n".join(lines)


def _image_text(head: Head, image: Image) -> str:
    size, layers = size_text(head.unpacked_size(image)), count_text(len(image.layers), "layer")
    return f"{image.reference}  {image.platform}  {image.config}  {layers}, {size}"


def _index_text(archive: Path, index: ArchiveIndex) -> str:
    blobs = count_text(len(index.head.blobs), "blob")
    text = f"{archive}: {blobs}, {size_text(index.size)}, key check {index.seals.check}, root {index.head.root_id}"
    if index.absent:
        size = size_text(sum(blob.stored_size for blob in index.absent))
        text += f"\nincomplete: it lacks {count_text(len(index.absent), 'blob')} of {size}"
        text += "".join(f"\n  {blob.digest}" for blob in index.absent)
    return text


def _warn_of_platforms(engine: DockerEngine, head: Head) -> None:
    """Warn of images that the engine here could not run."""
    # The archive is whole by now, so an engine that has gone away is no failure.
    with suppress(EngineUnavailable):
        described = engine.describe()
        for image, *_ in head.distinct_images:
            if not described.runs(image.platform):
                text = f"warning: {image.reference} is {image.platform}, the engine is {described.platform}"
                click.echo(text, err=True)
