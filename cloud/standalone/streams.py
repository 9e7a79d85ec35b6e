"""pods/log, exec, attach and portforward: checked here, answered by the pod's node (Kubernetes API, PodLogOptions, PodExecOptions)."""

from __future__ import annotations

from pinnace.cloud.standalone.kubelets import Answered, Kubelets
from pinnace.cloud.standalone.reading import Reading
from pinnace.cloud.standalone.requests import Answer, Request, Target
from pinnace.cloud.standalone.state import Object
from pinnace.cloud.standalone.status import ApiError, bad_request, internal, not_found
from pinnace.core.base.tunnel.heads import encode

_TEXT = "text/plain"
_PARTS = ("containers", "initContainers", "ephemeralContainers")
_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
_LOG_ARGUMENTS = ("follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream")
_KUBELETS_NAMES = {"stdin": "input", "stdout": "output", "stderr": "error"}
_PATHS = {"exec": "exec", "attach": "attach", "portforward": "portForward"}
_PASSED_ON = frozenset({"connection", "upgrade", "x-stream-protocol-version"})


class Streams:
    """Answers that come from nodes."""

    def __init__(self, reading: Reading, kubelets: Kubelets) -> None:
        self._reading = reading
        self._kubelets = kubelets

    async def log(self, request: Request, target: Target) -> Answer:
        """204 while the pod has no node."""
        pod = self._reading.item(target).decode()
        container = container_of(pod, request.query.get("container", ""))
        node = pod["spec"].get("nodeName")
        if not node:
            return Answer(204, content_type=_TEXT)
        arguments = tuple((name, request.query[name]) for name in _LOG_ARGUMENTS if request.query.get(name))
        answered = await self._kubelets.ask(node, f"/containerLogs/{target.scope}/{target.name}/{container}", arguments)
        if answered.head.status != 200:
            raise await _as_error(answered)
        return Answer(200, content_type=_TEXT, stream=answered, is_patient=True)

    async def upgraded(self, request: Request, target: Target, what: str) -> Answer:
        """exec, attach and portforward: the client's own upgrade is passed on to the node."""
        pod = self._reading.item(target).decode()
        node = pod["spec"].get("nodeName")
        if not node:
            raise bad_request(f"pod {target.name} does not have a host assigned")
        path = f"/{_PATHS[what]}/{target.scope}/{target.name}"
        if what == "portforward":
            arguments = request.arguments
        else:
            path += f"/{container_of(pod, request.query.get('container', ''))}"
            arguments = tuple(
                (_KUBELETS_NAMES.get(name, name), value) for name, value in request.arguments if name != "container"
            )  # fmt: skip
        headers = tuple(
            (name, value) for name, value in request.raw_headers
            if name.lower() in _PASSED_ON or name.lower().startswith("sec-websocket-")
        )  # fmt: skip
        answered = await self._kubelets.ask(node, path, arguments, method=request.method, headers=headers)
        if answered.head.status != 101:
            raise await _as_error(answered)
        return Answer(101, encode(answered.head), upgraded=answered.duplex)


def container_of(pod: Object, wanted: str) -> str:
    """The container a request is about. Raises 400 in the API's words."""
    spec = pod.get("spec", {})
    names = [each["name"] for part in _PARTS for each in spec.get(part) or ()]
    name = pod["metadata"]["name"]
    if wanted:
        if wanted not in names:
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    chosen = (pod["metadata"].get("annotations") or {}).get(_DEFAULT_CONTAINER, "")
    if chosen in names:
        return str(chosen)
    plain = [each["name"] for each in spec.get("containers") or ()]
    if len(plain) == 1:
        return str(plain[0])
    inits = [each["name"] for each in spec.get("initContainers") or ()]
    choice = f"[{' '.join(plain)}]" + (f" or one of the init containers: [{' '.join(inits)}]" if inits else "")
    raise bad_request(f"a container name must be specified for pod {name}, choose one of: {choice}")


async def _as_error(answered: Answered) -> ApiError:
    """What the node, or cloudcore in front of it, refused, as the API says it."""
    status = answered.head.status
    text = (await answered.text()).decode(errors="replace").strip() or f"the node answered {status}"
    match status:
        case 400:
            return bad_request(text)
        case 404:
            error = not_found("", "pods", "")
            error.message, error.args = text, (text,)
            return error
        case 401 | 403:
            return internal(f"cloudcore refuses this server: {text}")
        case 422:
            return ApiError(422, text)
        case 501:
            return ApiError(501, text, reason="NotImplemented")
        case 502 | 503:
            return ApiError(503, text, reason="ServiceUnavailable")
        case _:
            return internal(text)
