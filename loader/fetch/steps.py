"""The steps of a fetch: head and room, blobs, rename. Neither the engine nor what runs is touched."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loader.binary_split import Archive, open_archive
from loader.blob_directory import FETCHED_NAME, blob_directory
from loader.crypto.archive_head import Blob
from loader.errors import ApiError, ApiUnreachable, DiskSpace, ResourceNotFound
from loader.fetch.blobs import BlobDownloads, BlobParts
from loader.fetch.release import FetchedHead, Stock, former_blobs, keep_head, remove_unneeded, take_stock
from loader.fetch.right_of_way import RightOfWay
from loader.fetch.sources import source_of
from loader.fetch.state import FetchState, _FetchStateHolder
from loader.files import OnBytes, free_bytes, remove_if_there, storage
from loader.install import alone, install, open_installed, tidy
from loader.patience import Patience, pause
from loader.published import published_head
from loader.settings import Settings
from loader.unlock.interrupter import Interrupter
from loader.unlock.progress import UnlockProgress
from loader.unlock.release_mark import ReleaseMark

log = logging.getLogger(__name__)

NOT_PUBLISHED_HINT = "Ask the publisher whether this release is published, and publish it again if a blob is missing."
ASKING = "waiting for the resource API at {}"
CHECKING = "comparing what is on this device with its digests"
DOWNLOADING = "waiting for the resource API at {}, or for loads of models, which go first"
INSTALLING = "comparing the blobs with their digests, and putting the release in its place"


@dataclass(frozen=True)
class FetchRun:
    """All that one run works with. `state` is the record that callers see.

    `source` is a directory or the URL of a server that is asked for blobs before the API, None if there is none.
    """

    settings: Settings
    version: str
    right_of_way: RightOfWay
    progress: UnlockProgress
    interrupter: Interrupter
    state: _FetchStateHolder
    source: str | None = None

    @property
    def place(self) -> Path:
        """The file of the archive; a symbolic link at IMAGES_PATH stays."""
        return Path(os.path.realpath(self.settings.images_path))

    @property
    def parts(self) -> BlobParts:
        """The directory of the blobs."""
        return BlobParts(blob_directory(self.place))

    def go_on(self, activity: str) -> None:
        """Say how far the run is, and what goes on. Raises Interrupted."""
        self.interrupter.checkpoint()
        self.progress.reach(self.right_of_way.received, activity)

    @contextmanager
    def stage(self, _label: str, _size: int) -> Iterator[OnBytes]:
        """Go on at each piece of an installation."""
        yield lambda _count: self.go_on(INSTALLING)


def run_fetch(run: FetchRun) -> None:
    """Take the steps. Raises the errors with which a fetch can end."""
    former = None
    while True:
        run.state.set(FetchState.CHECKING)
        head = _download_head(run)
        stock = _prepare(run, head)
        if stock is None:
            return
        run.state.set(FetchState.DOWNLOADING)
        try:
            _download_blobs(run, stock)
            break
        except ResourceNotFound as exc:
            # A release that is published again while it is fetched may have other blobs now.
            if former == head.raw:
                raise ResourceNotFound(str(exc), hint=NOT_PUBLISHED_HINT) from exc
            former = head.raw
    run.state.set(FetchState.INSTALLING)
    _install(run)


def _download_head(run: FetchRun) -> FetchedHead:
    """Return an acceptable head. While the API cannot be reached, try again for as long as patience lasts."""
    patience = Patience(run.settings.api_patience)
    run.go_on(ASKING.format(run.settings.api_host))
    while True:
        try:
            head = run.interrupter.call(lambda: FetchedHead(published_head(run.version)))
            break
        except ResourceNotFound as exc:
            raise ResourceNotFound(str(exc), hint=NOT_PUBLISHED_HINT) from exc
        except (ApiUnreachable, ApiError) as exc:
            wait = patience.wait_after(exc)
            if wait is None:
                raise
            log.info("the head of release %s did not come, retry in %.2f s: %s", run.version, wait, exc)
            pause(wait, run.interrupter.checkpoint)
    mark = ReleaseMark.read(run.settings.model_cache_dir)
    head.require_acceptable(run.version, run.settings.publisher_keys, mark)
    run.state.note(head.index.head.release)
    return head


def _prepare(run: FetchRun, head: FetchedHead) -> Stock | None:
    """Return what is here of the release, once there is room for the rest; None if all of it is in its place."""
    directory = run.parts.path
    with ExitStack() as opened:
        opened.enter_context(alone(directory))
        installed = open_installed(run.place, opened)
        kept = former_blobs(run.settings.model_cache_dir)
        try:
            return _stock(run, head, installed, kept)
        except DiskSpace:
            if not kept:
                raise
            remove_unneeded(directory, installed, head.index.head.blobs)
            return _stock(run, head, installed, ())


def _stock(run: FetchRun, head: FetchedHead, installed: Archive | None, kept: Sequence[Blob]) -> Stock | None:
    directory = run.parts.path
    keep_head(directory, head)
    remove_unneeded(directory, installed, kept)
    stock = take_stock(head, installed, directory, lambda _count: run.go_on(CHECKING))
    if installed is not None and not stock.missing and head.is_whole_in(installed):
        _forget_head(run)
        return None
    stock.require_room(run.parts, run.place, head)
    return stock


def _download_blobs(run: FetchRun, stock: Stock) -> None:
    with storage(run.parts.path, 0):
        coming = sum(map(run.parts.missing, stock.missing))
    run.progress.expect(run.right_of_way.received + coming)
    source = source_of(run.source) if run.source is not None else None
    downloads = BlobDownloads(run.parts, run.right_of_way, run.settings.api_patience, source)
    activity = DOWNLOADING.format(run.settings.api_host)
    downloads.run(stock.missing, lambda: run.go_on(activity))


def _install(run: FetchRun) -> None:
    head = run.parts.path / FETCHED_NAME
    kept = former_blobs(run.settings.model_cache_dir)
    install(head, run.place, run.version, run.stage, run.settings.publisher_keys, kept)
    with alone(run.parts.path):
        _forget_head(run)


def _forget_head(run: FetchRun) -> None:
    """Remove the head, and the blobs that nothing needs.

    Blobs of former releases stay while there is room beside them for an unlock, which needs the images up to twice: as
    a tar and in the engine.
    """
    head = run.parts.path / FETCHED_NAME
    with storage(head, 0):
        remove_if_there(head)
        free = free_bytes(run.place.parent)
    with open_archive(run.place) as installed:
        unlock_size = 2 * sum(blob.size for blob in installed.head.blobs)
    tidy(run.place, former_blobs(run.settings.model_cache_dir) if free >= unlock_size else ())
