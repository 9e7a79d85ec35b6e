"""Who a container's process is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.base.runtime import RuntimeFailed
from pinnace.core.pods.oci.users import MOST_ID, Accounts, User, resolve

ACCOUNTS = Accounts(
    "root:x:0:0:root:/root:/bin/sh\nbroken\nodd:x:no:1:::\napp:x:1000:1001:app:/home/app:/bin/sh\nlate:x:1000:7::/late:/bin/sh\n",
    "root:x:0:\napp:x:1001:\nextra:x:2000:app,other\nbroken:x:many:app\nmore:x:2001:other,app\n",
)


@pytest.mark.parametrize(
    ("image", "user", "group", "supplemental", "found"),
    [
        ("", None, None, (), User(0, 0, (0,), "/root")),
        ("app", None, None, (), User(1000, 1001, (1001, 2000, 2001), "/home/app")),
        ("1000", None, None, (), User(1000, 1001, (1001, 2000, 2001), "/home/app")),
        ("4711", None, None, (), User(4711, 0, (0,), "")),
        ("app:extra", None, None, (), User(1000, 2000, (2000, 2001), "/home/app")),
        ("app:42", None, None, (), User(1000, 42, (42, 2000, 2001), "/home/app")),
        ("4711:4712", None, None, (5,), User(4711, 4712, (4712, 5), "")),
        ("app", 0, None, (), User(0, 0, (0,), "/root")),
        ("app:extra", 1000, None, (), User(1000, 1001, (1001, 2000, 2001), "/home/app")),
        ("app", None, 9, (1001, 9), User(1000, 9, (9, 2000, 2001, 1001), "/home/app")),
        ("nobody-knows", 5, 6, (7,), User(5, 6, (6, 7), "")),
    ],
)
def test_rules(image: str, user: int | None, group: int | None, supplemental: tuple[int, ...], found: User) -> None:
    assert resolve(image, user, group, supplemental, ACCOUNTS) == found


@pytest.mark.parametrize(
    ("image", "said"), [("nobody", "runAsUser"), ("app:nothing", "runAsGroup"), ("odd", "runAsUser"), (str(MOST_ID + 1), "above")]
)
def test_names_that_are_not_there(image: str, said: str) -> None:
    with pytest.raises(RuntimeFailed, match=said) as caught:
        resolve(image, None, None, (), ACCOUNTS)
    assert caught.value.reason == "CreateContainerError"


@given(st.text(), st.text(), st.text(alphabet="ap0:1x9", max_size=12))
def test_any_files_give_a_user_or_a_clear_no(passwd: str, group: str, image: str) -> None:
    try:
        found = resolve(image, None, None, (), Accounts(passwd, group))
    except RuntimeFailed:
        return
    assert found.uid >= 0
    assert all(0 <= each <= MOST_ID for each in found.groups)
