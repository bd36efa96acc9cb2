"""`python -m benchmarks.decrypt_tink ARCHIVE KEY`: write the tar of an archive to stdout, by Tink's package.

It reads the very file that the loader reads: the ciphertext in it is Tink's AES-GCM-HKDF streaming format.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

from tink import proto_keyset_format, secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

PREFIX_SIZE = 12
PIECE_SIZE = 1 << 20
SEGMENT_SIZE = 1 << 20
KEY_TYPE = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"


def main(archive_path: Path, key_path: Path) -> None:
    """Decrypt the archive. Ends with an exception if anything does not authenticate."""
    with archive_path.open("rb") as archive, open(1, "wb", buffering=0, closefd=False) as output:
        prefix = archive.read(PREFIX_SIZE)
        header = prefix + archive.read(struct.unpack(">I", prefix[-4:])[0])
        with _primitive(key_path.read_bytes()).new_decrypting_stream(archive, header) as plaintext:
            while piece := plaintext.read(PIECE_SIZE):
                output.write(piece)


def _primitive(fragment: bytes) -> Any:
    """Return a keyset of the template AES256_GCM_HKDF_1MB with the given key material."""
    streaming_aead.register()
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=SEGMENT_SIZE, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, params=params, key_value=fragment)
    data = tink_pb2.KeyData(
        type_url=KEY_TYPE, value=key.SerializeToString(), key_material_type=tink_pb2.KeyData.SYMMETRIC
    )
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(key_data=data, status=tink_pb2.ENABLED, key_id=1, output_prefix_type=tink_pb2.RAW)
    handle = proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


main(Path(sys.argv[1]), Path(sys.argv[2]))
