"""What is read from a runtime's words."""

from __future__ import annotations

import pytest

from pinnace.core.base.runtime import NoSuchContainer
from pinnace.core.pods.cri.failures import failure, is_gone, is_timeout, pull_failure
from pinnace.core.pods.cri.grpc import DEADLINE_EXCEEDED, NOT_FOUND, UNAVAILABLE, CallFailed, Unreachable
from pinnace.core.pods.cri.runtime import sandbox_image

HEAD = 'failed to pull and unpack image "r/x:1": failed to resolve reference "r/x:1": '


@pytest.mark.parametrize(
    "text",
    [
        'failed to do request: Head "https://r/v2/x/manifests/1": dial tcp 127.0.0.1:1: connect: connection refused',
        'failed to do request: Head "https://r/v2/": dial tcp: lookup r on 10.0.0.1:53: no such host',
        'failed to do request: Head "https://r/v2/": dial tcp: lookup r: Temporary failure in name resolution',
        'failed to do request: Head "https://r/v2/": dial tcp 10.1.1.1:443: i/o timeout',
        'failed to do request: Head "https://r/v2/": net/http: TLS handshake timeout',
        "failed to do request: Get: context deadline exceeded",
        "failed to copy: httpReadSeeker: failed open: read tcp 1.2.3.4:1->5.6.7.8:443: read: connection reset by peer",
        "failed to copy: local error: unexpected EOF",
        "unexpected status code [manifests 1]: 503 Service Unavailable",
        "pinging container registry r: Get: dial tcp 1.2.3.4:443: connect: network is unreachable",
    ],
)
def test_registry_that_gave_no_answer(text: str) -> None:
    error = pull_failure("r/x:1", CallFailed(2, HEAD + text))
    assert error.is_unreachable
    assert error.reason == "ErrImagePull"
    assert "r/x:1" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "r/x:1: not found",
        "pull access denied, repository does not exist or may require authorization: authorization failed",
        "unexpected status code [manifests 1]: 401 Unauthorized",
        "unexpected status code [manifests 1]: 429 Too Many Requests",
        'failed to do request: Head "https://r/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority',
        "failed to extract layer sha256:1: no space left on device",
        "manifest unknown",
    ],
)
def test_registry_that_said_no(text: str) -> None:
    assert not pull_failure("r/x:1", CallFailed(2, HEAD + text)).is_unreachable


def test_runtime_that_is_away_is_no_silent_registry() -> None:
    error = pull_failure("r/x:1", Unreachable("nothing answers on /run/x"))
    assert not error.is_unreachable
    assert "runtime cannot be reached" in str(error)
    assert pull_failure("r/x:1", CallFailed(UNAVAILABLE, "try later")).is_unreachable
    assert pull_failure("r/x:1", CallFailed(DEADLINE_EXCEEDED, "no answer within 7200 s")).is_unreachable


@pytest.mark.parametrize(
    ("code", "text", "gone"),
    [
        (NOT_FOUND, "anything", True),
        (2, 'could not find container "x": container with ID starting with x not found', True),
        (2, "failed to find sandbox: rpc error: pod sandbox container does not exist", True),
        (2, "no such file or directory", False),
    ],
)
def test_what_is_gone(code: int, text: str, gone: bool) -> None:
    assert is_gone(CallFailed(code, text)) is gone
    assert isinstance(failure(CallFailed(code, text)), NoSuchContainer) is gone


def test_what_timed_out() -> None:
    assert is_timeout(CallFailed(DEADLINE_EXCEEDED, ""))
    assert is_timeout(CallFailed(2, "failed to exec in container: timeout 1s exceeded: context deadline exceeded"))
    assert is_timeout(CallFailed(2, "command timed out"))
    assert not is_timeout(CallFailed(2, "no such program"))
    assert "runtimeRequestTimeout" in str(failure(CallFailed(DEADLINE_EXCEEDED, "slow")))


def test_sandbox_image_of_a_verbose_status() -> None:
    assert sandbox_image('{"sandboxImage":"registry.k8s.io/pause:3.6"}') == {"registry.k8s.io/pause:3.6"}
    for text in ("", "no json", "[]", "{}", '{"sandboxImage":5}'):
        assert sandbox_image(text) == frozenset()
