"""Custom resource definitions: establishing, versions, conversion by webhook, subresources, conflicts, deletion."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def definition(plural: str, kind: str, *, group: str = "golden.io", **spec: Any) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": OPEN, "status": OPEN}}}
    subresources = {"status": {}, "scale": {"specReplicasPath": ".spec.oars", "statusReplicasPath": ".status.oars"}}
    versions = [
        {"name": "v1", "served": True, "storage": True, "schema": schema, "subresources": subresources},
        {"name": "v1alpha1", "served": True, "storage": False, "schema": schema, "subresources": {"status": {}}},
    ]
    spec = {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind}, "versions": versions} | spec
    head = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    return {**head, "metadata": {"name": f"{plural}.{group}"}, "spec": spec}


def thing(kind: str, name: str, version: str = "v1", *, group: str = "golden.io", **rest: Any) -> dict[str, Any]:
    return {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": {"name": name}, **rest}


def is_condition(kind: str, status: str) -> Any:
    def holds(obj: Any) -> bool:
        return any(each["type"] == kind and each["status"] == status for each in (obj["status"].get("conditions") or ()))

    return holds


async def established(client: Any, eventually: Any, body: dict[str, Any]) -> Any:
    made = await client.create(CRDS, body)
    assert made["status"]["storedVersions"] == ["v1"]
    return await eventually(lambda: client.get(f"{CRDS}/{body['metadata']['name']}"), is_condition("Established", "True"))


async def test_a_kind_from_its_birth_to_its_end(client: Any, ns: str, eventually: Any) -> None:
    crd = await established(client, eventually, definition("boats", "Boat"))
    assert crd["spec"]["names"]["listKind"] == "BoatList"
    path = f"/apis/golden.io/v1/namespaces/{ns}/boats"
    made = await client.create(path, thing("Boat", "b", spec={"oars": 2}, status={"phase": "no"}))
    assert "status" not in made
    assert made["metadata"]["generation"] == 1
    changed = await client.merge(f"{path}/b/status", {"status": {"oars": 2}, "spec": {"oars": 9}, "metadata": {"labels": {"x": "y"}}})
    assert (changed["spec"], changed["status"]) == ({"oars": 2}, {"oars": 2})
    assert "labels" not in changed["metadata"]
    assert changed["metadata"]["generation"] == 1
    assert (await client.merge(f"{path}/b", {"spec": {"oars": 3}}))["metadata"]["generation"] == 2
    scale = await client.get(f"{path}/b/scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 3}, {"replicas": 2})
    assert (await client.merge(f"{path}/b/scale", {"spec": {"replicas": 4}}))["spec"] == {"replicas": 4}
    alpha = await client.get(f"/apis/golden.io/v1alpha1/namespaces/{ns}/boats/b")
    assert (alpha["apiVersion"], alpha["spec"]) == ("golden.io/v1alpha1", {"oars": 4})
    assert (await client.ask("GET", f"/apis/golden.io/v1alpha1/namespaces/{ns}/boats/b/scale"))[0] == 404
    assert (await client.ask("GET", f"/apis/golden.io/v9/namespaces/{ns}/boats"))[0] == 404
    without = {key: value for key, value in made["metadata"].items() if key != "resourceVersion"}
    assert (await client.ask("PUT", f"{path}/b", {**made, "metadata": without}))[0] == 422
    assert (await client.ask("POST", path, {"metadata": {"name": "c"}}))[0] == 400
    assert (await client.ask("POST", path, thing("Ship", "c")))[0] == 422
    assert (await client.ask("POST", path, thing("Boat", "c", "v1alpha1")))[0] == 400
    assert (await client.ask("PATCH", f"{path}/b", {}, content_type="application/strategic-merge-patch+json"))[0] == 415
    groups = await client.get("/apis/golden.io")
    assert [each["version"] for each in groups["versions"]] == ["v1", "v1alpha1"]

    await client.merge(f"{path}/b", {"metadata": {"finalizers": ["x.io/y"]}})
    async with client.watch(f"{path}?watch=1") as events:
        assert (await anext(events))["type"] == "ADDED"
        assert (await client.ask("DELETE", f"{CRDS}/boats.golden.io"))[0] == 200
        ending = await anext(events)
        assert ending["object"]["metadata"]["deletionTimestamp"]
        await eventually(lambda: client.get(f"{CRDS}/boats.golden.io"), is_condition("Terminating", "True"))
        status, answer = await client.ask("POST", path, thing("Boat", "late"))
        assert (status, answer["message"].partition(": ")[2]) == (403, "create not allowed while custom resource definition is terminating")
        await client.merge(f"{path}/b", {"metadata": {"finalizers": None}})
        assert (await anext(events))["type"] == "DELETED"
    await eventually(lambda: client.ask("GET", f"{CRDS}/boats.golden.io"), lambda answer: answer[0] == 404)
    assert await client.ask("GET", path) == (404, "404 page not found\n")


async def test_names_in_use_are_not_accepted(client: Any, eventually: Any) -> None:
    await established(client, eventually, definition("ships", "Ship", group="fleet.io"))
    await client.create(CRDS, definition("vessels", "Ship", group="fleet.io"))
    refused = await eventually(lambda: client.get(f"{CRDS}/vessels.fleet.io"), is_condition("NamesAccepted", "False"))
    assert {each["reason"] for each in refused["status"]["conditions"]} == {"ListKindConflict", "NotAccepted"}
    assert (await client.ask("GET", "/apis/fleet.io/v1/vessels"))[0] == 404
    await client.ask("DELETE", f"{CRDS}/ships.fleet.io")
    await eventually(lambda: client.get(f"{CRDS}/vessels.fleet.io"), is_condition("Established", "True"))
    await client.ask("DELETE", f"{CRDS}/vessels.fleet.io")


def certificate(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A self-signed certificate for 127.0.0.1: the server's context, and the caBundle."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "webhook.pem").write_bytes(pem + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "webhook.pem")
    return context, base64.b64encode(pem).decode()


class Webhook:
    """A conversion webhook: v1 has spec.oars, v1alpha1 calls it spec.paddles. Counts its calls and can be told to fail."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.failure = ""

    async def convert(self, request: web.Request) -> web.Response:
        review = json.loads(await request.read())
        asked = review["request"]
        self.calls.append(len(asked["objects"]))
        if self.failure:
            response = {"uid": asked["uid"], "result": {"status": "Failure", "message": self.failure}}
        else:
            response = {
                "uid": asked["uid"],
                "result": {"status": "Success"},
                "convertedObjects": [self.one(each, asked["desiredAPIVersion"]) for each in asked["objects"]],
            }
        return web.json_response({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response})

    @staticmethod
    def one(obj: dict[str, Any], version: str) -> dict[str, Any]:
        old, new = ("oars", "paddles") if version.endswith("v1alpha1") else ("paddles", "oars")
        spec = dict(obj.get("spec") or {})
        if old in spec:
            spec[new] = spec.pop(old)
        return {**obj, "apiVersion": version, "spec": spec}


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Webhook, dict[str, Any]]]:
    context, bundle = certificate(folder)
    webhook = Webhook()
    app = web.Application()
    app.router.add_post("/convert", webhook.convert)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    client = {"url": f"https://127.0.0.1:{port}/convert", "caBundle": bundle}
    try:
        yield webhook, {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": client}}
    finally:
        await runner.cleanup()


async def test_a_webhook_converts(client: Any, ns: str, eventually: Any, tmp_path: Path) -> None:
    async with serving(tmp_path) as (webhook, conversion):
        await established(client, eventually, definition("canoes", "Canoe", conversion=conversion))
        old, new = (f"/apis/golden.io/{version}/namespaces/{ns}/canoes" for version in ("v1alpha1", "v1"))
        made = await client.create(old, thing("Canoe", "a", "v1alpha1", spec={"paddles": 2}))
        assert (made["apiVersion"], made["spec"]) == ("golden.io/v1alpha1", {"paddles": 2})
        assert (await client.get(f"{new}/a"))["spec"] == {"oars": 2}
        for index in range(5):
            await client.create(new, thing("Canoe", f"n{index}", spec={"oars": index}))
        webhook.calls.clear()
        listed = await client.get(old)
        assert listed["kind"] == "CanoeList"
        assert [item["spec"] for item in listed["items"]] == [{"paddles": 2}, *({"paddles": index} for index in range(5))]
        assert webhook.calls == [5], "one call for the list, without what was converted before"
        await client.get(old)
        assert webhook.calls == [5], "converted bodies are kept by resource version"
        async with client.watch(f"{old}?watch=1&resourceVersion={listed['metadata']['resourceVersion']}") as events:
            await client.merge(f"{new}/a", {"spec": {"oars": 7}})
            event = await anext(events)
            assert (event["type"], event["object"]["apiVersion"], event["object"]["spec"]) == (
                "MODIFIED",
                "golden.io/v1alpha1",
                {"paddles": 7},
            )
            changed = await client.merge(f"{old}/a", {"spec": {"paddles": 8}})
            assert changed["spec"] == {"paddles": 8}
            assert (await anext(events))["object"]["spec"] == {"paddles": 8}
        assert (await client.get(f"{new}/a"))["spec"] == {"oars": 8}
        results = await asyncio.gather(*(client.merge(f"{old}/a", {"metadata": {"labels": {f"k{index}": "1"}}}) for index in range(5)))
        assert len(results) == 5
        assert len((await client.get(f"{new}/a"))["metadata"]["labels"]) == 5
        webhook.failure = "the sea is rough"
        await client.merge(f"{new}/a", {"spec": {"oars": 9}})
        status, answer = await client.ask("GET", f"{old}/a")
        assert status == 500
        assert "the sea is rough" in answer["message"]
    status, answer = await client.ask("GET", f"{old}/a")
    assert status == 500
    assert (await client.get(f"{new}/a"))["spec"] == {"oars": 9}
    await client.ask("DELETE", f"{CRDS}/canoes.golden.io")
    await eventually(lambda: client.ask("GET", f"{CRDS}/canoes.golden.io"), lambda answer: answer[0] == 404)
