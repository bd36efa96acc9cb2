"""`python -m benchmarks.decrypt_ours ARCHIVE KEY`: write the images of an archive to stdout, as mode `tar` does it.

Everything is hashed and compared with the head, and decrypted, in one pass.
"""

from __future__ import annotations

import sys
from pathlib import Path

from loader.binary_split import open_archive
from loader.oci import Layout


def main(archive_path: Path, key_path: Path) -> None:
    """Decrypt the archive. Ends with an exception if anything does not authenticate."""
    fragment = key_path.read_bytes()
    with open_archive(archive_path) as archive, open(1, "wb", buffering=0, closefd=False) as output:
        contents = archive.unseal(fragment, lambda: None)
        for image, *_ in archive.head.distinct_images:
            layout = Layout(archive.head, image, image.layers)
            for piece in contents.layout(layout, contents.content_to_prove):
                output.write(piece)


main(Path(sys.argv[1]), Path(sys.argv[2]))
