"""A program for the memory test: authenticate and read one large blob, and print the peak growth of memory in bytes.

python -m tests.crypto.long_archive none|gzip DIRECTORY BYTES
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from loader.binary_split import open_archive
from loader.crypto.archive import archive_start
from loader.crypto.archive_head import GZIP, Blob, Head, Packed, Release, StoredHead
from loader.crypto.archive_seals import Seals, root_id
from loader.crypto.blobs import seal_blob
from loader.crypto.gzip_members import compress
from loader.crypto.pieces import PIECE_SIZE, PieceDigests
from loader.crypto.streaming_aead import Buffer
from tests.crypto.reference import pattern
from tests.support.handmade_image import CREATED, FRAGMENT, ROOT, HandmadeImage, HandmadeLayer, sealed_blob
from tests.support.procfs import peak_rss_bytes, reset_peak_rss


def image_of(size: int) -> HandmadeImage:
    """Return an image of one layer of so many bytes, which gzip cannot make smaller."""
    return HandmadeImage("app:1", (HandmadeLayer(pattern(PIECE_SIZE), size // PIECE_SIZE),))


def described(pieces: Iterable[Buffer]) -> Packed:
    """Return digest and size of `pieces`."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return Packed(digest.hexdigest(), size)


def packed_layer(image: HandmadeImage, codec: str) -> Iterator[Buffer]:
    """Yield the packed bytes of the layer of `image`."""
    content = image.layers[0].content()
    yield from compress(content) if codec == GZIP else content


def seal_layer(image: HandmadeImage, codec: str, path: Path) -> Blob:
    """Write the stored bytes of the layer to `path`, and return its entry, without holding it in memory."""
    packed = described(packed_layer(image, codec))
    with path.open("wb") as file:
        file.writelines(seal_blob(packed_layer(image, codec), packed, ROOT))
    digests = PieceDigests()
    with path.open("rb") as file:
        while piece := file.read(PIECE_SIZE):
            digests.add(piece)
    digest, size = image.layers[0].described
    return Blob(digest, size, codec, packed, digests.hex())


def write_archive(image: HandmadeImage, codec: str, directory: Path) -> Path:
    """Write an archive of `image` into `directory`."""
    path, stored = directory / "images.enc", directory / "layer"
    small = [sealed_blob(image.image.manifest, image.manifest, ROOT, codec)]
    small.append(sealed_blob(image.image.config, image.config, ROOT, codec))
    blobs = (*(blob for blob, _ in small), seal_layer(image, codec, stored))
    release = StoredHead.of(Head(Release("1", 1, CREATED), root_id(ROOT), (image.image,), blobs))
    with path.open("wb") as file, stored.open("rb") as layer:
        file.write(archive_start(release, Seals.make(release, ROOT, FRAGMENT), blobs))
        file.writelines(data for _, data in small)
        while piece := layer.read(PIECE_SIZE):
            file.write(piece)
    return path


def read_archive(path: Path) -> int:
    """Authenticate and read every blob, and return the number of bytes."""
    with open_archive(path) as archive:
        contents = archive.unseal(FRAGMENT, lambda: None)
        for blob in contents.head.blobs:
            for _ in contents.authenticate(blob.digest):
                pass
        return sum(len(piece) for blob in contents.head.blobs for piece in contents.content(blob.digest))


def main() -> None:
    codec, directory, image = sys.argv[1], Path(sys.argv[2]), image_of(int(sys.argv[3]))
    small = write_archive(image_of(2 * PIECE_SIZE), codec, directory)
    read_archive(small)
    path = write_archive(image, codec, directory)
    reset_peak_rss(os.getpid())
    before = peak_rss_bytes(os.getpid())
    done, expected = read_archive(path), image.layers[0].described[1] + len(image.manifest) + len(image.config)
    if done != expected:
        raise SystemExit(f"{done} bytes came out instead of {expected}")
    print(peak_rss_bytes(os.getpid()) - before)


if __name__ == "__main__":
    main()
