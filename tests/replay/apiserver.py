"""Replays what clients asked a real Kubernetes 1.36 API server and compares the embedded server's answers with its.

`python tests/replay/apiserver.py --write` starts a server, replays all cases and writes docs/api-conformance.md; a test replays them too
and fails when an answer changes or the document is out of date. Cases that are known to differ stand in DIFFERENT with the reason, cases
about what the server leaves out in OUT.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fnmatch
import importlib.util
import json
import re
import ssl
import sys
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yarl

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors" / "kube-apiserver" / "http.jsonl"
DOCUMENT = ROOT / "docs" / "api-conformance.md"
NOT_COMPARED = "<not compared>"
HEADERS = ("content-type", "retry-after", "warning")
SECOND = "watch-list"
"""From this case on the answers come from a second server that had seen nothing yet but its namespace and two ConfigMaps."""

_LUCK = "how long an emptied namespace stays is a matter of luck, there and here"
OUT: Mapping[str, str] = {
    "watch-bookmarks": "the record took 130 s; bookmarks have a test of their own",
    "watch-*-cr": "the record lacks the definition that server had",
    "ssa-*": "server-side apply is not served (415 with the reason)",
    "cr-ssa": "server-side apply is not served (415 with the reason)",
    "managed-reset": "it changes what server-side apply made",
    "pdb*": "pod disruption budgets are not served",
    "evict-pdb": "pod disruption budgets are not served",
    "ns2-del-again": _LUCK,
    "ns2-gone": _LUCK,
}
"""Pattern → why its cases are not asked."""

_ACCOUNT = "pods get a service account and its token's volume, which the recorded server had switched off"
_NO_PROTOBUF = "answers are never protobuf; clients that ask for it take JSON too, alone it is 406"
_ACCOUNTS = "service accounts read their own namespace without Secrets; there are no roles to give them more or less"
_ISSUER = "the issuer of tokens is https://kubernetes.default.svc.cluster.local"
_BOOKMARK = "one bookmark more: the last one comes 2 s before the end, here that is at once"
DIFFERENT: Mapping[str, str] = {
    "root/readyz[?]verbose": "other checks",
    "root/openapi/v3": "JSON is called application/json, not text/plain",
    "disc-agg-apis-v2beta1": "fewer groups are served",
    "get-yaml": "order of keys and quotes; no managedFields",
    "get-proto": _NO_PROTOBUF,
    "get-proto-json": _NO_PROTOBUF,
    "cr-proto": _NO_PROTOBUF,
    "page-badcontinue": "the words for a token of another server",
    "list-rv-old-exact": "version 1 is within this server's window",
    "watch-410": "version 1 is within this server's window",
    "fs-node": "the recorded cluster had nodes",
    "pod-create": _ACCOUNT,
    "pod-create2": _ACCOUNT,
    "pod-minimal-defaults": _ACCOUNT,
    "pod-strategic-image": _ACCOUNT,
    "pod-strategic-tolerations": _ACCOUNT,
    "pod-status-[pcsgv]*": _ACCOUNT,
    "pod-ephemeral": _ACCOUNT,
    "pod-after-evict": _ACCOUNT,
    "pod-delete-[gp0u]*": _ACCOUNT,
    "pod-proxy": "the embedded server has no way to nodes",
    "sa-token": _ISSUER,
    "tokenreview": _ISSUER,
    "tokenreview-bad": "the words say more",
    "ssar-sa": _ACCOUNTS,
    "403-sa-list": _ACCOUNTS,
    "403-sa-get": _ACCOUNTS,
    "403-sa-apps": _ACCOUNTS,
    "ssrr": "rules are listed for administrators only, and in one piece",
    "selfreview": "the administrator has another name here",
    "event-table": "other names, and the recorded cluster had a node that nothing fitted on",
    "node-create": "no taint not-ready on a node that has not yet said how it is",
    "node-status-addresses": "no taint not-ready on a node that has not yet said how it is",
    "svc-create": "services get no cluster IP",
    "svc-table": "services get no cluster IP",
    "watch-gzip": "the record has one answer of each of two servers",
    "crd-bad-get": "of a definition whose names are refused, none is accepted",
    "crd-bad-del": "of a definition whose names are refused, none is accepted",
    "crd-delete-watch": "the condition Terminating comes a moment after the answer",
    "cr-alpha-status": "a subresource that only another version has is the plain 404",
    "name-with-slash": "the name is looked for, and not found",
    "watch-wlist": _BOOKMARK,
    "watch-wlist-false": _BOOKMARK,
    "watch-wlist-partial": _BOOKMARK,
    "watch-table-bookmark": _BOOKMARK,
    "watch-ws": "WebSocket watches are not served; the request is answered as a plain watch",
}
"""Pattern → why its cases' answers are not the recorded ones."""


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded request and its answer; `number` tells apart cases of one name."""

    name: str
    number: int
    request: Mapping[str, Any]
    response: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case: "equal", "different" or "out of scope", with the differences found."""

    case: Case
    verdict: str
    found: Sequence[str] = ()


@dataclass
class Session:
    """Connections to the server under test: as administrator, without credentials; and what recorded values are called here."""

    url: str
    admin: ssl.SSLContext
    anonymous: ssl.SSLContext
    token: str = ""
    names: dict[str, str] = field(default_factory=dict)


def cases() -> list[Case]:
    counts: dict[str, int] = {}
    made = []
    for line in VECTORS.read_text().splitlines():
        row = json.loads(line)
        number = counts[row["case"]] = counts.get(row["case"], 0) + 1
        made.append(Case(row["case"], number, row["request"], row["response"]))
    return made


def reason(table: Mapping[str, str], name: str) -> str:
    """Why a case is in a table; "" when it is not."""
    return next((why for pattern, why in table.items() if fnmatch.fnmatchcase(name, pattern)), "")


_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_FIXED_UID = re.compile(r"(\d)\1{7}-")
_VARIABLE = {
    "resourceVersion",
    "continue",
    "token",
    "kid",
    "storageVersionHash",
    "serverAddress",
    "remainingItemCount",
    "expirationTimestamp",
}


def masked(value: Any, key: str = "") -> Any:
    """A value without what differs from run to run; null and absent are the same, and so are the orders of causes."""
    if isinstance(value, dict):
        kept = {
            name: masked(each, name) for name, each in value.items() if each is not None and name not in {"managedFields", "description"}
        }
        match kept.get("kind"):
            case "Status":
                return _unordered(kept)
            case "Deployment":
                return _without_controllers(kept)
            case _:
                return kept
    if isinstance(value, list):
        return _rows(value) if key == "rows" else [masked(each) for each in value if _name_of(each) not in _CONTROLLERS_OWN]
    if key in _VARIABLE:
        return f"<{key}>"
    if isinstance(value, str):
        text = _UID.sub(lambda found: found[0] if _FIXED_UID.match(found[0]) else "<uid>", value)
        text = _TIME.sub("<time>", text)
        text = re.sub(r"(current: |record \(|old resource version: \d+ \()\d+", r"\1<version>", text)
        text = re.sub(r'^(.*is invalid: patch: Invalid value: ").*(": .*)$', r"\1<object>\2", text, flags=re.DOTALL)
        text = re.sub(r'^(Invalid value: ")\{.*(": .*)$', r"\1<object>\2", text, flags=re.DOTALL)
        text = re.sub(r"^Invalid value: \[\{.*", "Invalid value: <versions>", text, flags=re.DOTALL)
        text = re.sub(r"-----BEGIN .*", "<certificate>", text, flags=re.DOTALL)
        text = re.sub(r"(previously negative\)\n).*", r"\1<difference>", text, flags=re.DOTALL)
        return re.sub(r"-[bcdfghjklmnpqrstvwxz2456789]{5}$", "-<suffix>", text) if key == "name" else text
    return value


_REVISION = "deployment.kubernetes.io/revision"
_CONTROLLERS_OWN = {"kube-root-ca.crt", "openshift-service-ca.crt"}
"""ConfigMaps that controllers made there at their own times."""


def _name_of(item: Any) -> Any:
    """The name of an element of a list, of a table's row, or of a watch event."""
    if isinstance(item, dict):
        part = item.get("object") or item
        if isinstance(part, dict) and part.get("kind") == "Table":
            return _name_of((part.get("rows") or [None])[0])
        return (part.get("metadata") or {}).get("name") if isinstance(part, dict) and isinstance(part.get("metadata"), dict) else None
    return None


def _without_controllers(deployment: dict[str, Any]) -> dict[str, Any]:
    """A Deployment without what its controller writes at a moment of its own, there and here."""
    metadata = dict(deployment.get("metadata") or {})
    annotations = {name: each for name, each in (metadata.pop("annotations", None) or {}).items() if name != _REVISION}
    if annotations:
        metadata["annotations"] = annotations
    return {name: each for name, each in {**deployment, "metadata": metadata}.items() if name != "status"}


def _unordered(status: dict[str, Any]) -> dict[str, Any]:
    """A Status whose causes, and their copy in the message, are in one order."""
    causes = (status.get("details") or {}).get("causes") or []
    distinct = {json.dumps(cause, sort_keys=True): cause for cause in causes}
    if causes and " is invalid: " in status["message"]:
        status["details"]["causes"] = [distinct[key] for key in sorted(distinct)]
        status["message"] = status["message"].partition(" is invalid: ")[0]
    return status


def _rows(rows: list[Any]) -> list[Any]:
    """Table rows, with ages masked."""
    aged = re.compile(r"^(\d+[smhdy])+$|^<unknown>$")
    made = []
    for row in rows:
        if not isinstance(row, dict):
            made.append(row)
            continue
        cells = [re.sub(r"\d+[smhdy](\d+[smhdy])? ago", "<age> ago", _age(cell, aged)) for cell in row.get("cells") or ()]
        if _name_of(row) not in _CONTROLLERS_OWN:
            made.append({"cells": [masked(cell, "name") for cell in cells], "object": masked(row.get("object"))})
    return made


def _age(cell: Any, aged: re.Pattern[str]) -> Any:
    return json.dumps(cell) if not isinstance(cell, str) else "<age>" if aged.match(cell) else cell


def learn(recorded: Any, found: Any, names: dict[str, str]) -> None:
    """Note what the values a recorded answer gave are called in ours: uids, versions, tokens, generated names."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        for key, value in recorded.items():
            if key in {"uid", "resourceVersion", "continue", "name"} and isinstance(value, str) and isinstance(found.get(key), str):
                names[value] = found[key]
            else:
                learn(value, found.get(key), names)
    elif isinstance(recorded, list) and isinstance(found, list):
        for one, other in zip(recorded, found, strict=False):
            learn(one, other, names)


def translated(value: Any, names: Mapping[str, str], key: str = "") -> Any:
    """A recorded request's body in our values."""
    if isinstance(value, dict):
        return {name: translated(each, names, name) for name, each in value.items()}
    if isinstance(value, list):
        return [translated(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) and key in {"uid", "resourceVersion"} else value


def translated_path(path: str, names: Mapping[str, str]) -> str:
    bare, mark, query = path.partition("?")
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    changed = [(key, names.get(value, value) if key in {"resourceVersion", "continue"} else value) for key, value in pairs]
    return bare + (mark + urllib.parse.urlencode(changed, quote_via=urllib.parse.quote) if query else "")


STAND_INS: Mapping[str, tuple[str, Any]] = {
    "cr-ssa": ("application/merge-patch+json", {"spec": {"props": [{"name": "q"}, {"name": "z", "value": "1"}]}}),
}
"""Cases that are not asked as recorded, but whose effect later ones build on: the patch that has it."""
SETTLE_SECONDS = 20.0
WAITS = ("ns2-get", "crd-", "gc", "cr-", "del-")
"""Cases recorded after controllers had had their time."""
TOGETHER = ("watch-rv", "watch-selector")
"""Cases recorded as several writes and the watch that ran meanwhile."""
_RAW = {"create-fv-dupkey": b'{"metadata":{"name":"dk"},"data":{"a":"1","a":"2"}}'}
"""Bodies that the record, being JSON, cannot hold."""


def body_of(case: Case, session: Session) -> bytes | None:
    if case.name in STAND_INS:
        return json.dumps(STAND_INS[case.name][1]).encode()
    if case.name in _RAW:
        return _RAW[case.name]
    body = case.request.get("body")
    if body is None and "body" not in case.request:
        return b"" if case.request["method"] in {"POST", "PUT", "PATCH"} else None
    if isinstance(body, str):
        return body.encode()
    if case.name == "tokenreview":
        body = {"spec": {"token": session.token}}
    return json.dumps(translated(body, session.names)).encode()


async def ask(case: Case, session: Session, client: aiohttp.ClientSession, opened: asyncio.Event | None = None) -> dict[str, Any]:
    """Send a case's request; status, headers and body (or the lines of a watch) of the answer. `opened` is set at the first byte."""
    headers = {key: value for key, value in case.request["headers"].items() if key != "accept-encoding"}
    headers["Accept"] = {"@protobuf": "application/vnd.kubernetes.protobuf,application/json"}.get(
        headers.get("accept", ""), headers.get("accept", "")
    )
    headers.pop("accept", None)
    if case.name in STAND_INS:
        headers["content-type"] = STAND_INS[case.name][0]
    is_sa, is_anonymous = (
        case.name.startswith("403-sa") or case.name == "ssar-sa",
        case.name.startswith("anon-") or case.name == "401-basic",
    )
    if is_sa:
        headers["Authorization"] = f"Bearer {session.token}"
    elif case.name == "401":
        headers["Authorization"] = "Bearer wrong"
    context = session.anonymous if is_sa or is_anonymous or case.name == "401" else session.admin
    url = session.url + translated_path(case.request["path"], session.names)
    skipped = ["Content-Type", "User-Agent", "Accept-Encoding"]
    async with client.request(
        case.request["method"], yarl.URL(url, encoded=True), data=body_of(case, session) or None, headers=headers, ssl=context,
        skip_auto_headers=skipped, timeout=aiohttp.ClientTimeout(total=30),
    ) as response:  # fmt: skip
        if opened is not None:
            opened.set()
        raw = await response.read()
        answer: dict[str, Any] = {
            "status": response.status,
            "headers": {name: response.headers.getall(name) for name in HEADERS if name in response.headers},
        }
        if "stream" in case.response and response.status == 200:
            answer["stream"] = [json.loads(line) for line in raw.splitlines()]
        elif raw:
            answer["body"] = json.loads(raw) if response.content_type == "application/json" else raw.decode("utf-8", "replace")
        return answer


def differences(case: Case, answer: Mapping[str, Any]) -> list[str]:
    wanted = case.response
    found = []
    if wanted["status"] != answer["status"]:
        found.append(f"status {answer['status']} for {wanted['status']}")
    for name in HEADERS:
        recorded = (wanted.get("headers") or {}).get(name)
        values = recorded if isinstance(recorded, list) else [recorded] if recorded is not None else []
        ours = answer["headers"].get(name, [])
        is_usual = name == "content-type" and recorded is None and all(each.startswith("application/json") for each in ours)
        if values != ours and not is_usual:
            found.append(f"{name}: {', '.join(ours) or 'none'} for {', '.join(values) or 'none'}")
    for part in ("body", "stream"):
        if part in wanted and wanted[part] != NOT_COMPARED:
            found += compared(masked(wanted[part]), masked(answer.get(part)), part)
    return found


def compared(wanted: Any, found: Any, path: str) -> list[str]:
    """Where two masked values differ."""
    if wanted == NOT_COMPARED or json.dumps(wanted, sort_keys=True) == json.dumps(found, sort_keys=True):
        return []
    if isinstance(wanted, dict) and isinstance(found, dict):
        parts = []
        for key in [*wanted, *(each for each in found if each not in wanted)]:
            where = f"{path}.{key}"
            if key not in found:
                parts.append(f"{where} is missing")
            elif key not in wanted:
                parts.append(f"{where} is additional")
            else:
                parts += compared(wanted[key], found[key], where)
        return parts
    if isinstance(wanted, list) and isinstance(found, list):
        if wanted and isinstance(wanted[-1], str) and wanted[-1].startswith("<"):  # cut in the record
            wanted = wanted[:-1]
            found = found[: len(wanted)]
        if len(wanted) != len(found):
            return [f"{path} has {len(found)} elements for {len(wanted)}"]
        return [
            each for index, (one, other) in enumerate(zip(wanted, found, strict=True)) for each in compared(one, other, f"{path}[{index}]")
        ]
    return [f"{path}: {json.dumps(found)} for {json.dumps(wanted)}"]


async def replay(first: Session, second: Session) -> list[Outcome]:
    """All cases in the recorded order; what is out of scope is not asked."""
    outcomes = []
    listed = cases()
    async with aiohttp.ClientSession() as client:
        session = first
        for index, case in enumerate(listed):
            if case.name == SECOND:
                session = second
                await prepare(second, client)
            if reason(OUT, case.name):
                if case.name in STAND_INS:
                    await ask(case, session, client)
                outcomes.append(Outcome(case, "out of scope"))
            elif case.name in TOGETHER:
                if case.number == 1:
                    outcomes += await _together([each for each in listed[index:] if each.name == case.name], session, client)
            else:
                outcomes.append(_outcome(case, await _settled(case, session, client), session))
    return outcomes


def _outcome(case: Case, answer: Mapping[str, Any], session: Session) -> Outcome:
    if case.name == "sa-token" and answer["status"] == 201:
        session.token = answer["body"]["status"]["token"]
    learn(case.response.get("body"), answer.get("body"), session.names)
    found = differences(case, answer)
    return Outcome(case, "different" if found else "equal", found)


async def _together(group: Sequence[Case], session: Session, client: aiohttp.ClientSession) -> list[Outcome]:
    *writes, watch = group
    opened = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(ask(watch, session, client, opened))
        await opened.wait()
        outcomes = [_outcome(each, await ask(each, session, client), session) for each in writes]
    return [*outcomes, _outcome(watch, watching.result(), session)]


async def _settled(case: Case, session: Session, client: aiohttp.ClientSession) -> dict[str, Any]:
    """The answer to a request; a GET, or the DELETE of what should be gone, is repeated for a while, because the recorded one came after
    controllers had had their time too."""
    answer = await ask(case, session, client)
    is_harmless = case.request["method"] == "GET" or (case.request["method"] == "DELETE" and case.response["status"] == 404)
    if is_harmless and "stream" not in case.response and case.name.startswith(WAITS):
        deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS
        is_expected = bool(reason(DIFFERENT, case.name))
        while not is_expected and differences(case, answer) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
            answer = await ask(case, session, client)
    return answer


async def prepare(session: Session, client: aiohttp.ClientSession) -> None:
    """The second server's state: a namespace and two ConfigMaps."""
    for path, body in (
        ("/api/v1/namespaces", {"metadata": {"name": "golden"}}),
        ("/api/v1/namespaces/golden/configmaps", {"metadata": {"name": "h1"}, "data": {"a": "1"}}),
        ("/api/v1/namespaces/golden/configmaps", {"metadata": {"name": "h2"}, "data": {"a": "1"}}),
    ):
        async with client.post(session.url + path, json=body, ssl=session.admin) as response:
            assert response.status == 201, await response.text()


def unexplained(outcomes: Sequence[Outcome]) -> list[str]:
    """Differences without a reason, and reasons without a difference."""
    wrong = [
        f"{each.case.name}: {'; '.join(each.found)}"
        for each in outcomes
        if each.verdict == "different" and not reason(DIFFERENT, each.case.name)
    ]
    for pattern in DIFFERENT:
        if not any(each.verdict == "different" and fnmatch.fnmatchcase(each.case.name, pattern) for each in outcomes):
            wrong.append(f"{pattern}: equal now, although a difference is expected")
    return wrong


def document(outcomes: Sequence[Outcome]) -> str:
    counts = {verdict: sum(each.verdict == verdict for each in outcomes) for verdict in ("equal", "different", "out of scope")}
    lines = [
        "# The embedded API beside Kubernetes 1.36",
        "",
        "Made by `python tests/replay/apiserver.py --write`; a test keeps it up to date. Each case is a request that was sent to a real",
        "kube-apiserver 1.36.2 and its answer (tests/vectors/kube-apiserver/http.jsonl), replayed in order against the embedded server.",
        "Status, the headers that clients read, and the whole body are compared; masked are identities, times, versions and ages,",
        "`managedFields`, descriptions, the order of causes (a message that repeats them is compared through them), and what controllers",
        "write into Deployments at moments of their own (status and revision). Null and absent count as the same.",
        "",
        f"{counts['equal']} equal, {counts['different']} different, {counts['out of scope']} out of scope.",
        "",
        "## Different, and why",
        "| case | request | reason |",
        "|---|---|---|",
    ]
    lines += [
        f"| {_label(each.case)} | {_asked(each.case)} | {reason(DIFFERENT, each.case.name)} |"
        for each in outcomes
        if each.verdict == "different"
    ]
    lines += ["", "## Out of scope", "| cases | reason |", "|---|---|"]
    for pattern, why in OUT.items():
        named = list(dict.fromkeys(each.case.name for each in outcomes if reason({pattern: why}, each.case.name)))
        lines.append(f"| {', '.join(named)} | {why} |")
    lines += ["", "## Equal", "| case | request | status |", "|---|---|---|"]
    lines += [
        f"| {_label(each.case)} | {_asked(each.case)} | {each.case.response['status']} |" for each in outcomes if each.verdict == "equal"
    ]
    return "\n".join(lines) + "\n"


def _label(case: Case) -> str:
    return (case.name if case.number == 1 else f"{case.name} ({case.number})").replace("|", "\\|")


def _asked(case: Case) -> str:
    path = case.request["path"]
    return f"{case.request['method']} `{path if len(path) <= 90 else path[:87] + '...'}`".replace("|", "\\|")


def session_of(server: Any) -> Session:
    """Connections to a server of tests/integration/apiserver/conftest.py."""
    return Session(server.url, server.context(), server.context(is_anonymous=True))


@contextlib.contextmanager
def serving() -> Iterator[Session]:
    """A fresh server, started outside pytest."""
    spec = importlib.util.spec_from_file_location("apiserver_conftest", ROOT / "tests" / "integration" / "apiserver" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    with tempfile.TemporaryDirectory() as folder:
        server = module.Server(Path(folder))
        server.start()
        try:
            yield session_of(server)
        finally:
            server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/api-conformance.md")
    arguments = parser.parse_args()
    with serving() as first, serving() as second:
        outcomes = asyncio.run(replay(first, second))
    text = document(outcomes)
    for line in unexplained(outcomes):
        print(line)
    print(next(line for line in text.splitlines() if line.endswith("out of scope.")))
    if arguments.write:
        DOCUMENT.write_text(text)
    return bool(unexplained(outcomes))


if __name__ == "__main__":
    sys.exit(main())
