"""The proof that an image can be run: the engine makes a container of it, which needs all of its layers."""

from __future__ import annotations

from contextlib import suppress

from loader.docker_engine.connection import Absent, Connection
from loader.errors import EngineRejected

# What the container of a proof is labelled with.
PROOF_LABEL = "azaion-loader=proof"


def prove_by_container(connection: Connection, image_id: str) -> None:
    """Have a container made of the image and removed. It is never started.

    Raises EngineRejected or DiskSpace if the engine cannot make it, EngineStalled and EngineUnavailable.
    """
    # It takes as long as a copy of the image's volumes, which is more than a query may take.
    api = connection.transfers
    with connection.load_faults():
        made = api.create_container(
            image_id, entrypoint=["/proof"], labels=[PROOF_LABEL], network_disabled=True, detach=True
        )
    # Another thread removes the proofs that it finds.
    with suppress(Absent), connection.faults():
        api.remove_container(made["Id"], v=True)


def remove_proofs(connection: Connection) -> None:
    """Remove the containers of proofs that have not ended. Raises EngineUnavailable."""
    with suppress(EngineRejected), connection.faults():
        for container in connection.queries.containers(all=True, filters={"label": PROOF_LABEL}):
            connection.transfers.remove_container(container["Id"], v=True)
