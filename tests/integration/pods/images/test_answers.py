"""What a registry may answer besides what was asked for: tried again or given up, and told in which words."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig.images import file, layer, this_platform
from rig.registry import Registry

from pinnace.core.base.imagefiles import build
from pinnace.core.base.runtime import PullFailed
from pinnace.core.pods.images import registry as module
from pinnace.core.pods.images.fetching import ATTEMPTS, FIRST_ATTEMPTS, Fetch
from pinnace.core.pods.images.index import StoredImage
from pinnace.core.pods.images.layout import Layout
from pinnace.core.pods.images.manifests import platform_name
from pinnace.core.pods.images.references import parse

pytestmark = pytest.mark.root
Answer = tuple[int, dict[str, str], bytes]
STALL: Answer = (0, {}, b"")


class Front(http.server.ThreadingHTTPServer):
    """Stands before a registry and answers the next requests for a kind of thing as it is told; everything else goes through."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.answers: dict[str, list[Answer]] = {"manifests": [], "blobs": []}
        self.ended = threading.Event()
        super().__init__(("127.0.0.1", 0), _Visitor)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Visitor(http.server.BaseHTTPRequestHandler):
    server: Front

    def do_GET(self) -> None:
        planned = self.server.answers[self.path.split("/")[-2]]
        if not planned:
            headers = {name: value for name, value in self.headers.items() if name in ("Accept", "Range")}
            request = urllib.request.Request(self.server.registry.url + self.path, headers=headers)
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
                self._say(answer.status, {"Content-Type": answer.headers["Content-Type"]}, answer.read())
            return
        status, more, body = planned.pop(0)
        if status == 0:
            self.server.ended.wait(20)
            return
        self._say(status, more, body)

    def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def front(registry: Registry) -> Iterator[Front]:
    registry.push("answers/b:1", build([layer([file("a", "a")])]))
    with Front(registry) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield made
        finally:
            made.ended.set()
            made.shutdown()
            thread.join()


class Pull:
    """A pull in this process, whose waits take no time."""

    def __init__(self, front: Front, folder: Path) -> None:
        self.front = front
        self.layout = Layout(folder)
        self.layout.ensure()
        self.waits: list[float] = []

    def run(self, name: str = "answers/b:1") -> StoredImage:
        platform = this_platform()
        return Fetch(
            self.layout,
            parse(f"{self.front.host}/{name}"),
            (),
            None,
            max_bytes=1 << 24,
            platforms=[platform_name(platform.architecture, platform.variant)],
            progress=lambda *_: None,
            sleep=self.waits.append,
        ).run()


@pytest.fixture
def pull(front: Front, tmp_path: Path) -> Pull:
    return Pull(front, tmp_path / "images")


def error(status: int, message: str = "busy", **headers: str) -> Answer:
    return status, headers, json.dumps({"errors": [{"code": "X", "message": message}]}).encode()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_registry_that_is_busy_for_a_moment(pull: Pull, status: int) -> None:
    pull.front.answers["manifests"] = [error(status)] * (FIRST_ATTEMPTS - 1)
    pull.front.answers["blobs"] = [error(status)] * (ATTEMPTS - 1)
    assert pull.run().size == 1
    assert len(pull.waits) == FIRST_ATTEMPTS + ATTEMPTS - 2
    assert max(pull.waits) <= 8.0


def test_it_is_waited_as_long_as_the_registry_says_within_reason(pull: Pull) -> None:
    pull.front.answers["manifests"] = [error(429, **{"Retry-After": "7"}), error(503, **{"Retry-After": "9999"})]
    pull.run()
    assert pull.waits == [7.0, 10.0]


def test_a_registry_that_stays_busy(pull: Pull) -> None:
    pull.front.answers["manifests"] = [error(503, "back at noon")] * FIRST_ATTEMPTS
    with pytest.raises(PullFailed, match=r"answered 503 .*back at noon") as caught:
        pull.run()
    assert caught.value.reason == "RegistryUnavailable"
    assert not caught.value.is_unreachable  # it answered


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error(403), "denies the pull"),
        (error(418, "teapot"), "answered 418 .*teapot"),
        ((200, {}, b"<html>"), "no JSON"),
        ((200, {}, b"{}"), "no image manifest"),
        ((200, {"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}, b'{"schemaVersion":1}'), "schema 1"),
        ((200, {}, bytes(5 << 20)), "more than"),
        ((302, {"Location": "ftp://elsewhere/"}, b""), "redirects to no address"),
        ((302, {}, b""), "redirects to no address"),
        ((302, {"Location": ""}, b""), "redirects to no address"),
        ((401, {"WWW-Authenticate": 'Bearer realm="file:///etc/passwd"'}, b""), "without TLS, which is refused"),
        ((401, {"WWW-Authenticate": "Negotiate"}, b""), "unauthorized"),
        ((401, {}, b""), "unauthorized"),
    ],
)
def test_answers_that_are_final(pull: Pull, answer: Answer, words: str) -> None:
    pull.front.answers["manifests"] = [answer]
    with pytest.raises(PullFailed, match=words) as caught:
        pull.run()
    assert not caught.value.is_unreachable
    assert caught.value.reason == "ErrImagePull"
    assert pull.waits == []


def test_a_redirect_in_a_circle(pull: Pull) -> None:
    pull.front.answers["manifests"] = [(302, {"Location": "/v2/answers/b/manifests/1"}, b"")] * 20
    with pytest.raises(PullFailed, match="circle"):
        pull.run()


def test_no_answer_in_time(pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_SECONDS", 0.2)
    pull.front.answers["manifests"] = [STALL]
    with pytest.raises(PullFailed, match="no answer in time") as caught:
        pull.run()
    assert caught.value.is_unreachable
    assert pull.waits == []  # the pod's back-off takes over at once


def test_a_layer_answered_late_is_asked_for_again(pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_SECONDS", 0.5)
    pull.front.answers["blobs"] = [STALL, STALL]
    assert pull.run().size == 1
    assert len(pull.waits) == 2
