"""Which storage a server has: the data directory, or buckets of a store."""

import hmac

from resource_api.data_directory import DataDirectory
from resource_api.storage.directory import DirectoryStorage
from resource_api.storage.divided import DividedStorage
from resource_api.storage.interface import Storage
from resource_api.storage.s3_bucket import Bucket
from resource_api.storage.s3_client import StoreClient
from resource_api.storage.s3_objects import BucketStorage
from resource_api.storage.s3_settings import BucketSettings, StoreSettings
from resource_api.storage.s3_signature import Signer


def open_storage(data: DataDirectory, store: StoreSettings | None) -> Storage:
    """Return the storage. No request is sent to a store, because it may start later than this server.

    Raises DataDirectoryError if a directory has objects and cannot be used.
    """
    if store is None or store.small is None:
        data.require_storage()
    if store is None:
        return DirectoryStorage(data)
    big = _bucket_storage(data, store, store.big, store.url_seconds)
    if store.small is None:
        return DividedStorage(big, DirectoryStorage(data))
    return DividedStorage(big, _bucket_storage(data, store, store.small, None))


def _bucket_storage(
    data: DataDirectory, store: StoreSettings, bucket: BucketSettings, url_seconds: int | None
) -> BucketStorage:
    client = StoreClient(Signer(store.endpoint, store.region, bucket.keys), store.authorities)
    # All processes have the same secret, so each accepts the uploads that another has started.
    key = hmac.digest(data.token_secret(), b"azaion resource api uploads\0" + bucket.name.encode(), "sha256")
    return BucketStorage(Bucket(client, bucket.name), key, url_seconds)
