"""`python -m pinnace.mappers.gpio` is `pinnace mapper gpio`."""

import sys

from pinnace.mappers.commands.mapper import main

sys.exit(main(["gpio", *sys.argv[1:]]))
