"""Drive lamps on GPIO pins (the traffic light) as a KubeEdge device.

Pins come from `--pins red=25,green=23`, from a device model given with `--profile FILE` (YAML or JSON), or from the deviceProfile.json
that is mounted into a mapper's pod. Whose numbers they are says `--numbering`, else the model (property pin-numbering), else they are
wiringPi's. The pins are the board's own on a Raspberry Pi and simulated ones elsewhere; `--pin-socket` lets either be watched.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pinnace.core.base.errors import ConfigError
from pinnace.mappers.gpio.lamps import Lamp, LampRow, from_model, parse_pins
from pinnace.mappers.gpio.numbering import Numbering
from pinnace.mappers.gpio.ports import PinSocket, RaspberryPort, SimulatedPort, WatchedPort, is_raspberry
from pinnace.mappers.sdk import profile, runner

SUMMARY = "lamps on GPIO pins: the traffic light"
SOCKET_VARIABLE = "PINNACE_PIN_SOCKET"
PORT_VARIABLE = "PINNACE_PIN_PORT"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    runner.add_arguments(parser, device="traffic-light-instance-01", model="traffic-light")
    parser.add_argument("--pins", metavar="NAME=NUMBER,...", help="the lamps and their pins, instead of the model's")
    parser.add_argument("--profile", type=Path, metavar="FILE", help=f"device model or deviceProfile.json (default: {profile.MOUNTED})")
    parser.add_argument(
        "--numbering",
        choices=[each.value for each in Numbering],
        help="whose numbers the pins have (default: what the model says, else wiringpi)",
    )
    parser.add_argument("--active-low", action="store_true", help="a lamp shines while its pin is low")
    parser.add_argument(
        "--port",
        choices=["auto", "real", "simulated"],
        default=os.environ.get(PORT_VARIABLE, "auto"),
        help=f"auto: real on a Raspberry Pi (default: {PORT_VARIABLE} in the environment, else auto)",
    )
    parser.add_argument(
        "--pin-socket",
        default=os.environ.get(SOCKET_VARIABLE, ""),
        metavar="PATH",
        help=f"show the pins on this Unix socket, as JSON lines; @NAME is an abstract one (default: {SOCKET_VARIABLE} in the environment)",
    )
    parser.add_argument("--at-exit", choices=["keep", "off"], default="keep", help="the lamps after the mapper (default: %(default)s)")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="read the pins back so often (default: %(default)s)")


def lamps_of(args: argparse.Namespace) -> tuple[Lamp, ...]:
    """The lamps that the flags ask for. Raises ConfigError."""
    numbering = Numbering(args.numbering) if args.numbering else None
    if args.pins:
        return parse_pins(args.pins, numbering or Numbering.WIRINGPI)
    model = profile.find(args.modelname, args.profile)
    if model is None:
        raise ConfigError(f"which pins? give --pins NAME=NUMBER,... or --profile FILE (there is no {profile.MOUNTED})")
    return from_model(model, numbering)


def run(args: argparse.Namespace) -> int:
    lamps = lamps_of(args)
    device = runner.device_of(args)
    if args.every <= 0:
        raise ConfigError(f"--every: expected seconds above 0, not {args.every}")
    is_real = args.port == "real" or (args.port == "auto" and is_raspberry())
    port = WatchedPort(RaspberryPort() if is_real else SimulatedPort())
    beside = [PinSocket(port, args.pin_socket).run] if args.pin_socket else []
    row = LampRow(lamps, port, active_low=args.active_low)
    try:
        return runner.run(args, row.declare(device, every_seconds=args.every), beside=beside)
    finally:
        if args.at_exit == "off":
            row.switch_off()
        port.close()
