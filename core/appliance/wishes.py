"""pinnace.yaml, the file on the boot partition that says what a board is to become: read and checked, all faults at once."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pinnace.core.base.contract.keys import NODE_NAME

LIMIT: Final = 64 << 10
"""Bytes that the file may have."""
HOST_NAME: Final = 64
"""Characters of a machine's name (Linux, sethostname(2))."""
WIRINGPI: Final = frozenset({*range(17), *range(21, 32)})
"""wiringPi's numbers of the pins on the 40-pin header."""


class Fault(NamedTuple):
    """What is wrong with a line (from 1; 0: with the file), and what to write instead."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


@dataclass(frozen=True, slots=True)
class Wifi:
    country: str
    name: str
    password: str = field(repr=False)
    """"" for an open network."""


@dataclass(frozen=True, slots=True)
class Lamps:
    """The mapper for pins, run by the board itself. `pins` by wiringPi's numbers."""

    device: str
    pins: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Ports:
    hub: int = 10000
    bootstrap: int = 10002
    tunnel: int = 10004


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a board is to become. `node` is "" where the board's own name will do."""

    cloud: str
    token: str = field(repr=False)
    node: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    wifi: Wifi | None = None
    ssh_key: str = ""
    timeserver: str = ""
    gpio: Lamps | None = None
    ports: Ports = Ports()


def read(raw: bytes, *, needs_token: bool = True) -> tuple[Wishes | None, list[Fault]]:
    """The wishes and no faults, or None and at least one. Without `needs_token`, for a board that has joined, none is one too few."""
    text, fault = _text(raw)
    if fault:
        return None, [fault]
    reader = _Reader(needs_token=needs_token)
    try:
        wishes = reader.wishes(_composed(text))
    except _Unreadable as error:
        return None, [error.fault]
    return (None, sorted(reader.faults)) if reader.faults else (wishes, [])


class _Unreadable(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


def _text(raw: bytes) -> tuple[str, Fault | None]:
    if len(raw) > LIMIT:
        return "", Fault(0, f"the file has {len(raw)} bytes; expected a few lines")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "", Fault(0, 'the file is UTF-16 ("Unicode" in some editors); save it as UTF-8 text')
    if b"\0" in raw:
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        return "", Fault(
            line, "the file is damaged from here: it was not written to its end; write it again and eject the card before taking it out"
        )
    try:
        return raw.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return "", Fault(line, "a character that is no UTF-8; save the file as UTF-8 text")


def _composed(text: str) -> Any:
    import yaml

    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        is_key = error.context == "while scanning a simple key"  # where it began is where the colon is missing
        mark = error.context_mark if is_key else error.problem_mark
        line = mark.line + 1 if mark else 0
        lines = text.splitlines()
        shown = lines[line - 1] if 0 < line <= len(lines) else ""
        raise _Unreadable(Fault(line, _advice(str(error.problem), shown))) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise _Unreadable(Fault(0, f"the file cannot be read ({error}); write it again, beginning with the one of the image")) from error


def _advice(problem: str, line: str) -> str:
    """Nothing of the line is repeated but the name it begins with: a token or password may follow, or be all of it."""
    if "\t" in line:
        return "a tab; indent with blanks"
    if "found unexpected end of stream" in problem or "while scanning a quoted" in problem:
        return 'a quotation mark that is not closed; write "..." on one line'
    if line.strip() and ":" not in line:
        name = line.split(maxsplit=1)[0]
        return f"expected NAME: VALUE{f', {name}: VALUE' * (name in _NAMES)}; is a colon missing, or was the file not written to its end?"
    reason = re.sub(r" '[^']{2,}'", "", problem)  # may be a part of a value
    return (
        f"cannot be understood ({reason}); expected NAME: VALUE with a blank behind the colon, "
        "and values with ':', '#', '*' or '&' in quotation marks"
    )


def _shown(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_TOKEN = re.compile(r"[0-9A-Fa-f]{64}(\.[A-Za-z0-9_-]+){3}")
_LABEL_NAME = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")
_TOP: Final = frozenset({"cloud", "token", "node", "labels", "wifi", "ssh-key", "timeserver", "gpio", "ports"})
_WIFI: Final = frozenset({"country", "name", "password"})
_GPIO: Final = frozenset({"device", "pins"})
_PORTS: Final = frozenset({"hub", "bootstrap", "tunnel"})
_NAMES: Final = _TOP | _WIFI | _GPIO | _PORTS
_KEY_KINDS: Final = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
)


class _Reader:
    """Walks the composed YAML. Scalars are taken as they stand in the file, so that a password 0123 or a name `off` is just that."""

    def __init__(self, *, needs_token: bool) -> None:
        self._needs_token = needs_token
        self.faults: list[Fault] = []

    def wishes(self, root: Any) -> Wishes | None:
        top = dict(self._entries(root, "the file", _TOP))
        cloud = self._host(
            top, "cloud", "HOST, an address or a name, or HOST:PORT; `pinnace up --advertise ADDRESS` on that machine shows it", port=True
        )
        token = self._scalar(top, "token")
        if not token:
            if self._needs_token:
                self._fault(top.get("token"), "token: nothing is written here; `pinnace gettoken` in the cloud prints it")
        elif not _TOKEN.fullmatch(token):
            self._fault(
                top.get("token"),
                "token: expected four parts joined by dots, the first of 64 characters; copy all of what `pinnace gettoken` prints",
            )
        node = self._scalar(top, "node")
        if node and not NODE_NAME.fullmatch(node):
            self._fault(top.get("node"), f"node: expected lower-case letters, digits, '-' and '.', not '{_shown(node)}'")
        elif len(node) > HOST_NAME:
            self._fault(top.get("node"), f"node: expected at most {HOST_NAME} characters, not {len(node)}: it is the board's host name too")
        return Wishes(
            cloud=cloud,
            token=token,
            node=node,
            labels=self._labels(top.get("labels")),
            wifi=self._wifi(top.get("wifi")),
            ssh_key=self._ssh_key(top),
            timeserver=self._host(top, "timeserver", "a server's address or name") if self._scalar(top, "timeserver") else "",
            gpio=self._lamps(top.get("gpio")),
            ports=self._ports(top.get("ports")),
        )

    def _fault(self, node: Any, text: str) -> None:
        self.faults.append(Fault(node.start_mark.line + 1 if node is not None else 0, text))

    def _entries(self, node: Any, name: str, known: frozenset[str] | None = None) -> Iterator[tuple[str, Any]]:
        """The entries of a section, once each. An empty section has none."""
        if node is None or (_is_scalar(node) and not node.value.strip("~")):
            return
        if type(node).__name__ != "MappingNode":
            self._fault(node, f"{name}: expected lines NAME: VALUE" + ("" if name == "the file" else ", indented by two blanks"))
            return
        seen: set[str] = set()
        for key, value in node.value:
            if not _is_scalar(key):
                self._fault(key, f"{name}: expected NAME: VALUE")
            elif known is not None and key.value not in known:
                self._fault(key, f"'{_shown(key.value)}' is not known here; expected {', '.join(sorted(known))}{_near(key.value, known)}")
            elif key.value in seen:
                self._fault(key, f"{key.value}: stands here a second time; keep one")
            else:
                seen.add(key.value)
                yield key.value, value

    def _scalar(self, section: Mapping[str, Any], name: str) -> str:
        """As it stands in the file, "" where there is nothing."""
        node = section.get(name)
        if node is None:
            return ""
        if not _is_scalar(node):
            self._fault(node, f"{name}: expected one value on the same line")
            return ""
        return "" if node.style is None and node.value == "~" else str(node.value).strip()

    def _host(self, section: Mapping[str, Any], name: str, expected: str, *, port: bool = False) -> str:
        value = self._scalar(section, name)
        host, separator, number = (value, "", "")
        if port and re.search(r":[^:\]]*$", value) and (value.startswith("[") or value.count(":") == 1):
            host, separator, number = value.rpartition(":")
        if not value:
            self._fault(section.get(name), f"{name}: nothing is written here; expected {expected}")
        elif not _HOST.fullmatch(host) or (separator and not _is_port(number)):
            self._fault(section.get(name), f"{name}: expected {expected}, not '{_shown(value)}'")
        return value

    def _labels(self, node: Any) -> dict[str, str]:
        labels = {}
        for name, value in self._entries(node, "labels"):
            text = self._scalar({name: value}, name)
            if not _LABEL_NAME.fullmatch(name):
                self._fault(
                    value,
                    f"labels: '{_shown(name)}' is no label; expected letters, digits, '-', '_', '.', with a prefix and '/' before if any",
                )
            elif not _LABEL_VALUE.fullmatch(text):
                self._fault(value, f"labels: {name}: expected at most 63 letters, digits, '-', '_' and '.', not '{_shown(text)}'")
            labels[name] = text
        return labels

    def _wifi(self, node: Any) -> Wifi | None:
        section = dict(self._entries(node, "wifi", _WIFI))
        if not section:
            return None
        country, name, password = (self._scalar(section, each) for each in ("country", "name", "password"))
        if not re.fullmatch(r"[A-Z]{2}", country):
            self._fault(
                section.get("country", node), "wifi: country: expected the two capital letters of the country where the board is, DE say"
            )
        if not 1 <= len(name.encode()) <= 32:
            self._fault(section.get("name", node), "wifi: name: expected the network's name, at most 32 bytes")
        if password and not (8 <= len(password.encode()) <= 63 and password.isprintable()):
            self._fault(section.get("password", node), "wifi: password: expected 8 to 63 characters; leave it empty for an open network")
        return Wifi(country, name, password)

    def _ssh_key(self, top: Mapping[str, Any]) -> str:
        key = self._scalar(top, "ssh-key")
        words = key.split()
        if key and (len(words) < 2 or words[0] not in _KEY_KINDS or not re.fullmatch(r"[A-Za-z0-9+/]{40,}={0,2}", words[1])):
            private = "; this is a private key, which must stay where it is: take the file that ends in .pub" if "PRIVATE" in key else ""
            self._fault(top.get("ssh-key"), f"ssh-key: expected a public key, one line that begins with ssh-ed25519 or ssh-rsa{private}")
        return key

    def _lamps(self, node: Any) -> Lamps | None:
        section = dict(self._entries(node, "gpio", _GPIO))
        if not section:
            return None
        device = self._scalar(section, "device")
        if not _WORD.fullmatch(device):
            self._fault(section.get("device", node), "gpio: device: expected the name of the Device, traffic-light-instance-01 say")
        pins: dict[str, int] = {}
        known = len(self.faults)
        for name, value in self._entries(section.get("pins"), "gpio: pins"):
            text = self._scalar({name: value}, name)
            number = int(text) if re.fullmatch(r"[0-9]{1,2}", text) else -1
            if number not in WIRINGPI or not _WORD.fullmatch(name):
                self._fault(
                    value,
                    "gpio: pins: expected LAMP: NUMBER with a number of wiringPi, 0 to 16 or 21 to 31, "
                    f"not '{_shown(name)}: {_shown(text)}'",
                )
            elif number in pins.values():
                self._fault(value, f"gpio: pins: {name}: another lamp is on pin {number} already")
            else:
                pins[name] = number
        if not pins and len(self.faults) == known:
            self._fault(section.get("pins", node), "gpio: pins: expected lines LAMP: NUMBER")
        return Lamps(device, pins)

    def _ports(self, node: Any) -> Ports:
        given = {}
        for name, value in self._entries(node, "ports", _PORTS):
            number = self._scalar({name: value}, name)
            if _is_port(number):
                given[name] = int(number)
            else:
                self._fault(value, f"ports: {name}: expected a number from 1 to 65535, not '{_shown(number)}'")
        return Ports(**given)


def _is_scalar(node: Any) -> bool:
    return type(node).__name__ == "ScalarNode"


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text[:6]) <= 65535


def _near(word: str, known: frozenset[str]) -> str:
    same: Callable[[str], str] = lambda text: re.sub(r"[^a-z]", "", text.lower())  # noqa: E731
    found = [each for each in known if same(each) == same(word) or (len(word) > 3 and same(each).startswith(same(word)[:4]))]
    return f"; did you mean {found[0]}?" if found else ""
