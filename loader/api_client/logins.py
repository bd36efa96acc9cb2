"""The login of this process: kept in memory, renewed when its token expires, forgotten on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from loader.errors import Checkpoint, LoaderError, LoginRejected, NotLoggedIn

NOBODY = "Nobody has logged in since the loader was started or locked."


@dataclass(frozen=True)
class Login:
    """One successful login. The password stays in memory, because an expired token is renewed with it."""

    email: str
    password: str = field(repr=False)
    token: str = field(repr=False)


class Logins:
    """Keeps at most one login. Threads may share it."""

    def __init__(self, request_token: Callable[[str, str, Checkpoint], str]) -> None:
        """`request_token` sends e-mail and password to the API and returns the token, or raises.

        It calls its checkpoint while it waits.
        """
        self._request_token = request_token
        self._present: Login | None = None
        # Two locks, because neither `forget` nor a login may wait for another call of the API. The first is held during
        # a renewal, the second only while a login is stored or dropped.
        self._renewing = threading.Lock()
        self._storing = threading.Lock()
        self._forgotten = 0
        self._failed_renewals = 0
        # A constructor and no error, because an error that was raised keeps its frames, and with them the password.
        self._renewal_failure: Callable[[], LoaderError] | None = None
        self._refusal: Callable[[], LoaderError] | None = None

    @property
    def present(self) -> Login | None:
        """The login that is kept."""
        return self._present

    @property
    def refusal(self) -> LoaderError | None:
        """The LoginRejected that has ended the last login; None if another cause has, or there is a login."""
        make = self._refusal
        return make() if make is not None and self._present is None else None

    def require(self) -> Login:
        """Return the login that is kept. Raises NotLoggedIn if there is none."""
        present = self._present
        if present is None:
            raise NotLoggedIn(NOBODY)
        return present

    def log_in(self, email: str, password: str, checkpoint: Checkpoint) -> None:
        """Log in, then call `checkpoint` and keep the login. Of several at a time the last one to be accepted is kept.

        Raises what either of them raises, and NotLoggedIn if `forget` was called meanwhile. After any error an earlier
        login is still kept.
        """
        forgotten = self._forgotten
        require_kept = partial(self._require_not_forgotten, forgotten)
        login = Login(email, password, self._request_token(email, password, require_kept))
        with self._storing:
            require_kept()
            checkpoint()
            self._present = login

    def forget(self) -> None:
        """Drop the login at once, and a login under way as well."""
        with self._storing:
            self._forgotten += 1
            self._present = self._renewal_failure = self._refusal = None

    def checkpoint(self) -> Checkpoint:
        """Return a function that raises NotLoggedIn once `forget` has been called."""
        forgotten = self._forgotten

        def checkpoint() -> None:
            if self._forgotten != forgotten:
                raise NotLoggedIn(NOBODY)

        return checkpoint

    def renewed(self, expired: Login) -> Login:
        """Return the login that replaces `expired`.

        One thread renews it; the others wait and share its success or failure. Credentials that were rejected or
        forgotten are not sent again, because each attempt would count against the account.
        """
        failed_before, forgotten = self._failed_renewals, self._forgotten
        with self._renewing:
            present = self._present
            if present is not None and present is not expired:
                return present
            if self._failed_renewals != failed_before and self._renewal_failure is not None:
                raise self._renewal_failure()
            if present is None:
                raise NotLoggedIn(NOBODY)
            return self._renew(expired, forgotten)

    def _renew(self, expired: Login, forgotten: int) -> Login:
        """Request a new token. A login that somebody else has made meanwhile takes precedence over the outcome."""
        require_kept = partial(self._require_not_forgotten, forgotten)
        try:
            token = self._request_token(expired.email, expired.password, require_kept)
        except LoaderError as exc:
            with self._storing:
                if self._present is not None and self._present is not expired:
                    return self._present
                self._failed_renewals += 1
                self._renewal_failure = partial(type(exc), str(exc), hint=exc.hint)
                if isinstance(exc, LoginRejected):
                    self._refusal = self._renewal_failure if self._present is expired else None
                    self._present = None
            raise
        with self._storing:
            require_kept()
            if self._present is None or self._present is expired:
                self._present = Login(expired.email, expired.password, token)
            return self._present

    def _require_not_forgotten(self, forgotten: int) -> None:
        if self._forgotten != forgotten:
            raise NotLoggedIn("The loader was locked during the login.")
