"""Compares what a login sends with what is stored: a password by a slow hash, the secret of a device by a fast one."""

import secrets
from collections.abc import Callable

from werkzeug.security import check_password_hash, generate_password_hash

from resource_api import device_secrets
from resource_api.login_lane import LoginLane


class Passwords:
    """The comparison, in the lane for logins where it is slow. Threads share it."""

    def __init__(self) -> None:
        self._lane = LoginLane()
        self._decoy_hash = generate_password_hash(secrets.token_hex())
        self._decoy_secret = device_secrets.hash_of(device_secrets.new_secret())

    def matches(self, stored: str | None, sent: str, checkpoint: Callable[[], None]) -> bool:
        """Return whether `stored` is the hash of `sent`; never if it is None.

        What was sent alone decides how it is hashed, and it is hashed in any case, because the time of the response
        would otherwise reveal which addresses exist and which of them are devices. `checkpoint` is called after the
        wait for a turn, and may raise. Raises LaneFullError.
        """
        is_device = stored is not None and device_secrets.is_hash_of_secret(stored)
        if device_secrets.is_secret(sent):
            return device_secrets.matches(stored if stored is not None and is_device else self._decoy_secret, sent)
        with self._lane.turn():
            checkpoint()
            return check_password_hash(self._decoy_hash if stored is None or is_device else stored, sent)
