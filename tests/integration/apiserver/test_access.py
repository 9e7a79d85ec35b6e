"""Who may do what: certificates, tokens, nobody, nodes, service accounts, cloudcore."""

from __future__ import annotations

from typing import Any

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
        assert (await node.ask("POST", f"{base}/serviceaccounts/default/token", {"spec": {}}))[0] == 201
        assert (await node.ask("DELETE", "/api/v1/nodes/n1"))[0] == 200


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
