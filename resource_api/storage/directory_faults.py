"""What errors of the file system mean for a request."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from resource_api.storage.interface import DiskFullError, NameCollisionError


@contextmanager
def as_storage_faults() -> Iterator[None]:
    """Raise NameCollisionError and DiskFullError for the OSErrors of the block that mean them."""
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise NameCollisionError from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError from error
        raise
