"""The Docker engine: load, inspect, save. Any engine will do that speaks the Docker API, podman's service included."""

from loader.docker_engine.connection import Absent, NotPermitted
from loader.docker_engine.description import EngineDescription, EngineImage, Store
from loader.docker_engine.engine import DockerEngine
from loader.docker_engine.inventory import StoredImage
from loader.docker_engine.proof import NotRunnable
from loader.docker_engine.reasons import is_snapshot_lost

__all__ = [
    "Absent",
    "DockerEngine",
    "EngineDescription",
    "EngineImage",
    "NotPermitted",
    "NotRunnable",
    "Store",
    "StoredImage",
    "is_snapshot_lost",
]
