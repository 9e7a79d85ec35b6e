"""What the frozen edge runs: the one command."""

import sys

from pinnace.core.base.cli import main

sys.exit(main())
