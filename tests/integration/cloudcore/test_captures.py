"""What an edge asked a real KubeEdge cloudcore 1.23.1, asked of ours: the answers have the same shape, or differ for a stated reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from pinnace.cloud.kube.resources import DEVICE_MODELS, DEVICES, NAMESPACES, PODS

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "kubeedge" / "edge-to-upstream-cloud.jsonl"
NODE = "py-edge-1"
Message = dict[str, Any]

OWN_ONLY = "a node reaches only its own objects; upstream's authorization is off by default"
SPOKEN = "whoever asks gets an answer; upstream is silent and the edge waits a minute"
SAFE = "a failed query is operation `error` with a text; upstream's bare error is stored as an empty object by its own edge"
ACCOUNTS = "the recorded pods had no service account; and a token is bound to a pod, or refused"
CUT = "some of the answers were cut in the recording"


class Shape(NamedTuple):
    """What of an answer an edge acts upon; `body` tells the kind of content, and of an ObjectResp reason and code."""

    operation: str
    source: str
    group: str
    resource: str
    has_version: bool
    body: tuple[Any, ...]


def shape(message: Message | None) -> Shape | None:
    if message is None:
        return None
    route, content = message["route"], message["content"]
    body: tuple[Any, ...] = (type(content).__name__,)
    if isinstance(content, dict) and content.keys() == {"Object", "Err"}:
        status = (content["Err"] or {}).get("ErrStatus")
        body = ("ObjectResp", bool(content["Object"]), status and status["reason"], status and status["code"])
    elif isinstance(content, dict):
        body = ("object", content.get("kind"))
    has_version = bool(message["header"].get("resourceversion"))
    return Shape(route["operation"], route["source"], route["group"], route["resource"], has_version, body)


def recorded(flow: str, sender: str) -> list[Message]:
    """The messages of one side in a flow, in order."""
    lines = [json.loads(line) for line in VECTORS.read_text().splitlines()]
    return [json.loads(line["text"]) for line in lines if (line["flow"], line["from"]) == (flow, sender) and '"route"' in line["text"]]


def conversation(flow: str) -> list[tuple[Message, Message | None]]:
    """The requests of a flow with their answers, in order."""
    answers = {each["header"].get("parent_msg_id"): each for each in recorded(flow, "cloud")}
    asked = [each for each in recorded(flow, "edge") if not each["header"].get("parent_msg_id")]
    return [(each, answers.get(each["header"]["msg_id"])) for each in asked if each["route"].get("operation") != "keepalive"]


def translated(message: Message, versions: dict[str, str], uids: dict[str, str]) -> Message:
    """The recorded message with this API server's resource versions and uids for the recorded ones."""
    text = json.dumps(message["content"])
    for old, new in versions.items():
        text = text.replace(f'"resourceVersion": "{old}"', f'"resourceVersion": "{new}"')
    for old, new in uids.items():
        text = text.replace(old, new)
    return {**message, "content": json.loads(text)}


def learn(theirs: Any, ours: Any, versions: dict[str, str], uids: dict[str, str]) -> None:
    old, new = ((each or {}).get("metadata") or {} for each in (theirs, ours))
    if "resourceVersion" in old and "resourceVersion" in new:
        versions[old["resourceVersion"]] = new["resourceVersion"]
    if "uid" in old and "uid" in new:
        uids[old["uid"]] = new["uid"]


def object_of(message: Message | None) -> Any:
    content = message["content"] if message is not None else None
    return content.get("Object", content) if isinstance(content, dict) else None


async def compare(node: Any, requests: list[tuple[Message, Message | None]], reasons: dict[str, str]) -> None:
    """Ask everything again and hold the answers against the recorded ones; `reasons` by request must be just those that differ."""
    versions: dict[str, str] = {}
    uids: dict[str, str] = {}
    differing = set()
    for request, answer in requests:
        label = f"{request['route'].get('operation')} {request['route'].get('resource')}"
        sent = translated(request, versions, uids)
        await node.raw(json.dumps(sent) + "\n")
        number = request["header"]["msg_id"]
        if answer is None and label not in reasons:
            continue
        got = await node.saw(lambda each, number=number: each["header"].get("parent_msg_id") == number)
        if shape(got) != shape(answer):
            assert label in reasons, f"{label}\nupstream {shape(answer)}\nours     {shape(got)}\n{json.dumps(sent['content'])[:300]}"
            differing.add(label)
        learn(object_of(answer), object_of(got), versions, uids)
    answered = {each["header"].get("parent_msg_id") for each in node.received}
    unrecorded = [request for request, answer in requests if answer is None and request["header"]["msg_id"] in answered]
    differing |= {f"{each['route']['operation']} {each['route']['resource']}" for each in unrecorded}
    assert differing == reasons.keys()


async def test_node_and_lease(world: Any) -> None:
    node = await world.node(NODE)
    reasons = {
        "query null/node/nope-x": SAFE,
        "patch null/nodepatch/py-edge-2": OWN_ONLY,
        "query default/foo/bar": SPOKEN,
        "query null/node/py-edge-1": CUT,
        "patch null/nodepatch/py-edge-1": CUT,
    }
    async with node.connected(world.cloud.websocket_port):
        await compare(node, conversation("node"), reasons)


async def test_reports_of_a_device(world: Any) -> None:
    await world.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pyedge"}})
    pushes = {each["route"]["resource"]: each for each in recorded("device", "cloud") if each["route"]["operation"] == "insert"}
    model, device = (pushes[f"pyedge/{each}"] for each in ("devicemodel/m1", "device/d1"))
    name = device["content"]["spec"]["nodeName"] = "py-edge-3"
    async with world.connected(name) as node:
        for resource, push in ((DEVICE_MODELS, model), (DEVICES, device)):
            metadata = {key: value for key, value in push["content"]["metadata"].items() if key in {"name", "namespace", "labels"}}
            await world.api.create(resource, {**push["content"], "metadata": metadata}, "pyedge")
        for push in (model, device):
            got = await node.pushed("insert", push["route"]["resource"])
            assert got["route"] == push["route"]
            assert got["content"].get("spec") == push["content"]["spec"]
            assert got["content"].keys() - {"status"} == push["content"].keys() - {"status"}
        added = await node.saw(lambda each: each["route"]["resource"] == "membership")
        theirs = next(each for each in recorded("device", "cloud") if each["route"]["resource"] == "membership")
        assert added["route"] == theirs["route"]
        (entry,) = added["content"]["added_devices"]
        assert theirs["content"]["added_devices"] == [{key: entry[key] for key in ("id", "name", "description")}]
        about = ("device/pyedge/d1/", "device/pyedge/nodev/")
        await compare(node, [each for each in conversation("device") if each[0]["route"]["resource"].startswith(about)], {})
    shown = (await world.api.get(DEVICES, "d1", "pyedge"))["status"]
    assert {each["propertyName"]: each["reported"]["value"] for each in shown["twins"]} == {"red": "V3", "green": "G1", "blue": "B2"}
    assert {each["propertyName"]: each["observedDesired"]["value"] for each in shown["twins"] if "observedDesired" in each} == {
        "red": "ON", "green": "ON",
    }  # fmt: skip
    assert (shown["state"], shown["lastOnlineTime"]) == ("weird", "2026-01-01T00:00:00Z")


async def test_pods(world: Any) -> None:
    """The recorded node's questions about its pods."""
    await world.api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pyedge"}})
    push = next(each for each in recorded("pod", "cloud") if each["route"]["resource"] == "pyedge/pod/p1")
    theirs = push["content"]
    metadata = {key: theirs["metadata"][key] for key in ("name", "namespace", "labels", "annotations") if key in theirs["metadata"]}
    async with world.connected(theirs["spec"]["nodeName"]) as node:
        spec = {**theirs["spec"], "automountServiceAccountToken": False}
        made = await world.api.create(PODS, {**theirs, "metadata": metadata, "spec": spec}, "pyedge")
        got = await node.pushed("insert", "pyedge/pod/p1")
        assert got["route"] == push["route"]
        assert got["content"].keys() == theirs.keys()
        assert got["content"]["spec"].items() >= theirs["spec"].items()
        about = ("pyedge/pod", "pyedge/serviceaccounttoken")
        uid = theirs["metadata"]["uid"]
        flow = []
        for request, answer in conversation("pod"):
            resource = request["route"]["resource"]
            if resource.startswith(about) and resource.rpartition("/")[2] in {"p1", "nope", "p3", "default"}:
                text = json.dumps(request).replace(uid, made["metadata"]["uid"])
                flow.append((json.loads(text), answer))
        reasons = {
            "query pyedge/pod/p1": SPOKEN,
            "patch pyedge/podpatch/p1": CUT,
            "query pyedge/serviceaccounttoken/default": ACCOUNTS,
            "query pyedge/serviceaccounttoken/nope": SAFE,
        }
        await compare(node, flow, reasons)
        gone = await node.pushed("delete", "pyedge/pod/p1")
        assert gone["content"]["metadata"]["uid"] == made["metadata"]["uid"]
        theirs = next(each for each in recorded("pod", "cloud") if each["route"]["resource"] == "pyedge/pod/p3")
        told = await node.pushed("delete", "pyedge/pod/p3")
        assert told["route"] == theirs["route"]
        assert told["content"].keys() == theirs["content"].keys()
