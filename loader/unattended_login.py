"""Logs in by itself (CREDENTIALS_FILE) once the API can be reached, and unlocks what is to be unlocked (AUTO_UNLOCK).

The file is read for each attempt and its content is not kept beyond it. What the API has refused is not tried again
until the file changes, and after a lock nothing happens until then either, because a person has locked the loader.
"""

from __future__ import annotations

import logging
import os
import random
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from loader.api_client import authenticated, get_api_client
from loader.binary_split import identify
from loader.docker_engine import DockerEngine
from loader.errors import ApiError, LoaderError, LoginRejected, NotLoggedIn, StorageError
from loader.files import FileIdentity, open_regular
from loader.last_events import login_audited
from loader.login_throttle import LoginThrottle
from loader.settings import Settings
from loader.unlock.preview import plan_unlock
from loader.unlock.run import Credentials, interrupt, start_unlock, unlock_record
from loader.unlock_state import AT_REST, UnlockRecord, UnlockState

log = logging.getLogger(__name__)

# More than two lines of the longest e-mail and password that the API takes.
MAX_SIZE = 4096
# How often the thread looks whether the file has changed, or whether an unlock has ended.
LOOK_SECONDS = 2.0
# The waits after failures, in seconds: the first, doubled up to the longest. Each is random, so that a fleet whose
# power or network comes back does not ask the API in one moment.
FIRST_WAIT = 2.0
LONGEST_WAIT = 60.0
_RANDOM = random.SystemRandom()

WAITS = " The loader waits to log in and unlock by itself."
HINT = (
    "Make CREDENTIALS_FILE a file of two lines, e-mail and password, that belongs to the user of the loader or to "
    "root, and that nobody else can read."
)
REFUSED_HINT = "Correct the account in CREDENTIALS_FILE; the loader does not try it again before that file changes."


@dataclass(frozen=True)
class Account:
    """What a file of credentials holds."""

    identity: FileIdentity
    email: str = field(repr=False)
    password: str = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Account:
        """Read the file at `path`: the e-mail in the first line, the password in the second. Raises StorageError.

        It must belong to root or to the user of this process, because any other owner could make the loader log in as
        somebody else, and nobody else may have access to it. systemd keeps credentials in a directory of the service,
        and permits the user there by an access control list, which looks like a permission of the group.
        """
        try:
            with os.fdopen(open_regular(path, follow=True), "rb") as file:
                status, data = os.fstat(file.fileno()), file.read(MAX_SIZE + 1)
        except OSError as exc:
            raise StorageError(f"CREDENTIALS_FILE {path} cannot be read: {exc.strerror}.", hint=HINT) from exc
        if status.st_uid not in (0, os.geteuid()):
            owner = f"belongs to the user {status.st_uid}, not to root or to the user of the loader"
            raise StorageError(f"CREDENTIALS_FILE {path} {owner}.", hint=HINT)
        by_systemd = str(path.parent) == os.environ.get("CREDENTIALS_DIRECTORY")
        if status.st_mode & (stat.S_IRWXO | (stat.S_IWGRP if by_systemd else stat.S_IRWXG)):
            mode = stat.S_IMODE(status.st_mode)
            raise StorageError(f"CREDENTIALS_FILE {path} has mode {mode:04o}: others may have access.", hint=HINT)
        try:
            text = data.decode().removeprefix("\ufeff").removesuffix("\n")
            lines = [line.removesuffix("\r") for line in text.split("\n")]
        except UnicodeDecodeError:
            lines = []
        if len(lines) != 2 or not all(lines) or len(data) > MAX_SIZE:
            raise StorageError(f"CREDENTIALS_FILE {path} does not have two lines, e-mail and password.", hint=HINT)
        return cls(FileIdentity.of(status), *lines)


class UnattendedLogin:
    """Logs in and unlocks, one step after another. Only its thread takes steps; any thread may ask and lock."""

    def __init__(self, path: Path, settings: Settings, engine: DockerEngine) -> None:
        self._path = path
        self._settings = settings
        self._engine = engine
        # A throttle of its own, because what this thread does must not make people wait.
        self._throttle = LoginThrottle(1)
        # The file with which there is nothing left to log in, and the one of the last step.
        self._settled: FileIdentity | None = None
        self._seen: FileIdentity | None = None
        self._unlocks = settings.auto_unlock
        # The failure that was told, and the archive with which an unlock cannot succeed.
        self._told: UnlockRecord | None = None
        self._hopeless: FileIdentity | None = None
        self._locked = threading.Event()
        self._wait = FIRST_WAIT
        # A constructor and no error, because an error that was raised keeps its frames, and with them the password.
        self._waiting: Callable[[], LoaderError] | None = None

    def waiting(self) -> LoaderError | None:
        """Return what the next step waits for; None if nothing is left to do."""
        waiting = self._waiting
        return waiting() if waiting is not None and not self._locked.is_set() else None

    def cancel_unlock(self) -> None:
        """Unlock nothing more, because a person has cancelled the unlock."""
        self._unlocks = False

    def lock(self) -> None:
        """Do nothing more until the file changes, because a person has locked the loader."""
        self._locked.set()

    def run(self) -> None:
        """Take steps, and never return."""
        while True:
            time.sleep(self.step())

    def step(self) -> float:
        """Do what is due. Return after how many seconds the next step is. Never raises."""
        try:
            account = Account.read(self._path)
            if self._locked.is_set():
                self._locked.clear()
                # The file may have changed since the lock, and then it counts.
                self._settled, self._unlocks = self._seen or account.identity, False
                self._waiting = None
            self._seen = account.identity
            if unlock_record().state is UnlockState.READY:
                # Once only, because a person may go back to the previous release later.
                self._unlocks = False
            self._find_images(account)
            done = self._log_in(account) and self._unlock(account)
        except LoaderError as exc:
            return self._postponed(exc)
        except Exception:
            log.exception("the login from CREDENTIALS_FILE failed because of an unexpected error")
            return LONGEST_WAIT
        if done:
            self._waiting, self._wait = None, FIRST_WAIT
        return LOOK_SECONDS

    def _postponed(self, failure: LoaderError) -> float:
        """Note and log what the next step waits for, once for as long as it is the same. Return the wait."""
        if self._waiting is None or str(self._waiting()) != f"{failure}{WAITS}":
            log.warning("the loader waits to log in by itself: %s", failure)
        self._note(failure, failure.hint)
        least = failure.retry_after or 0.0 if isinstance(failure, ApiError) else 0.0
        wait = least + _RANDOM.uniform(self._wait / 2, self._wait)
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        return wait

    def _note(self, failure: LoaderError, hint: str) -> None:
        self._waiting = partial(_error, failure.code, f"{failure}{WAITS}", hint, retryable=failure.retryable)

    def _find_images(self, account: Account) -> None:
        """Let the unlock find that all images are there, as after every reboot: that needs no network."""
        if self._unlocks and unlock_record().state is UnlockState.IDLE:
            with suppress(LoaderError):
                plan = plan_unlock(self._settings, self._engine)
                if plan.done and plan.failure is None:
                    self._start_unlock(account)

    def _log_in(self, account: Account) -> bool:
        """Log in unless that is settled. Return whether somebody is logged in. Raises what the login raises."""
        if account.identity == self._settled or authenticated():
            self._settled = account.identity
            return authenticated()
        try:
            with login_audited(self._settings.model_cache_dir, account.email):
                get_api_client().login(account.email, account.password, self._require_not_locked)
        except LoginRejected as exc:
            self._settled = account.identity
            log.warning("the account in CREDENTIALS_FILE is refused, and not tried again before that file changes")
            self._note(exc, REFUSED_HINT)
            return False
        self._settled = account.identity
        return True

    def _require_not_locked(self) -> None:
        if self._locked.is_set():
            raise NotLoggedIn("The loader was locked meanwhile.")

    def _unlock(self, account: Account) -> bool:
        """Unlock unless that is settled. Return whether nothing is left to do. Raises what stands in the way."""
        record = unlock_record()
        if not self._unlocks or record.state is UnlockState.READY:
            return True
        if record.state not in AT_REST:
            return False
        archive = identify(self._settings.images_path)
        if record.failure is not None and (record is not self._told or archive == self._hopeless):
            # Wait before the next attempt, and for another archive if this one cannot succeed.
            self._told, self._hopeless = record, None if record.failure.retryable else archive
            raise _error(
                record.failure.code, str(record.error), record.failure.hint, retryable=record.failure.retryable
            )
        plan = plan_unlock(self._settings, self._engine)
        if (failure := plan.failure) is not None:
            raise _error(failure.code, failure.detail, failure.hint, retryable=failure.retryable)
        self._start_unlock(account)
        return False

    def _start_unlock(self, account: Account) -> None:
        self._require_not_locked()
        credentials = Credentials("", account.email, account.password)
        answer = start_unlock(self._settings, self._engine, self._throttle, credentials)
        if answer.started and self._locked.is_set():
            # A lock in the moment before has found no unlock to interrupt.
            interrupt()


def _error(code: str, text: str, hint: str, *, retryable: bool) -> LoaderError:
    """Return an error that says what another one said."""
    error = LoaderError(text, hint=hint)
    error.code, error.retryable = code, retryable
    return error


def start_unattended_login(settings: Settings, engine: DockerEngine) -> UnattendedLogin | None:
    """Start to log in by itself, in a thread that ends with the process. Return None without CREDENTIALS_FILE."""
    if settings.credentials_file is None:
        return None
    unattended = UnattendedLogin(settings.credentials_file, settings, engine)
    threading.Thread(target=unattended.run, name="unattended login", daemon=True).start()
    return unattended
