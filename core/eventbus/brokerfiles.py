"""The folder of our own broker: its configuration, the password it asks for, and where it may write."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import pwd
import secrets
import stat
from pathlib import Path
from typing import Final, NamedTuple

from pinnace.core.eventbus.settings import BrokerAddress

MIN_QUEUED: Final = 10_000
MAX_QUEUED_BYTES: Final = 16 << 20
MAX_MESSAGE: Final = 8 << 20
_HASH_ROUNDS: Final = 101
_SALT_BYTES: Final = 12


class Account(NamedTuple):
    """Whom the broker runs as when we are root."""

    name: str
    uid: int
    gid: int


def own_account() -> Account | None:
    """The first account of mosquitto and nobody that exists; None when we are not root and cannot choose."""
    if os.geteuid() != 0:
        return None
    for name in ("mosquitto", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    return None


def password_line(username: str, password: str, salt: bytes) -> str:
    """A line of mosquitto's password file (PBKDF2 with SHA-512, as mosquitto_passwd 2.0 writes it)."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _HASH_ROUNDS)
    return f"{username}:$7${_HASH_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


def configuration(address: BrokerAddress, *, guarded: bool, queue_size: int, verbose: bool) -> str:
    """mosquitto.conf; every path is relative to the folder the child runs in. `guarded` asks clients for the password."""
    lines = [
        f"listener {address.port} {address.host}",
        f"allow_anonymous {str(not guarded).lower()}",
        *(["password_file passwords"] if guarded else []),
        "set_tcp_nodelay true",
        "persistence true",
        "persistence_location ./data/",
        "autosave_interval 300",
        "max_inflight_messages 1000",
        f"max_queued_messages {max(queue_size, MIN_QUEUED)}",
        f"max_queued_bytes {MAX_QUEUED_BYTES}",
        f"message_size_limit {MAX_MESSAGE}",
        "log_dest stderr",
        "log_timestamp false",
        "log_type error",
        "log_type warning",
        "log_type information",
        *(["log_type notice"] if verbose else []),
        f"connection_messages {str(verbose).lower()}",
    ]
    return "\n".join([*lines, ""])


class BrokerFiles:
    """The files: ours, readable by the child's group; only the folder `data` belongs to the child. What is right already is not written,
    so that a broker starts on a full disk as well.
    """

    def __init__(self, folder: Path, account: Account | None) -> None:
        self._folder = folder
        self._account = account

    def write(self, address: BrokerAddress, username: str, password: str, *, queue_size: int, verbose: bool) -> None:
        """Bring the folder up to date. Raises OSError."""
        account, data = self._account, self._folder / "data"
        self._folder.mkdir(parents=True, exist_ok=True)
        data.mkdir(exist_ok=True)
        _own(self._folder, 0o750, None if account is None else account._replace(uid=0))
        _own(data, 0o700, account)
        guarded = bool(username and password)
        if guarded:
            passwords = self._folder / "passwords"
            salt = _salt(passwords) or secrets.token_bytes(_SALT_BYTES)
            self._write_file(passwords, password_line(username, password, salt))
        text = configuration(address, guarded=guarded, queue_size=queue_size, verbose=verbose)
        self._write_file(self._folder / "mosquitto.conf", text)

    def _write_file(self, path: Path, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            if path.read_text() == text:
                return
        fresh = path.with_name(f".{path.name}")
        fresh.unlink(missing_ok=True)
        number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(number, "w") as file:
            if self._account is not None:
                os.fchown(number, -1, self._account.gid)
            os.fchmod(number, 0o640)
            file.write(text)
        fresh.replace(path)


def _own(folder: Path, mode: int, account: Account | None) -> None:
    found = folder.stat()
    if stat.S_IMODE(found.st_mode) != mode:
        folder.chmod(mode)
    if account is not None and (found.st_uid, found.st_gid) != (account.uid, account.gid):
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)


def _salt(passwords: Path) -> bytes:
    """The salt of the file that is there; b"" when there is none of ours."""
    try:
        salt = base64.b64decode(passwords.read_text().split("$")[3])
    except (OSError, ValueError, IndexError):
        return b""
    return salt if len(salt) == _SALT_BYTES else b""
