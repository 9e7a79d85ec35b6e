"""Serve a simulated room with a thermostat: properties temperature (read), target (set, 5 to 30) and heating (read).

Its model and device are in build/samples/room.
"""

from __future__ import annotations

import argparse

from pinnace.mappers.sdk import runner
from pinnace.mappers.virtual.room import Room, declare

SUMMARY = "a room with a thermostat, in memory: the reference mapper"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    runner.add_arguments(parser, device="room-01", model="room")


def run(args: argparse.Namespace) -> int:
    return runner.run(args, declare(runner.device_of(args), Room()))
