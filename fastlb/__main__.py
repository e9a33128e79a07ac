"""`python -m fastlb` is the command `fastlb`."""

import sys

from fastlb.surface.cli import main

sys.exit(main())
