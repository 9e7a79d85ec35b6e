"""What wishes mean in files."""

from __future__ import annotations

import argparse
import shlex
from pathlib import PurePosixPath

import pytest

from pinnace.core.appliance import settling
from pinnace.core.appliance.wishes import WIRINGPI, Lamps, Ports, Wifi, Wishes
from pinnace.core.commands import join
from pinnace.mappers.gpio import command as gpio
from pinnace.mappers.gpio import numbering

ALL = Wishes(
    cloud="10.0.0.1",
    token="t",
    node="pi-1",
    labels={"place": "roof", "hostname": "192.168.4.22-pi2"},
    wifi=Wifi("DE", 'it\'s "home" ü', 'pass"word\\'),
    ssh_key="ssh-ed25519 AAAA me",
    timeserver="10.0.0.2",
    gpio=Lamps("light-1", {"red": 25, "green": 23}),
    ports=Ports(11000, 11002, 11004),
)


def test_a_bare_wish_leaves_nothing_but_the_name() -> None:
    files = settling.files(Wishes("10.0.0.1", "t"), "pinnace-1234")
    assert {str(name): kept.content for name, kept in files.items() if kept} == {"etc/hostname": "pinnace-1234\n"}
    assert PurePosixPath("etc/ssh/authorized_keys") in files, "what is wished no more is removed"


def test_all_wishes() -> None:
    files = {str(name): kept for name, kept in settling.files(ALL, "pi-1").items() if kept}
    assert files["etc/ssh/authorized_keys"] == ("ssh-ed25519 AAAA me\n", 0o600)
    assert files["etc/timesyncd.conf"].content == "[Time]\nNTP=10.0.0.2\n"
    assert files["etc/wpa_supplicant.conf"].mode == 0o600


def test_any_name_of_a_network_goes_through() -> None:
    assert ALL.wifi is not None
    text = settling.supplicant(ALL.wifi)
    assert f"\tssid={ALL.wifi.name.encode().hex()}\n" in text
    assert '\tpsk="pass"word\\"\n' in text
    assert "key_mgmt=NONE" in settling.supplicant(Wifi("DE", "open", ""))


def test_the_flags_are_those_of_join() -> None:
    parser = argparse.ArgumentParser()
    join.add_arguments(parser)
    config = join.configuration(parser.parse_args(settling.join_flags(ALL, "pi-1")), "pi-1")
    hub = config["modules"]["edgeHub"]
    assert (hub["httpServer"], hub["websocket"]["server"]) == ("https://10.0.0.1:11002", "10.0.0.1:11000")
    assert config["modules"]["edgeStream"]["server"] == "10.0.0.1:11004"
    assert config["modules"]["edged"]["nodeLabels"] == dict(ALL.labels)


@pytest.mark.parametrize(
    ("cloud", "flag"),
    [
        ("10.0.0.1", "10.0.0.1:10000"),
        ("10.0.0.1:10443", "10.0.0.1:10443"),
        ("[fd00::1]", "[fd00::1]:10000"),
        ("[fd00::1]:1", "[fd00::1]:1"),
    ],
)
def test_a_port_in_the_address_is_the_hubs(cloud: str, flag: str) -> None:
    assert settling.join_flags(Wishes(cloud, "t"), "pi-1")[1] == flag


def test_the_lamps_are_flags_of_the_mapper() -> None:
    kept = settling.files(ALL, "pi-1")[settling.GPIO]
    assert kept is not None
    parser = argparse.ArgumentParser()
    gpio.add_arguments(parser)
    args = parser.parse_args(shlex.split(kept.content.strip().removeprefix("ARGUMENTS=")))
    assert [(lamp.name, lamp.bcm) for lamp in gpio.lamps_of(args)] == [("red", 26), ("green", 13)]
    assert args.device == "light-1"


def test_every_pin_that_pinnace_yaml_takes_is_one_the_mapper_knows() -> None:
    assert {pin.wiringpi for pin in numbering.PINS} == WIRINGPI


@pytest.mark.parametrize(
    ("wishes", "serial", "machine_id", "name"),
    [
        (ALL, "1", "2", "pi-1"),
        (Wishes("a", "t"), "00000000AB12CD34", "ffff", "pinnace-ab12cd34"),
        (Wishes("a", "t"), "", "0123456789abcdef", "pinnace-89abcdef"),
    ],
)
def test_a_board_has_a_name_of_its_own(wishes: Wishes, serial: str, machine_id: str, name: str) -> None:
    assert settling.board_name(wishes, serial, machine_id) == name
