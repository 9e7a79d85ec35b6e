"""Who a container's process is: from the pod, the image, and the image's own /etc/passwd and /etc/group. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pinnace.core.base.runtime import RuntimeFailed

MOST_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class User:
    """Numbers for the kernel; `home` is "" where the image knows none."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str = ""


@dataclass(frozen=True, slots=True)
class Accounts:
    """The texts of an image's /etc/passwd and /etc/group (passwd(5), group(5)); "" where there is no such file."""

    passwd: str = ""
    group: str = ""


def _entries(text: str, fields: int) -> Iterator[list[str]]:
    """Whole lines only: anything may stand in a file of an image."""
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) >= fields and parts[2].isdecimal() and (fields == 4 or parts[3].isdecimal()):
            yield parts


def _number(text: str, what: str) -> int:
    number = int(text)
    if number > MOST_ID:
        raise RuntimeFailed(f"{what} {text} is above {MOST_ID}", reason="CreateContainerError")
    return number


def resolve(image_user: str, run_as_user: int | None, run_as_group: int | None, supplemental: Sequence[int], accounts: Accounts) -> User:
    """`image_user` is user[:group], each a name or a number (OCI image specification, config.md); the pod's numbers win over it.

    Raises RuntimeFailed for a name the image does not know.
    """
    wanted, _, wanted_group = ("", "", "") if run_as_user is not None else image_user.partition(":")
    uid = run_as_user if run_as_user is not None else _number(wanted or "0", "user") if (wanted or "0").isdecimal() else None
    entry = next((each for each in _entries(accounts.passwd, 7) if (each[0] == wanted if uid is None else int(each[2]) == uid)), None)
    if uid is None:
        if entry is None:
            raise RuntimeFailed(f"the image's user {wanted} is not in its /etc/passwd; set runAsUser", reason="CreateContainerError")
        uid = _number(entry[2], "user")
    groups = list(_entries(accounts.group, 4))
    gid = int(entry[3]) if entry is not None else 0
    if wanted_group:
        found = next((int(each[2]) for each in groups if each[0] == wanted_group), None)
        if found is None and not wanted_group.isdecimal():
            raise RuntimeFailed(f"the image's group {wanted_group} is not in its /etc/group; set runAsGroup", reason="CreateContainerError")
        gid = found if found is not None else _number(wanted_group, "group")
    if run_as_group is not None:
        gid = run_as_group
    member = [int(each[2]) for each in groups if entry is not None and entry[0] in each[3].split(",")]
    more = tuple(dict.fromkeys((gid, *member, *supplemental)))
    return User(uid, gid, tuple(each for each in more if each <= MOST_ID), entry[5] if entry is not None else "")
