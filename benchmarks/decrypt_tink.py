"""`python -m benchmarks.decrypt_tink ARCHIVE KEY`: write the blobs of an archive to stdout, by Tink's package.

It reads the very file that the loader reads: each blob in it is Tink's AES-GCM-HKDF streaming format.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from tink import proto_keyset_format, secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from loader.binary_split import open_archive
from loader.crypto.blobs import associated_data, blob_key
from loader.stored_blobs import StoredBlob

SEGMENT_SIZE = 1 << 20
KEY_TYPE = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"


class StoredStream(io.RawIOBase):
    """A stored blob as a stream of Python, which Tink reads from."""

    def __init__(self, blob: StoredBlob) -> None:
        self._blob = blob

    def readable(self) -> bool:
        """Say that this stream is read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read the next bytes into `buffer`."""
        return self._blob.readinto(memoryview(buffer))


def main(archive_path: Path, key_path: Path) -> None:
    """Decrypt the archive. Ends with an exception if anything does not authenticate."""
    with open_archive(archive_path) as archive, open(1, "wb", buffering=0, closefd=False) as output:
        root = archive.index.seals.open(archive.index.stored, key_path.read_bytes())
        for blob in archive.head.blobs:
            primitive = _primitive(blob_key(blob.packed, root))
            stored = io.BufferedReader(StoredStream(archive.stored(blob)), SEGMENT_SIZE)
            with primitive.new_decrypting_stream(stored, associated_data(blob.packed)) as plaintext:
                while piece := plaintext.read(SEGMENT_SIZE):
                    output.write(piece)


def _primitive(key_material: bytes) -> Any:
    """Return a keyset of the template AES256_GCM_HKDF_1MB with the given key material."""
    streaming_aead.register()
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=SEGMENT_SIZE, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, params=params, key_value=key_material)
    data = tink_pb2.KeyData(
        type_url=KEY_TYPE, value=key.SerializeToString(), key_material_type=tink_pb2.KeyData.SYMMETRIC
    )
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(key_data=data, status=tink_pb2.ENABLED, key_id=1, output_prefix_type=tink_pb2.RAW)
    handle = proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


main(Path(sys.argv[1]), Path(sys.argv[2]))
