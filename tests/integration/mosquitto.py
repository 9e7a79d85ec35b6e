"""A real mosquitto on a free loopback port, and a client on paho's own thread to look at it from outside.

    with Mosquitto(tmp_path, username="pi", password="secret") as broker, Probe(broker.url, "watcher") as probe: ...

Both start and wait synchronously (some 20 ms) and end what they started, by its process id.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import queue
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from rig.processes import free_port

DEADLINE = 20.0


def program(name: str = "mosquitto") -> str:
    """The path of one of mosquitto's programs; skips the test where there is none."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@dataclass(frozen=True)
class TestTls:
    """A certificate authority with a certificate for 127.0.0.1 and one for clients, as PEM files in one folder."""

    __test__ = False
    ca: Path
    certificate: Path
    key: Path
    client_certificate: Path
    client_key: Path


def make_tls(folder: Path, *, host: str = "127.0.0.1") -> TestTls:
    """Make the five files in `folder`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    folder.mkdir(parents=True, exist_ok=True)

    def make(name: str, issuer: Any, *, host: str = "") -> tuple[Any, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer[0].subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        )
        signer = issuer[1] if issuer else key
        made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        if issuer is None:
            usage = dict.fromkeys(
                ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
            )
            made = made.add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage), critical=True)
        if host:
            name_or_address = x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
            made = made.add_extension(x509.SubjectAlternativeName([name_or_address]), critical=False)
        certificate = made.sign(signer, hashes.SHA256())
        (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / f"{name}.key").write_bytes(pem)
        return certificate, key

    authority = make("ca", None)
    make("broker", authority, host=host)
    make("client", authority)
    return TestTls(folder / "ca.crt", folder / "broker.crt", folder / "broker.key", folder / "client.crt", folder / "client.key")


class Mosquitto:
    """One mosquitto process. `kill` and `start` again keep its port and, after `stop`, what it persisted.

    `extra` are lines for its configuration. With `tls` it speaks TLS only; with `client_certificates` it also asks for one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        username: str = "",
        password: str = "",
        tls: TestTls | None = None,
        client_certificates: bool = False,
        extra: Iterable[str] = (),
    ) -> None:
        self.folder = folder / "mosquitto"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.host = "127.0.0.1"
        self.port = 0
        self.tls = tls
        self._password = (username, password)
        self._client_certificates = client_certificates
        self._extra = list(extra)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'ssl' if self.tls else 'tcp'}://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start on the port of before, or a free one, and return when it accepts connections."""
        binary = program()
        fixed = self.port
        for _ in range(10):
            self.port = fixed or free_port()
            self._configure()
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen([binary, "-c", str(self.folder / "conf")], stderr=log, stdout=log, cwd=self.folder)
            if self._accepts():
                return
        raise AssertionError(f"mosquitto does not start:\n{self.log}")

    def _configure(self) -> None:
        lines = [
            f"listener {self.port} {self.host}",
            "user root",
            "persistence true",
            f"persistence_location {self.folder}/",
            "set_tcp_nodelay true",
            "max_queued_messages 0",
            "log_type all",
        ]
        username, password = self._password
        if password:
            accounts = self.folder / "accounts"
            accounts.write_text("")
            accounts.chmod(0o600)
            subprocess.run([program("mosquitto_passwd"), "-b", str(accounts), username, password], check=True, capture_output=True)
            lines += ["allow_anonymous false", f"password_file {accounts}"]
        else:
            lines.append("allow_anonymous true")
        if self.tls is not None:
            lines += [f"cafile {self.tls.ca}", f"certfile {self.tls.certificate}", f"keyfile {self.tls.key}"]
            lines.append(f"require_certificate {str(self._client_certificates).lower()}")
        (self.folder / "conf").write_text("\n".join([*lines, *self._extra, ""]))

    def _accepts(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), timeout=1):
                return True
            time.sleep(0.005)
        self.kill()
        return False

    def stop(self) -> None:
        """End it in order: it writes down what must survive."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Probe:
    """An MQTT client on a thread of its own: an observer that shares no code with what is tested but paho's codec.

    `subscribe` returns when the broker has confirmed; `publish` with QoS 1 when the broker has it; `next` gives the next message.
    """

    def __init__(
        self,
        url: str,
        name: str = "",
        *,
        username: str = "",
        password: str = "",
        tls: TestTls | None = None,
        clean: bool = True,
        keepalive: int = 60,
    ) -> None:
        self._keepalive = keepalive
        _, _, rest = url.partition("://")
        host, _, port = rest.partition(":")
        self._address = (host, int(port))
        self._messages: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._connected = threading.Event()
        self._refused = ""
        self._granted: dict[int, threading.Event] = {}
        self.client = client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=clean or not name)
        client.on_connect = self._on_connect
        client.on_message = lambda _client, _userdata, message: self._messages.put((message.topic, bytes(message.payload)))
        client.on_subscribe = lambda _client, _userdata, number, *_: self._granted.setdefault(number, threading.Event()).set()
        client.max_queued_messages_set(0)
        client.max_inflight_messages_set(1000)
        if username:
            client.username_pw_set(username, password)
        if tls is not None:
            context = ssl.create_default_context(cafile=str(tls.ca))
            context.load_cert_chain(tls.client_certificate, tls.client_key)
            client.tls_set_context(context)

    def _on_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._refused = str(reason) if reason.is_failure else ""
        self._connected.set()

    def __enter__(self) -> Self:
        self.client.connect(*self._address, keepalive=self._keepalive)
        self.client.loop_start()
        if not self._connected.wait(DEADLINE) or self._refused:
            self.__exit__()
            raise AssertionError(f"no connection with the broker: {self._refused or 'no answer'}")
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def subscribe(self, *topics: str, qos: int = 1) -> None:
        _, number = self.client.subscribe([(topic, qos) for topic in topics])
        assert number is not None
        assert self._granted.setdefault(number, threading.Event()).wait(DEADLINE), "no SUBACK"

    def publish(self, topic: str, payload: bytes | str, *, qos: int = 1, retain: bool = False, wait: bool = True) -> None:
        info = self.client.publish(topic, payload, qos, retain)
        if wait and qos:
            info.wait_for_publish(DEADLINE)
            assert info.is_published(), "no PUBACK"

    def next(self, timeout_seconds: float = DEADLINE) -> tuple[str, bytes]:
        """The next message. Raises queue.Empty when none comes in time."""
        return self._messages.get(timeout=timeout_seconds)

    def take(self, count: int, timeout_seconds: float = DEADLINE) -> list[tuple[str, bytes]]:
        """The next `count` messages, in order."""
        deadline = time.monotonic() + timeout_seconds
        return [self.next(max(0.001, deadline - time.monotonic())) for _ in range(count)]
