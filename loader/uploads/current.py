"""The session that sends an object, replaced whenever the API has lost it, and repaired when its parts are refused."""

from __future__ import annotations

import functools
import logging
import threading

from loader.api_client.uploads import UploadLost, Uploads
from loader.background import start_daemon
from loader.errors import ApiProtocol, LoaderError
from loader.patience import persist
from loader.uploads.session import Link, Session

log = logging.getLogger(__name__)

# How often an upload is started or completed again because the API has lost it, or refuses the parts that it has.
MAX_RESTARTS = 3


class CurrentSession:
    """Holds the `session` of one object, None before it was begun. Threads share it.

    Every method raises what starting an upload raises once `patience` seconds have not helped.
    """

    def __init__(
        self, api: Uploads, wanted: tuple[str, int], link: Link, patience: float, changed: threading.Condition
    ) -> None:
        """`wanted` is the object's name and its size in bytes. `changed` guards `session`, and is told of a new one."""
        self.session: Session | None = None
        self._api = api
        self._name, self._size = wanted
        self._link = link
        self._patience = patience
        self._label = f"the upload of {self._name}"
        self._changed = changed
        self._replacing = threading.Lock()
        self._restarts = 0

    def begin(self) -> bool:
        """Start an upload. Return whether the API takes the object in parts."""
        start = functools.partial(self._api.start, self._name, self._size)
        upload = persist(start, self._patience, self._label, self._link.checkpoint)
        if upload is None:
            return False
        session = Session(self._api, upload, self._size, self._link, self._patience, self._label)
        with self._changed:
            self.session = session
            self._changed.notify_all()
        return True

    def replace(self, lost: Session) -> None:
        """Let a new session take the place of `lost`, unless another thread has done that."""
        with self._replacing:
            if self.session is not lost:
                return
            self._count_restart(ApiProtocol("The resource API loses each upload before its end."))
            log.warning("%s starts again, because the resource API has lost it", self._label)
            if not self.begin():
                raise ApiProtocol("The resource API has stopped to take uploads in parts.")

    def compare(self, session: Session, refusal: LoaderError) -> None:
        """Let those parts be sent again that the API has in another way. Raises `refusal` if it has all as it said."""
        self._count_restart(refusal)
        try:
            strangers = session.strangers(session.plan.arrived())
        except UploadLost:
            self.replace(session)
            return
        if not strangers:
            raise refusal
        log.warning("%s: the resource API has %d parts in another way than it said", self._label, len(strangers))
        with self._changed:
            for part in strangers:
                session.plan.give_back(part)
            self._changed.notify_all()

    def abandon(self) -> None:
        """Let the API remove the upload, if one is open. Does not wait for it, because the API may be out of reach."""
        with self._changed:
            session, self.session = self.session, None
        if session is not None:
            start_daemon(functools.partial(_abandon, session, self._label), "abandoned upload")

    def _count_restart(self, failure: LoaderError) -> None:
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            raise failure


def _abandon(session: Session, label: str) -> None:
    try:
        session.abandon()
    except (LoaderError, UploadLost) as exc:
        log.info("%s could not be abandoned, and stays until it expires: %s", label, exc)
