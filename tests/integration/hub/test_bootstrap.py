"""Port 10002, request by request, in the words of KubeEdge's cloudcore."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from rig.hub import Cloud, edge_settings

from pinnace.cloud.hub import pki
from pinnace.cloud.kube.resources import NODES
from pinnace.cloud.ports import Resource
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import LinkError, RemoteError
from pinnace.core.hub import openssl
from pinnace.core.hub.bootstrap import Answer, get
from pinnace.core.hub.certificates import Certificates
from pinnace.core.hub.settings import Endpoint


def trusting(cloud: Cloud) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pki.pem(cloud.vault.authority.pair.certificate).decode())
    return context


async def ask(
    cloud: Cloud, path: str, headers: dict[str, str] | None = None, *, context: ssl.SSLContext | None = None, body: bytes = b""
) -> Answer:
    return await get(Endpoint("127.0.0.1", cloud.https_port), path, context or trusting(cloud), headers=headers, body=body)


@pytest.fixture
def bearer(cloud: Cloud) -> str:
    return "Bearer " + cloud.vault.token.partition(".")[2]


@pytest.fixture
async def csr() -> bytes:
    return (await openssl.key_and_request(NodeName("edge-1")))[1]


async def test_gives_out_the_authority_as_der(cloud: Cloud) -> None:
    assert await ask(cloud, "/ca.crt") == Answer(200, cloud.vault.authority.pair.certificate)


async def test_says_whether_a_node_exists(cloud: Cloud) -> None:
    assert await ask(cloud, "/node/edge-1") == Answer(404, b"Node not found")
    cloud.kube.put(NODES, {"metadata": {"name": "edge-1"}})
    assert await ask(cloud, "/node/edge-1") == Answer(200, b"Node founded")
    assert await ask(cloud, "/node/UPPER") == Answer(404, b"Node not found")


async def test_an_api_that_is_away_is_no_permission_to_join(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    def fail(verb: str, resource: Resource, name: str) -> None:
        raise LinkError("the API server cannot be reached")

    cloud.kube.fail_with = fail
    assert await ask(cloud, "/node/edge-1") == Answer(500, b"Failed to query node information")
    cloud.kube.fail_with = lambda *_: (_ for _ in ()).throw(RemoteError("no", code=403))
    assert (await ask(cloud, "/node/edge-1")).status == 500
    assert caplog.text.count("hub.bootstrap.node_lookup_failed") == 2
    cloud.kube.fail_with = None


@pytest.mark.parametrize(("path", "status"), [("/", 404), ("/edge.crt/x", 404), ("/node/", 404), ("/../etc/passwd", 404)])
async def test_there_is_nothing_else(cloud: Cloud, path: str, status: int) -> None:
    assert (await ask(cloud, path)).status == status


async def test_signs_with_a_token(cloud: Cloud, bearer: str, csr: bytes) -> None:
    answer = await ask(cloud, "/edge.crt", {"NodeName": "edge-1", "Authorization": bearer}, body=csr)
    assert answer.status == 200
    assert (await openssl.look(answer.body, der=True)).common_name == "system:node:edge-1"


@pytest.mark.parametrize(
    ("authorization", "text"),
    [
        ("", "token validation failure, token is empty"),
        ("Bearer", "token validation failure, token cannot be split"),
        ("Bearer a.b.c.d", "token validation failure, err: token is malformed: token contains an invalid number of segments"),
    ],
)
async def test_refuses_without_a_token(cloud: Cloud, csr: bytes, authorization: str, text: str) -> None:
    headers = {"NodeName": "edge-1"} | ({"Authorization": authorization} if authorization else {})
    assert await ask(cloud, "/edge.crt", headers, body=csr) == Answer(401, text.encode())


@pytest.mark.parametrize(
    "case",
    [
        ("edge-1", b"junk", ""),
        ("edge-1", b"", ""),
        ("edge-2", None, ""),
        ("", None, ""),
        ("edge-1", None, "[1]"),
        ("edge-1", None, "junk"),
        ("edge-1", None, '{"a":1}'),
    ],
)
async def test_refuses_to_sign(
    cloud: Cloud, bearer: str, csr: bytes, case: tuple[str, bytes | None, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A case is a node name, a body (None: a good request of edge-1) and the ExtKeyUsages header."""
    node, body, usages = case
    headers = {"NodeName": node, "Authorization": bearer} | ({"ExtKeyUsages": usages} if usages else {})
    answer = await ask(cloud, "/edge.crt", headers, body=csr if body is None else body)
    assert answer.status == 500
    assert answer.text.startswith(f"failed to sign certs for edgenode {node}, err: fail to signCerts, err: ")
    assert caplog.text.count("hub.bootstrap.refused") == 1


async def test_a_request_that_is_too_long_is_refused(cloud: Cloud, bearer: str) -> None:
    answer = await ask(cloud, "/edge.crt", {"NodeName": "edge-1", "Authorization": bearer}, body=b"x" * ((1 << 20) + 1))
    assert answer.status == 413


async def test_a_certificate_opens_its_own_nodes_door_only(cloud: Cloud, bearer: str, csr: bytes, tmp_path: Path) -> None:
    """Also with a good token besides: the certificate counts."""
    settings = edge_settings(cloud, tmp_path)
    context = await Certificates(settings, NodeName("edge-1")).context()
    assert (await ask(cloud, "/edge.crt", {"NodeName": "edge-1"}, context=context, body=csr)).status == 200
    other = (await openssl.key_and_request(NodeName("edge-2")))[1]
    answer = await ask(cloud, "/edge.crt", {"NodeName": "edge-2", "Authorization": bearer}, context=context, body=other)
    assert answer.status == 401
    assert answer.text.startswith("failed to verify the certificate for edgenode: edge-2")
    assert (await ask(cloud, "/edge.crt", {"NodeName": "edge-1"}, context=context, body=other)).status == 500


async def test_a_guesser_is_slowed_down(cloud: Cloud, csr: bytes) -> None:
    guess = {"NodeName": "edge-1", "Authorization": "Bearer a.b.c"}
    statuses = [(await ask(cloud, "/edge.crt", guess, body=csr)).status for _ in range(62)]
    assert statuses[:60] == [401] * 60
    assert 429 in statuses[60:]
    assert (await ask(cloud, "/ca.crt")).status == 200
