"""What a board's wishes mean in files: names and contents, pure; the programs that read them are the image's (packaging/image/files)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from pinnace.core.appliance.wishes import Wifi, Wishes

HOSTNAME: Final = PurePosixPath("etc/hostname")
WIFI: Final = PurePosixPath("etc/wpa_supplicant.conf")
SSH: Final = PurePosixPath("etc/ssh/authorized_keys")
TIMESERVER: Final = PurePosixPath("etc/timesyncd.conf")
GPIO: Final = PurePosixPath("etc/pinnace-gpio.env")

UNITS: Final[Mapping[PurePosixPath, str]] = {
    WIFI: "wpa_supplicant@wlan0.service",
    TIMESERVER: "systemd-timesyncd.service",
    GPIO: "pinnace-mapper-gpio.service",
}
"""The unit that reads a file; units that start later than this need no word."""


class Kept(NamedTuple):
    content: str
    mode: int = 0o644


def files(wishes: Wishes, name: str) -> dict[PurePosixPath, Kept | None]:
    """Below the data partition: what to keep, or None for what must not be there. `name` is the board's."""
    return {
        HOSTNAME: Kept(f"{name}\n"),
        WIFI: Kept(supplicant(wishes.wifi), 0o600) if wishes.wifi else None,
        SSH: Kept(f"{wishes.ssh_key}\n", 0o600) if wishes.ssh_key else None,
        TIMESERVER: Kept(f"[Time]\nNTP={wishes.timeserver}\n") if wishes.timeserver else None,
        GPIO: Kept(_lamps(wishes)) if wishes.gpio else None,
    }


def board_name(wishes: Wishes, serial: str, machine_id: str) -> str:
    """The node's name: as wished, else after the board's serial number, else after the card's machine id."""
    return wishes.node or f"pinnace-{(serial or machine_id).strip().lower()[-8:]}"


def supplicant(wifi: Wifi) -> str:
    """wpa_supplicant.conf(5). Names and passwords in hexadecimal or quotation marks, which its parser takes literally to the last one."""
    secret = (
        f'psk="{wifi.password}"\n\tkey_mgmt=WPA-PSK SAE\n\tsae_password="{wifi.password}"\n\tieee80211w=1'
        if wifi.password
        else "key_mgmt=NONE"
    )
    return f"country={wifi.country}\nnetwork={{\n\tssid={wifi.name.encode().hex()}\n\tscan_ssid=1\n\t{secret}\n}}\n"


def join_flags(wishes: Wishes, name: str) -> list[str]:
    """Flags of `pinnace join`, without the token."""
    labels = ",".join(f"{key}={value}" for key, value in wishes.labels.items())
    ports = wishes.ports
    cloud = wishes.cloud if _has_port(wishes.cloud) else f"{wishes.cloud}:{ports.hub}"
    flags = ["--cloudcore-ipport", cloud, "--certport", str(ports.bootstrap), "--tunnelport", str(ports.tunnel)]
    return [*flags, "--edgenode-name", name, *(["--labels", labels] if labels else [])]


def _has_port(cloud: str) -> bool:
    return cloud.rpartition(":")[2].isdigit() and (cloud.startswith("[") or cloud.count(":") == 1)


def _lamps(wishes: Wishes) -> str:
    assert wishes.gpio is not None
    pins = ",".join(f"{lamp}={number}" for lamp, number in wishes.gpio.pins.items())
    return f"ARGUMENTS={shlex.join(['--device', wishes.gpio.device, '--pins', pins])}\n"
