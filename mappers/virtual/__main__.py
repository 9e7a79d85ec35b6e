"""`python -m pinnace.mappers.virtual` is `pinnace mapper virtual`."""

import sys

from pinnace.mappers.commands.mapper import main

sys.exit(main(["virtual", *sys.argv[1:]]))
