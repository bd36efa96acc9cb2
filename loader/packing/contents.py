"""What goes into an archive: the head without the digests that only sealing tells, and the blobs in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from loader.crypto.archive_head import PLAIN, Blob, Head, Image, Packed, Release, StoredHead
from loader.crypto.streaming_aead import Buffer
from loader.oci import digest_of, write_manifest
from loader.packing.checks import SoundImage
from loader.packing.limits import require_describable
from loader.packing.spooled import SpooledFile, SpooledSource


@dataclass(frozen=True)
class Contents:
    """Everything that an archive holds, checked. `manifests` are our own, `files` those of the source."""

    draft: Head
    manifests: dict[str, bytes]
    files: dict[str, SpooledFile]
    source: SpooledSource

    def pieces(self, blob: Blob) -> Iterator[Buffer]:
        """Yield the packed bytes of a blob; each piece is valid until the next is taken."""
        manifest = self.manifests.get(blob.digest)
        return self.source.packed(self.files[blob.digest]) if manifest is None else iter([manifest])

    def head(self, stored: Mapping[str, str]) -> StoredHead:
        """Return the head with the piece digests of the sealed blobs, by the digests of their content."""
        blobs = tuple(replace(blob, stored=stored[blob.digest]) for blob in self.draft.blobs)
        return StoredHead.of(replace(self.draft, blobs=blobs))


def collect(images: Mapping[str, SoundImage], release: Release, root_id: str, source: SpooledSource) -> Contents:
    """Return the contents for these images, which have full references.

    Content that occurs several times is kept once. The blobs of the source come in the order of the spool, because it
    is overwritten while it is read. Raises SourceCorrupt, and ValidationFailed for what an archive cannot hold.
    """
    files: dict[str, SpooledFile] = {}
    manifests: dict[str, bytes] = {}
    described = []
    for reference, image in images.items():
        for file in (image.config, *image.layers):
            files.setdefault(file.digest, file)
        manifest = _manifest(image)
        manifests[digest_of(manifest)] = manifest
        described.append(_describe(reference, image, digest_of(manifest)))
    files = {digest: source.improved(file) for digest, file in files.items()}
    files = dict(sorted(files.items(), key=lambda entry: entry[1].region.offset))
    packed = {digest: Packed(digest.removeprefix("sha256:"), len(data)) for digest, data in manifests.items()}
    blobs = [_blob(digest, one.size, PLAIN, one) for digest, one in packed.items()]
    blobs += [_blob(digest, file.content.size, file.codec, file.packed) for digest, file in files.items()]
    draft = Head(release, root_id, tuple(described), tuple(blobs))
    require_describable(draft)
    return Contents(draft, manifests, files, source)


def _manifest(image: SoundImage) -> bytes:
    config, *layers = ((file.digest, file.content.size) for file in (image.config, *image.layers))
    return write_manifest(config, layers)


def _describe(reference: str, image: SoundImage, manifest: str) -> Image:
    layers = tuple(layer.digest for layer in image.layers)
    return Image(reference, image.platform, image.created, manifest, image.config.digest, layers)


def _blob(digest: str, size: int, codec: str, packed: Packed) -> Blob:
    # Another digest of the same length stands for the piece digest, which only sealing tells.
    return Blob(digest, size, codec, packed, packed.sha256)
