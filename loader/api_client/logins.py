"""The login that is kept: put down, renewed, and forgotten so that nothing of it stays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from loader.errors import Checkpoint, LoaderError, LoginRejected, NotLoggedIn

NOBODY = "Nobody has logged in since the loader was started or locked."


@dataclass(frozen=True)
class Login:
    """One successful login. The password stays for the renewal of an expired token, in memory only."""

    email: str
    password: str = field(repr=False)
    token: str = field(repr=False)


class Logins:
    """At most one login at a time. Safe to share between threads."""

    def __init__(self, log_in: Callable[[str, str], str]) -> None:
        """`log_in` gets e-mail and password to the API and returns the token, or raises."""
        self._log_in = log_in
        self._present: Login | None = None
        # Held while a login is on its way; `_kept` only while one is put down or dropped: to forget never waits long.
        self._on_its_way = threading.Lock()
        self._kept = threading.Lock()
        self._forgotten = 0
        self._failed_renewals = 0
        # Made anew for each thread: an error that was raised keeps the frames it passed, and with them the password.
        self._renewal_failure: Callable[[], LoaderError] | None = None

    @property
    def present(self) -> Login | None:
        """The one that is kept."""
        return self._present

    def require(self) -> Login:
        """The one that is kept; raises NotLoggedIn."""
        present = self._present
        if present is None:
            raise NotLoggedIn(NOBODY)
        return present

    def begin(self, email: str, password: str, checkpoint: Checkpoint) -> None:
        """Log in; raises what that does, what `checkpoint` does, and NotLoggedIn if `forget` was called meanwhile.

        Whatever is raised, an earlier login is kept.
        """
        forgotten = self._forgotten
        with self._on_its_way:
            self._keep(Login(email, password, self._log_in(email, password)), forgotten, checkpoint)

    def forget(self) -> None:
        """Drop the login at once, and one that is on its way as well."""
        with self._kept:
            self._forgotten += 1
            self._present = self._renewal_failure = None

    def checkpoint(self) -> Checkpoint:
        """A function that raises NotLoggedIn once `forget` is called."""
        forgotten = self._forgotten

        def checkpoint() -> None:
            if self._forgotten != forgotten:
                raise NotLoggedIn(NOBODY)

        return checkpoint

    def renewed(self, expired: Login) -> Login:
        """The login after `expired`: one thread renews it, the others wait and share its success or its failure.

        Credentials that were rejected or forgotten are not tried again: each try would count against the account.
        """
        failed_before, forgotten = self._failed_renewals, self._forgotten
        with self._on_its_way:
            present = self._present
            if present is not None and present is not expired:
                return present
            if self._failed_renewals != failed_before and self._renewal_failure is not None:
                raise self._renewal_failure()
            if present is None:
                raise NotLoggedIn(NOBODY)
            return self._renew(expired, forgotten)

    def _renew(self, expired: Login, forgotten: int) -> Login:
        try:
            renewed = Login(expired.email, expired.password, self._log_in(expired.email, expired.password))
        except LoaderError as exc:
            self._failed_renewals += 1
            self._renewal_failure = partial(type(exc), str(exc))
            if isinstance(exc, LoginRejected):
                self._present = None
            raise
        self._keep(renewed, forgotten, lambda: None)
        return renewed

    def _keep(self, login: Login, forgotten: int, checkpoint: Checkpoint) -> None:
        with self._kept:
            if self._forgotten != forgotten:
                raise NotLoggedIn("The loader was locked while the login was on its way.")
            checkpoint()
            self._present = login
