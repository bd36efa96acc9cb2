"""The proof that an image can be run: the engine makes a container of it, which needs all of its layers."""

from __future__ import annotations

from contextlib import suppress

from loader.docker_engine.connection import Connection, NotPermitted
from loader.docker_engine.description import nonsense_refused
from loader.errors import DiskSpace, EngineRejected

# The label of the container of a proof, and its value.
PROOF_LABEL = ("azaion-loader", "proof")


class NotRunnable(EngineRejected):
    """The engine has an image, but cannot run it."""

    def __init__(self, detail: str, reference: str) -> None:
        """`reference` is the name of the image, which a person may have to remove."""
        # Docker 26.1 with the containerd store unpacks a layer only once, also if its unpacked files are gone.
        hint = (
            f"If the engine still has the image, remove it by `docker image rm {reference}`, and try again; if that "
            "does not help, remove the images too that have layers in common with it."
        )
        super().__init__(detail, hint=hint)


def prove_by_container(connection: Connection, reference: str, image_id: str) -> None:
    """Have a container made of the image `image_id`, which is never started, and remove it.

    Raises NotRunnable or DiskSpace if the engine cannot make it, EngineRejected if a proxy forbids it, EngineStalled
    and EngineUnavailable.
    """
    # It takes as long as a copy of the image's volumes, which is more than a query may take.
    api = connection.transfers
    try:
        with nonsense_refused(), connection.load_faults(f"cannot run {reference}"):
            made: str = api.create_container(
                image_id, entrypoint=["/proof"], labels=dict([PROOF_LABEL]), network_disabled=True, detach=True
            )["Id"]
    except NotPermitted:
        raise
    except EngineRejected as exc:
        raise NotRunnable(str(exc), reference) from exc
    try:
        _remove(connection, made)
    except NotPermitted:
        raise
    except EngineRejected:
        # Another thread removes the proofs that it finds, and an engine refuses a second removal at the same time.
        pass


def remove_proofs(connection: Connection) -> None:
    """Remove the containers of proofs that have not ended, as far as the engine lets it. Raises EngineUnavailable."""
    left: list[str] = []
    with suppress(EngineRejected, DiskSpace), nonsense_refused(), connection.faults():
        listed = connection.queries.containers(all=True, filters={"label": "=".join(PROOF_LABEL)})
        left = [container["Id"] for container in listed]
    for container in left:
        with suppress(EngineRejected, DiskSpace):
            _remove(connection, container)


def _remove(connection: Connection, container: str) -> None:
    with connection.faults():
        connection.transfers.remove_container(container, v=True)
