"""Google's Tink as the other party, with our key material."""

from __future__ import annotations

import io
from typing import Any, cast

import tink
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

streaming_aead.register()


class TinkPeer:
    """Tink's own AES256_GCM_HKDF_1MB, except that the key material is given and may be longer than 32 bytes."""

    def __init__(self, key_material: bytes) -> None:
        keyset = _keyset(key_material).SerializeToString()
        handle = tink.proto_keyset_format.parse(keyset, secret_key_access.TOKEN)
        self._primitive = handle.primitive(streaming_aead.StreamingAead)

    def seal(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """A ciphertext made by Tink."""
        sink = _KeptOpen()
        with self._primitive.new_encrypting_stream(sink, associated_data) as stream:
            stream.write(plaintext)
        return sink.getvalue()

    def unseal(self, ciphertext: bytes, associated_data: bytes) -> bytes:
        """What Tink reads; raises tink.TinkError."""
        with self._primitive.new_decrypting_stream(io.BytesIO(ciphertext), associated_data) as stream:
            return cast(bytes, stream.read())


class _KeptOpen(io.BytesIO):
    """Tink closes what it has written to, which would throw a `BytesIO`'s content away."""

    def close(self) -> None:
        pass


def _keyset(key_material: bytes) -> Any:
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(
        version=0,
        key_value=key_material,
        params=aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
            ciphertext_segment_size=1_048_576, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
        ),
    )
    data = tink_pb2.KeyData(
        type_url="type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
        value=key.SerializeToString(),
        key_material_type=tink_pb2.KeyData.SYMMETRIC,
    )
    entry = tink_pb2.Keyset.Key(key_data=data, status=tink_pb2.ENABLED, key_id=1, output_prefix_type=tink_pb2.RAW)
    return tink_pb2.Keyset(primary_key_id=1, key=[entry])
