"""The real docker-registry on a free port of loopback: open, with passwords, with tokens, with TLS; and a pusher of built images.

with Registry(tmp_path, users={"pi": "secret"}) as registry:
    registry.push("library/busybox:1", image)      # or [image for each platform]
    registry.host                                  # 127.0.0.1:40123
"""

from __future__ import annotations

import base64
import ctypes
import ctypes.util
import http.server
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from integration.mosquitto import TestTls, make_tls

from pinnace.core.base.imagefiles import Blob, BuiltImage, index_of
from rig.processes import free_port

DEADLINE = 20.0


def bcrypt(password: str) -> str:
    """A hash for an htpasswd file, made by the C library's crypt."""
    library = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    hashed = library.crypt(password.encode(), b"$2y$04$" + base64.b64encode(os.urandom(18), b"./")[:22].replace(b"=", b"."))
    assert hashed, "this machine's crypt knows no bcrypt"
    return bytes(hashed).decode()


@dataclass
class TokenServer:
    """Gives out bearer tokens as the docker registry's token specification says: to users with their password (basic authentication, or an
    identity token by POST), and to anybody what is in `public`. `granted` counts the tokens."""

    users: Mapping[str, str] = field(default_factory=dict)
    public: frozenset[str] = frozenset()
    """Repositories that may be pulled without a password."""
    identity_token: str = "identity"
    granted: int = 0
    tls: TestTls | None = None
    key: Any = None
    certificate: Any = None
    _server: http.server.ThreadingHTTPServer | None = None

    def start(self, folder: Path) -> Path:
        """Serve on a thread; gives the file with the certificate that a registry trusts."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.x509 import load_pem_x509_certificate

        signing = make_tls(folder / "token")
        self.key = serialization.load_pem_private_key(signing.key.read_bytes(), None)
        self.certificate = load_pem_x509_certificate(signing.certificate.read_bytes())
        outer = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                self._answer(outer.check_basic(self.headers.get("Authorization", "")), query)

            def do_POST(self) -> None:
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                is_known = form.get("grant_type") == ["refresh_token"] and form.get("refresh_token") == [outer.identity_token]
                self._answer("identity" if is_known else None, form)

            def _answer(self, user: str | None, query: Mapping[str, list[str]]) -> None:
                body, status = b'{"details":"unauthorized"}', 401
                if user is not None:
                    token = outer.token(user, query.get("service", [""])[0], query.get("scope", []))
                    outer.granted += 1
                    body, status = json.dumps({"token": token, "access_token": token, "expires_in": 300}).encode(), 200
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return signing.ca

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_port}/token"

    def check_basic(self, header: str) -> str | None:
        """The user ("" is anybody), or None for a wrong password."""
        if not header:
            return ""
        user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        return user if self.users.get(user) == password else None

    def token(self, user: str, service: str, scopes: Sequence[str]) -> str:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, utils

        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            allowed = actions.split(",") if user else [each for each in actions.split(",") if each == "pull" and name in self.public]
            access.append({"type": kind, "name": name, "actions": allowed})
        now = int(time.time())
        chain = [base64.b64encode(self.certificate.public_bytes(serialization.Encoding.DER)).decode()]
        parts = [
            {"typ": "JWT", "alg": "ES256", "x5c": chain},
            {
                "iss": "rig",
                "sub": user,
                "aud": service,
                "exp": now + 300,
                "nbf": now - 10,
                "iat": now,
                "jti": str(self.granted),
                "access": access,
            },
        ]
        text = b".".join(_url64(json.dumps(each).encode()) for each in parts)
        r, s = utils.decode_dss_signature(self.key.sign(text, ec.ECDSA(hashes.SHA256())))
        return (text + b"." + _url64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()


def _url64(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


class Registry:
    """Starts in `with`; `requests` are the lines of its access log so far."""

    def __init__(
        self, folder: Path, *, users: Mapping[str, str] | None = None, tokens: TokenServer | None = None, tls: TestTls | None = None
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.tls = tls
        self._users = dict(users or {})
        self._tokens = tokens
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}"

    @property
    def log(self) -> Path:
        return self.folder / "registry.log"

    def gets(self, part: str) -> int:
        """How many GET requests for an address with `part` in it were answered with content."""
        lines = self.log.read_text(errors="replace").splitlines()
        return sum(1 for line in lines if '"GET ' in line and part in line and ('" 200 ' in line or '" 206 ' in line))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._tokens is not None:
            self._tokens.stop()

    def start(self) -> None:
        program = shutil.which("docker-registry")
        if program is None:
            pytest.skip("docker-registry is not installed")
        config = self.folder / "config.yml"
        config.write_text(json.dumps(self._config()))  # JSON is YAML
        with self.log.open("ab") as out:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
            self._process = subprocess.Popen(
                [program, "serve", str(config)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment
            )
        deadline = time.monotonic() + DEADLINE
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(DEADLINE)

    def _config(self) -> dict[str, Any]:
        http_section: dict[str, Any] = {"addr": f"127.0.0.1:{self.port}", "secret": "rig"}
        if self.tls is not None:
            http_section["tls"] = {"certificate": str(self.tls.certificate), "key": str(self.tls.key)}
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "storage")}, "delete": {"enabled": True}},
            "http": http_section,
        }
        if self._tokens is not None:
            bundle = self._tokens.start(self.folder)
            config["auth"] = {"token": {"realm": self._tokens.url, "service": "rig", "issuer": "rig", "rootcertbundle": str(bundle)}}
        elif self._users:
            passwords = self.folder / "htpasswd"
            passwords.write_text("".join(f"{name}:{bcrypt(password)}\n" for name, password in self._users.items()))
            config["auth"] = {"htpasswd": {"realm": "rig", "path": str(passwords)}}
        return config

    def push(self, name: str, images: BuiltImage | Sequence[BuiltImage]) -> str:
        """Push under `repository:tag`; several images make an index. Gives the digest of what the tag names."""
        repository, _, tag = name.rpartition(":")
        variants = [images] if isinstance(images, BuiltImage) else list(images)
        for image in variants:
            for blob in image.blobs:
                self._push_blob(repository, blob)
            self._ask(
                "PUT", f"/v2/{repository}/manifests/{image.manifest.digest}", image.manifest.read(), image.manifest.media_type, repository
            )
        root = variants[0].manifest if isinstance(images, BuiltImage) else index_of(variants)
        self._ask("PUT", f"/v2/{repository}/manifests/{tag}", root.read(), root.media_type, repository)
        return root.digest

    def put_manifest(self, name: str, content: bytes, media_type: str) -> None:
        repository, _, tag = name.rpartition(":")
        self._ask("PUT", f"/v2/{repository}/manifests/{tag}", content, media_type, repository)

    def stored(self, blob: Blob) -> Path:
        """The file in which the registry keeps a blob, for tests that damage it."""
        digest = blob.digest.removeprefix("sha256:")
        return self.folder / "storage/docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"

    def _push_blob(self, repository: str, blob: Blob) -> None:
        answer = self._ask("POST", f"/v2/{repository}/blobs/uploads/", b"", "application/octet-stream", repository)
        location = answer.headers["Location"]
        path = location if location.startswith("/") else "/" + location.split("/", 3)[3]
        mark = "&" if "?" in path else "?"
        self._ask("PUT", f"{path}{mark}digest={blob.digest}", blob.read(), "application/octet-stream", repository)

    def _ask(self, method: str, path: str, body: bytes, media_type: str, repository: str) -> Any:
        request = urllib.request.Request(self.url + path, data=body, method=method, headers={"Content-Type": media_type})
        if self._tokens is not None:
            token = self._tokens.token("rig", "rig", [f"repository:{repository}:push,pull"])
            request.add_header("Authorization", f"Bearer {token}")
        elif self._users:
            user, password = next(iter(self._users.items()))
            request.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
        context = ssl.create_default_context(cafile=str(self.tls.ca)) if self.tls else None
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if context is not None:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        with urllib.request.build_opener(*handlers).open(request, timeout=DEADLINE) as answer:
            answer.read()
            return answer
