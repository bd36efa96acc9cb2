"""The models that the resource API lists, each as a load would find it (GET /models)."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial

from loader.api_client import get_api_client
from loader.crypto.model_parts import Edition, ResourceName, SmallPart
from loader.errors import CorruptCiphertext, ResourceCorrupt, ResourceNotFound, Rollback, UntrustedPublisher
from loader.model_cache.cache import ModelCache
from loader.model_trust import ModelTrust

# Small parts that are on their way at a time, because the answers of a satellite link take long and not much of it.
AT_A_TIME = 8


@dataclass(frozen=True)
class ListedModel:
    """A model. `cached` says whether a load needs nothing but the small part.

    `size` in bytes, `edition` and `identity` (see `SmallPart`) are None if the small part is damaged. `code` is that of
    the error with which a load is refused, None if none is known beforehand.
    """

    name: ResourceName
    cached: bool
    code: str | None
    size: int | None = None
    edition: Edition | None = None
    identity: str | None = None


class ModelList:
    """Lists models. `trust` says which of them are loaded, None is all of them."""

    def __init__(self, cache: ModelCache, trust: ModelTrust | None) -> None:
        self._cache = cache
        self._trust = trust

    def names(self) -> list[ResourceName]:
        """Return the names of all models, in their order. Raises NotLoggedIn and ApiFault."""
        objects = get_api_client().list_objects("")
        return [name for path in sorted(objects) if (name := ResourceName.of_small(path)) is not None]

    def describe(self, names: Iterable[ResourceName]) -> list[ListedModel]:
        """Return these models, without those that are gone. Raises NotLoggedIn and ApiFault."""
        threads = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="models")
        try:
            # A context of its own for each call keeps the request id, and the deadlines of the calls apart.
            described = [threads.submit(copy_context().run, partial(self._describe, name)) for name in names]
            return [listed for future in described if (listed := future.result()) is not None]
        finally:
            threads.shutdown(cancel_futures=True)

    def _describe(self, name: ResourceName) -> ListedModel | None:
        try:
            small = SmallPart.from_bytes(get_api_client().small_object(name.small))
        except ResourceNotFound:  # it was removed since the names were asked for
            return None
        except CorruptCiphertext:
            return ListedModel(name, cached=False, code=ResourceCorrupt.code)
        cached = small.big is None or self._cache.has(small.big, name.path)
        # Without the small part, because the keys and the heads of all models must not be in memory at a time.
        return ListedModel(name, cached, self._refusal(name, small), small.size, small.edition, small.identity)

    def _refusal(self, name: ResourceName, small: SmallPart) -> str | None:
        try:
            if self._trust is not None:
                self._trust.require(name, small)
        except (UntrustedPublisher, Rollback) as exc:
            return exc.code
        return None
