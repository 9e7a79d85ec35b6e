"""Who asks: a client certificate, a service-account token, or nobody; and whom an administrator speaks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pinnace.cloud.standalone.access import ADMINS
from pinnace.cloud.standalone.requests import ANONYMOUS, User
from pinnace.cloud.standalone.status import ApiError, details_of
from pinnace.cloud.standalone.tokens import TokenError, Tokens


class Peer(NamedTuple):
    """The names in a verified client certificate: CN and the Os; both empty without one."""

    common_name: str = ""
    organizations: tuple[str, ...] = ()


def authenticate(peer: Peer, headers: Mapping[str, str], tokens: Tokens) -> User:
    """The user of a request. A bad token is 401; no credential at all is the anonymous user."""
    user = ANONYMOUS
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if peer.common_name:
        user = User(peer.common_name, (*peer.organizations, "system:authenticated"))
    elif scheme.lower() == "bearer" and token.strip():
        try:
            user, _ = tokens.verify(token.strip())
        except TokenError as error:
            raise ApiError(401, "Unauthorized") from error
    if "impersonate-user" in headers or "impersonate-group" in headers:
        return _impersonated(user, headers)
    return user


def _impersonated(user: User, headers: Mapping[str, str]) -> User:
    name = headers.get("impersonate-user", "")
    if not name:
        raise ApiError(400, "requested [{Group  ...}] without impersonating a user", reason="BadRequest")
    if ADMINS not in user.groups:
        message = (
            f'users "{name}" is forbidden: User "{user.name}" cannot impersonate resource "users" in API group "" at the cluster scope'
        )
        raise ApiError(403, message, details=details_of(name, "", "users"))
    groups = tuple(group for group in headers.get("impersonate-group", "").split("\n") if group)
    if name.startswith("system:serviceaccount:") and not groups:
        namespace = name.split(":")[2]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return User(name, (*groups, "system:authenticated"))
