"""A proxy in front of the socket that lets only some requests through: nginx, before each real engine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from loader.docker_engine import DockerEngine, Store
from loader.docker_engine.reasons import FORBIDDEN_HINT
from loader.errors import EngineRejected, EngineUnavailable
from tests.docker_engine.connecting import ABSENT, connected
from tests.support.archives import APP, DATABASE, remove_all_images
from tests.support.engines import Engine
from tests.support.fake_engine import FakeEngine
from tests.support.images import image_id, import_image
from tests.support.recording_proxy import RecordingProxy
from tests.support.socket_proxy import socket_proxy

pytest_plugins = ("tests.support.unlock_fixtures",)

ENGINES = ["docker_engine", "docker_classic_26", "docker_containerd_26", "podman_engine", "podman_5"]
REQUESTS = ["POST /images/load", "POST /images/{name}/tag", "DELETE /images/{name}"]
CONTAINERS = ["POST /containers/create", "DELETE /containers/{name}"]


@pytest.fixture(params=ENGINES)
def real_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine in turn."""
    engine: Engine = request.getfixturevalue(request.param)
    yield engine
    remove_all_images(engine)


@pytest.fixture
def forbidding(docker: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerEngine]:
    """An engine behind a proxy that lets only GET through."""
    with socket_proxy(tmp_path / "nginx", docker.socket) as host:
        yield connected(host, monkeypatch)


def inventory(engine: Engine) -> tuple[object, ...]:
    """Return all that the engine has, and the files beside its socket, where it puts what is loaded."""
    images = {image["Id"]: sorted(image["RepoTags"] or ()) for image in engine.client.api.images(all=True)}
    containers = [container["Id"] for container in engine.client.api.containers(all=True)]
    loaded = {
        path.name for part in ("*import*", "api_load*", "*oci[0-9]*") for path in engine.socket.parent.rglob(part)
    }
    return images, containers, loaded


def lines_of(engine: Engine) -> list[str]:
    """Return what the engine has logged."""
    assert engine.process is not None
    return engine.process.stderr().splitlines()


def refused(engine: DockerEngine, store: Store = Store.CLASSIC) -> list[str]:
    return [str(error).partition(" refuses ")[2].partition(": ")[0] for error in engine.refusals(store)]


def test_to_ask_what_is_permitted_changes_nothing(
    real_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_image(real_engine, APP)
    before, logged = inventory(real_engine), lines_of(real_engine)
    with RecordingProxy(tmp_path / "engine.sock", real_engine.socket) as proxy:
        assert connected(proxy.host, monkeypatch).refusals(Store.CONTAINERD) == ()
        methods = [request.method for request in proxy.requests if request.method != "GET"]
        (load,) = proxy.sent("POST", "/images/load")
    assert (load.length, load.body_bytes) == (0, 0)
    assert methods == [request.partition(" ")[0] for request in REQUESTS + CONTAINERS]
    assert inventory(real_engine) == before
    assert lines_of(real_engine) == logged


def test_each_request_that_a_proxy_refuses_is_found(
    real_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket_proxy(tmp_path / "nginx", real_engine.socket) as host:
        engine = connected(host, monkeypatch)
        assert refused(engine) == REQUESTS
        assert refused(engine, Store.CONTAINERD) == REQUESTS + CONTAINERS
        error = engine.refusals(Store.CLASSIC)[0]
    assert str(error) == (
        f"The Docker engine at {host}, or a proxy in front of it, refuses POST /images/load: 403 Forbidden."
    )
    assert error.hint == FORBIDDEN_HINT


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/images/.*/tag", REQUESTS[1:2]),
        ("/images/[^/]*/absent$", REQUESTS[2:]),
        ("/images/load", REQUESTS[:1]),
    ],
)
def test_only_the_requests_that_a_proxy_refuses_are_told(
    path: str, told: list[str], real_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = inventory(real_engine)
    rule = f"location ~ {path} {{ return 405; }}"
    with socket_proxy(tmp_path / "nginx", real_engine.socket, "", rule) as host:
        assert refused(connected(host, monkeypatch)) == told
    assert inventory(real_engine) == before


def test_a_refused_load_says_what_refused_it(forbidding: DockerEngine) -> None:
    with pytest.raises(EngineRejected) as caught:
        forbidding.load(iter([b"x" * 1_000_000]))
    assert str(caught.value).endswith(", or a proxy in front of it, refused the images: 403 Forbidden.")
    assert caught.value.hint == FORBIDDEN_HINT


def test_a_body_that_is_too_long_for_a_proxy_is_told(
    docker: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket_proxy(tmp_path / "nginx", docker.socket, "client_max_body_size 1m;") as host:
        engine = connected(host, monkeypatch)
        assert refused(engine) == []
        with pytest.raises(EngineRejected, match=r"refused the images: 413 Request Entity Too Large\.$"):
            engine.load(iter([b"x" * (1 << 16)] * 64))


def test_other_requests_say_too_that_they_are_refused(forbidding: DockerEngine, docker: Engine) -> None:
    image = import_image(docker, APP)
    other = import_image(docker, DATABASE, seed=1)
    for call in (
        partial(forbidding.name, APP, DATABASE),
        partial(forbidding.remove_name, DATABASE),
        partial(forbidding.drop_name, DATABASE, APP),
    ):
        with pytest.raises(EngineRejected, match=r"refused a request: 403 Forbidden\.$") as caught:
            call()
        assert caught.value.hint == FORBIDDEN_HINT
    assert (image_id(docker, APP), image_id(docker, DATABASE)) == (image, other)


def test_a_page_of_a_proxy_does_not_mean_that_an_image_is_absent(
    docker: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket_proxy(tmp_path / "nginx", docker.socket, "", "location ~ /images/ { return 404; }") as host:
        engine = connected(host, monkeypatch)
        with pytest.raises(EngineRejected, match="404 Not Found"):
            engine.find(ABSENT)
        with pytest.raises(EngineRejected, match="could not save the images: 404 Not Found"):
            next(engine.save([ABSENT]))
    assert connected(docker.host, monkeypatch).find(ABSENT) is None


def test_a_proxy_without_an_engine_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket_proxy(tmp_path / "nginx", tmp_path / "absent.sock") as host:
        with pytest.raises(EngineUnavailable, match=r"responds behind the proxy at unix://.*: 502 Bad"):
            connected(host, monkeypatch).find(APP)
        with pytest.raises(EngineUnavailable, match="502"):
            connected(host, monkeypatch).ping()


def test_a_redirect_takes_nothing_elsewhere(docker: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy may redirect a load, and the images must not go where a response says."""
    with RecordingProxy(tmp_path / "other.sock", docker.socket) as other:
        rule = "location ~ /images/load { return 307 http://127.0.0.1:9/v1.41/images/load; }"
        with socket_proxy(tmp_path / "nginx", docker.socket, "", rule) as host:
            engine = connected(host, monkeypatch)
            with pytest.raises(EngineUnavailable, match="lost during the load: Exceeded 0 redirects"):
                engine.load(iter([b"tar"]))
        assert other.requests == []


@pytest.mark.parametrize(
    ("status", "document", "reason"),
    [
        (403, {"message": "authorization denied by plugin x: no"}, "authorization denied by plugin x: no"),
        (500, {"message": "line one\n\n  line two."}, "line one line two"),
        (500, {"message": "x" * 9999}, "x" * 496 + " ..."),
        (500, {"error": "another form"}, '500 Internal Server Error {"error": "another form"}'),
        (500, [], r"500 Internal Server Error \[\]"),
        (404, {"message": 5}, '404 Not Found {"message": 5}'),
    ],
)
def test_what_an_engine_says_is_told_in_one_line(fake: FakeEngine, status: int, document: object, reason: str) -> None:
    """Only a fake responds with each of these on demand."""
    fake.image = (status, document)  # type: ignore[assignment]
    with pytest.raises(EngineRejected, match=rf"^The Docker engine at [^\n]+: {reason}\.$"):
        DockerEngine(1).find(APP)
    fake.load = lambda call: call.respond(status, document)
    with pytest.raises(EngineRejected, match=rf"^The Docker engine at [^\n]+: {reason}\.$"):
        DockerEngine(1).load(io.BytesIO(b"tar"))
