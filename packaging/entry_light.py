"""What /traffic/light in the mapper's image runs: the GPIO mapper with the flags the pod passes."""

import sys

from pinnace.mappers.commands.mapper import main

sys.exit(main(["gpio", *sys.argv[1:]]))
