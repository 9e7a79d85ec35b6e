"""What cannot be looked at is told as that, never as a fault of the machine's."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from fakes.machine import machine

from pinnace.core.base.errors import ConfigError
from pinnace.core.doctor.examination import examine
from pinnace.core.doctor.finding import Level
from pinnace.core.hub import openssl

FILES = {"/etc/kubeedge/ca/rootCA.crt": "", "/etc/kubeedge/certs/server.crt": "", "/etc/kubeedge/certs/server.key": ""}
NOBODY = 65534


@pytest.mark.root
@pytest.mark.parametrize("secret", ["server.crt", "server.key"])
def test_who_is_not_root_is_not_told_to_join_again(secret: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which nobody else may enter
        subject, certs = machine(Path(folder), FILES), Path(folder, "etc/kubeedge/certs")
        Path(folder).chmod(0o755)
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x"]
        subprocess.run([*command, "-keyout", certs / "server.key", "-out", certs / "server.crt"], check=True, capture_output=True)
        for each in certs.iterdir():
            each.chmod(0o600 if each.name == secret else 0o644)
        assert Level.UNKNOWN not in {each.level for each in examine(subject, ["certificate"])}  # nor does nobody import anything below
        os.seteuid(NOBODY)
        try:
            (found,) = examine(subject, ["certificate"])
        finally:
            os.seteuid(0)
    assert (found.level, found.remedy) == (Level.UNKNOWN, "sudo pinnace doctor")


def test_without_openssl_the_certificate_is_not_to_blame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def missing(_: bytes) -> openssl.Facts:
        raise ConfigError("the openssl program cannot be run; install the package openssl")

    monkeypatch.setattr(openssl, "look", missing)
    (found,) = examine(machine(tmp_path, FILES), ["certificate"])
    assert found.level is Level.UNKNOWN
    assert "install the package openssl" in found.text
