"""Who may do what: certificates, tokens, nobody, nodes, service accounts, cloudcore."""

from __future__ import annotations

import json
from typing import Any

import pytest

POD: dict[str, Any] = {"containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "v", "configMap": {"name": "mine"}}]}


async def test_nobody_reads_only_what_is_open(server: Any, connect: Any) -> None:
    async with connect(server, is_anonymous=True) as nobody:
        for path in ("/version", "/healthz", "/livez", "/readyz"):
            assert (await nobody.ask("GET", path))[0] == 200
        status, answer = await nobody.ask("GET", "/api")
        assert (status, answer["message"]) == (403, 'forbidden: User "system:anonymous" cannot get path "/api"')
        status, answer = await nobody.ask("GET", "/api/v1/namespaces/default/configmaps")
        assert status == 403
        assert answer["message"] == (
            'configmaps is forbidden: User "system:anonymous" cannot list resource "configmaps" in API group "" in the namespace "default"'
        )
        status, answer = await nobody.ask("GET", "/api/v1/nodes", Authorization="Bearer nonsense")
        assert (status, answer["reason"]) == (401, "Unauthorized")


async def test_service_accounts_read_their_namespace(server: Any, connect: Any, client: Any, ns: str, eventually: Any) -> None:
    base = f"/api/v1/namespaces/{ns}"
    account = await client.create(f"{base}/serviceaccounts", {"metadata": {"name": "robot"}})
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    issued = await client.create(f"{base}/serviceaccounts/robot/token", request)
    token = issued["status"]["token"]
    review = await client.create("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}})
    assert review["status"]["authenticated"] is True
    assert review["status"]["user"]["username"] == f"system:serviceaccount:{ns}:robot"
    assert review["status"]["user"]["uid"] == account["metadata"]["uid"]
    async with connect(server, is_anonymous=True) as robot:
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await robot.ask("GET", f"{base}/configmaps", **bearer))[0] == 200
        assert (await robot.ask("GET", f"{base}/secrets", **bearer))[0] == 403
        assert (await robot.ask("GET", "/api/v1/namespaces/default/configmaps", **bearer))[0] == 403
        assert (await robot.ask("POST", f"{base}/configmaps", {"metadata": {"name": "x"}}, **bearer))[0] == 403
        me = {"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": ns}}}
        status, answer = await robot.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", me, **bearer)
        assert (status, answer["status"]["allowed"]) == (201, True)
        status, answer = await robot.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, **bearer)
        assert answer["status"]["userInfo"]["username"] == f"system:serviceaccount:{ns}:robot"
        forged = token[:-8] + ("A" * 8 if not token.endswith("A" * 8) else "B" * 8)
        assert (await robot.ask("GET", f"{base}/configmaps", Authorization=f"Bearer {forged}"))[0] == 401
        await client.ask("DELETE", f"{base}/serviceaccounts/robot")
        assert (await robot.ask("GET", f"{base}/configmaps", **bearer))[0] == 401
    bad = await client.create("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}})
    assert "authenticated" not in bad["status"]
    assert bad["status"]["error"]


async def test_token_requests_are_checked(client: Any, ns: str) -> None:
    base = f"/api/v1/namespaces/{ns}/serviceaccounts"
    await client.create(base, {"metadata": {"name": "robot"}})
    assert (await client.ask("POST", f"{base}/robot/token", {"spec": {"expirationSeconds": 5}}))[0] == 422
    assert (await client.ask("POST", f"{base}/none/token", {"spec": {}}))[0] == 404
    bound = {"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "none"}}}
    assert (await client.ask("POST", f"{base}/robot/token", bound))[0] == 404


async def test_a_node_reaches_its_own_objects(server: Any, connect: Any, client: Any, ns: str, eventually: Any) -> None:
    base = f"/api/v1/namespaces/{ns}"
    for name in ("mine", "other"):
        await client.create(f"{base}/configmaps", {"metadata": {"name": name}})
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}, "storageClassName": "none"}
    volumes = [*POD["volumes"], {"name": "own", "ephemeral": {"volumeClaimTemplate": {"spec": asked}}}]
    for pod, node in (("here", "n1"), ("there", "n2")):
        await client.create(f"{base}/pods", {"metadata": {"name": pod}, "spec": {**POD, "nodeName": node, "volumes": volumes}})
    async with connect(server, server.folder / "n1.kubeconfig") as node:
        assert (await node.ask("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}}))[0] == 201
        assert (await node.ask("POST", "/api/v1/nodes", {"metadata": {"name": "n2"}}))[0] == 403
        patch = {"status": {"phase": "Running"}}
        merge = "application/merge-patch+json"
        assert (await node.ask("PATCH", f"{base}/pods/here/status", patch, content_type=merge))[0] == 200
        assert (await node.ask("PATCH", f"{base}/pods/there/status", patch, content_type=merge))[0] == 403
        assert (await node.ask("GET", f"{base}/configmaps/mine"))[0] == 200
        assert (await node.ask("GET", f"{base}/configmaps/other"))[0] == 403
        assert (await node.ask("GET", f"{base}/configmaps"))[0] == 403
        await eventually(lambda: node.ask("GET", f"{base}/persistentvolumeclaims/here-own"), lambda answer: answer[0] == 200)
        assert (await node.ask("GET", f"{base}/persistentvolumeclaims/there-own"))[0] == 403
        assert (await node.ask("GET", "/api/v1/pods"))[0] == 403
        _, pods = await node.ask("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1")
        assert [item["metadata"]["name"] for item in pods["items"]] == ["here"]
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        assert (await node.ask("POST", leases, {"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}}))[0] == 201
        assert (await node.ask("POST", leases, {"metadata": {"name": "n2"}, "spec": {"holderIdentity": "n2"}}))[0] == 403
        assert (await node.ask("DELETE", "/api/v1/nodes/n1"))[0] == 200


def body_forms(kind: str, api_version: str, name: str) -> list[tuple[str, bytes]]:
    """Content types and bodies with an object of that name: JSON, JSON after a space and without a type, YAML, protobuf."""
    text = json.dumps({"metadata": {"name": name}}).encode()

    def field(number: int, value: bytes) -> bytes:
        return bytes([number << 3 | 2, len(value)]) + value

    what = field(1, api_version.encode()) + field(2, kind.encode())
    packed = b"k8s\0" + field(1, what) + field(2, field(1, field(1, name.encode())))
    return [
        ("application/json", text),
        ("application/json", b" " + text),
        ("", b"\n" + text),
        ("application/yaml", f"metadata:\n  name: {name}\n".encode()),
        ("application/yaml", text),
        ("application/vnd.kubernetes.protobuf", packed),
    ]


@pytest.mark.parametrize("kind", ["Node", "Lease"])
async def test_a_node_makes_what_has_its_name_only_however_that_is_written(server: Any, connect: Any, client: Any, kind: str) -> None:
    path, api_version = {
        "Node": ("/api/v1/nodes", "v1"),
        "Lease": ("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", "coordination.k8s.io/v1"),
    }[kind]
    await client.ask("DELETE", f"{path}/n1")
    async with connect(server, server.folder / "n1.kubeconfig") as node:
        for media, body in body_forms(kind, api_version, "n2"):
            status, answer = await node.ask("POST", path, body, content_type=media)
            assert status in {403, 415}, (media, body, answer)  # 415: a kind that is not read from protobuf at all
        for unnamed in ({"metadata": {"generateName": "n"}}, {"metadata": {"generateName": "n1"}}, {"metadata": {"name": ["n1"]}}, {}):
            assert (await node.ask("POST", path, unnamed))[0] == 403, unnamed
        assert (await node.ask("POST", path, b"{"))[0] == 400
        assert (await client.ask("GET", f"{path}/n2"))[0] == 404
        for media, body in body_forms(kind, api_version, "n1"):
            status, answer = await node.ask("POST", path, body, content_type=media)
            assert status in {201, 415}, (media, body, answer)
            assert (await client.ask("DELETE", f"{path}/n1"))[0] == (200 if status == 201 else 404)


async def test_cloudcore_makes_its_own_namespace_only(server: Any, connect: Any, client: Any) -> None:
    async with connect(server, server.folder / "cloudcore.kubeconfig") as cloudcore:
        for media, body in body_forms("Namespace", "v1", "elsewhere"):
            assert (await cloudcore.ask("POST", "/api/v1/namespaces", body, content_type=media))[0] == 403, (media, body)
        assert (await cloudcore.ask("POST", "/api/v1/namespaces", {"metadata": {"generateName": "k"}}))[0] == 403
        for media, body in body_forms("Namespace", "v1", "kubeedge"):
            assert (await cloudcore.ask("POST", "/api/v1/namespaces", body, content_type=media))[0] in {201, 409}, (media, body)


async def test_a_node_gets_tokens_for_its_own_pods_only(server: Any, connect: Any, client: Any, ns: str) -> None:
    base = f"/api/v1/namespaces/{ns}"
    await client.create(f"{base}/serviceaccounts", {"metadata": {"name": "robot"}})
    pods: dict[str, Any] = {}
    for name, node, account in (("here", "n1", "default"), ("robots", "n1", "robot"), ("there", "n2", "default")):
        spec = {"containers": POD["containers"], "nodeName": node, "serviceAccountName": account}
        pods[name] = await client.create(f"{base}/pods", {"metadata": {"name": name}, "spec": spec})

    def bound(name: str, **changed: str) -> dict[str, Any]:
        return {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pods[name]["metadata"]["uid"], **changed}

    path = f"{base}/serviceaccounts/default/token"
    async with connect(server, server.folder / "n1.kubeconfig") as node:
        status, answer = await node.ask("POST", path, {"spec": {"boundObjectRef": bound("here")}})
        assert status == 201, answer
        review = await client.create("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": answer["status"]["token"]}})
        assert review["status"]["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["here"]
        for spec, code, why in (
            ({}, 403, "not bound to a pod"),
            ({"boundObjectRef": bound("here", uid="")}, 403, "without a uid"),
            ({"boundObjectRef": bound("there")}, 403, "on a different node"),
            ({"boundObjectRef": bound("here", uid="another")}, 409, "does not match"),
            ({"boundObjectRef": bound("robots")}, 400, "different serviceaccount name"),
        ):
            status, answer = await node.ask("POST", path, {"spec": spec})
            assert (status, why in answer["message"]) == (code, True), (spec, answer)


async def test_cloudcore_has_what_it_needs(server: Any, connect: Any, ns: str) -> None:
    async with connect(server, server.folder / "cloudcore.kubeconfig") as cloudcore:
        assert (await cloudcore.ask("GET", "/api/v1/secrets"))[0] == 200
        assert (await cloudcore.ask("POST", "/api/v1/nodes", {"metadata": {"name": "cc"}}))[0] == 201
        assert (await cloudcore.ask("DELETE", "/api/v1/nodes/cc"))[0] == 200
        assert (await cloudcore.ask("POST", "/api/v1/namespaces/kubeedge/secrets", {"metadata": {"name": "cloudcore-test"}}))[0] == 201
        assert (await cloudcore.ask("POST", f"/api/v1/namespaces/{ns}/secrets", {"metadata": {"name": "x"}}))[0] == 403
        assert (await cloudcore.ask("GET", "/apis/apps/v1/deployments"))[0] == 403


async def test_administrators_may_speak_for_others(client: Any) -> None:
    status, answer = await client.ask("GET", "/api/v1/nodes", **{"Impersonate-User": "bob"})
    assert (status, answer["details"]["kind"]) == (403, "nodes")
    assert (await client.ask("GET", "/api/v1/nodes", **{"Impersonate-User": "bob", "Impersonate-Group": "system:masters"}))[0] == 200


async def test_this_servers_own_client_may_ask_nodes_and_nothing_else(client: Any) -> None:
    async def allowed(**attributes: str) -> bool:
        spec = {"user": "kube-apiserver-kubelet-client", "groups": ["pinnace:kubelet-client", "system:authenticated"]}
        body = {"spec": {**spec, "resourceAttributes": {"version": "v1", **attributes}}}
        return bool((await client.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", body))["status"]["allowed"])

    for part in ("proxy", "stats", "metrics", "log"):
        assert await allowed(resource="nodes", subresource=part, verb="get", name="n1")
    assert not await allowed(resource="nodes", verb="get", name="n1")
    assert not await allowed(resource="nodes", subresource="status", verb="patch", name="n1")
    assert not await allowed(resource="secrets", verb="get", namespace="kubeedge", name="casecret")
    assert not await allowed(resource="pods", subresource="exec", verb="create", namespace="default", name="p")


async def test_streams_are_the_administrators(server: Any, connect: Any, client: Any, ns: str) -> None:
    """A node or cloudcore may not enter pods; whoever may is told what is missing."""
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n-away", "containers": [{"name": "c", "image": "i"}]}}
    await client.create(f"/api/v1/namespaces/{ns}/pods", pod)
    path = f"/api/v1/namespaces/{ns}/pods/p"
    for name in ("cloudcore.kubeconfig", "n1.kubeconfig"):
        async with connect(server, server.folder / name) as other:
            for what in ("exec?command=id&stdout=1", "attach?stdout=1", "portforward", "log"):
                assert (await other.ask("GET", f"{path}/{what}"))[0] == 403, (name, what)
    assert (await client.ask("GET", f"{path}/log"))[0] == 404  # no such node
    await client.create("/api/v1/nodes", {"metadata": {"name": "n-away"}})
    status, body = await client.ask("GET", f"{path}/log")
    assert status == 503
    assert "has no tunnel" in body["message"]
    await client.ask("DELETE", "/api/v1/nodes/n-away")
