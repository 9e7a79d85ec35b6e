"""Questions that are asked by creating an object: who is this token, may this user do that, who am I."""

from __future__ import annotations

from pinnace.cloud.standalone.access import ADMINS, Access, Attempt
from pinnace.cloud.standalone.bodies import decode_body
from pinnace.cloud.standalone.negotiation import negotiate, rendered
from pinnace.cloud.standalone.objects import now_text
from pinnace.cloud.standalone.requests import Answer, Request, Target, User
from pinnace.cloud.standalone.state import Object
from pinnace.cloud.standalone.status import bad_request
from pinnace.cloud.standalone.tokens import TokenError, Tokens


class Reviews:
    """Answers TokenReview, SubjectAccessReview and their relatives; nothing is stored."""

    def __init__(self, access: Access, tokens: Tokens) -> None:
        self._access = access
        self._tokens = tokens

    def answer(self, request: Request, target: Target) -> Answer:
        _, as_yaml = negotiate(request)
        kind = target.kind
        body = decode_body(request, kind.kind) if request.body.strip() else {}
        if not isinstance(body, dict):
            raise bad_request(f"the object provided is unrecognized (must be of type {kind.kind})")
        spec = body.get("spec") or {}
        review: Object = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": {}}
        match kind.plural:
            case "tokenreviews":
                review |= {"spec": spec, "status": self._token(spec)}
            case "selfsubjectreviews":
                review |= {"metadata": {"creationTimestamp": now_text()}, "status": {"userInfo": _user_object(request.user)}}
            case "selfsubjectrulesreviews":
                review |= {"spec": spec, "status": self._rules(request.user)}
            case "selfsubjectaccessreviews":
                review |= {"spec": spec, "status": self._allowed(request.user, spec)}
            case _:
                user = User(spec.get("user", ""), (*(spec.get("groups") or ()), "system:authenticated"), spec.get("uid", ""))
                review |= {"spec": spec, "status": self._allowed(user, spec)}
        return rendered(request, review, status=201, as_yaml=as_yaml)

    def _token(self, spec: Object) -> Object:
        try:
            user, audiences = self._tokens.verify(spec.get("token", ""), spec.get("audiences"))
        except TokenError as error:
            return {"user": {}, "error": f"[invalid bearer token, {error}]"}
        return {"authenticated": True, "user": _user_object(user), "audiences": audiences}

    def _allowed(self, user: User, spec: Object) -> Object:
        asked: Object | None = spec.get("resourceAttributes")
        path: Object | None = spec.get("nonResourceAttributes")
        if (asked is None) == (path is None):
            raise bad_request("exactly one of nonResourceAttributes or resourceAttributes must be specified")
        if path is not None:
            attempt = Attempt(path.get("verb", ""), path=path.get("path", ""))
        else:
            asked = asked or {}
            attempt = Attempt(
                asked.get("verb", ""), asked.get("group", ""), asked.get("version", ""), asked.get("resource", ""),
                asked.get("subresource", ""), asked.get("namespace", ""), asked.get("name", ""),
            )  # fmt: skip
        return {"allowed": self._access.allows(user, attempt)}

    def _rules(self, user: User) -> Object:
        """What can be said in the form of rules; for a node that depends on its pods, so the answer is marked incomplete."""
        is_admin = ADMINS in user.groups
        resources = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}] if is_admin else []
        if user.name.startswith("system:serviceaccount:"):
            resources.append({"verbs": ["get", "list", "watch"], "apiGroups": ["*"], "resources": ["*"]})
        paths = [
            {"verbs": ["*"] if is_admin else ["get"], "nonResourceURLs": ["*"] if is_admin else ["/api*", "/apis*", "/healthz", "/version"]}
        ]
        return {"resourceRules": resources, "nonResourceRules": paths, "incomplete": not is_admin}


def _user_object(user: User) -> Object:
    body: Object = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        body["uid"] = user.uid
    if user.extra:
        body["extra"] = dict(user.extra)
    return body
