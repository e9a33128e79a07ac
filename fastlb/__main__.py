"""The command `fastlb`, which is also `python -m fastlb`. Imports are slow, signals are not: see
fastlb/control/signals.py."""

import sys

from fastlb.control.signals import hold


def main() -> int:
    """Run the command line. Returns: the exit status."""
    hold()
    from fastlb.surface.cli import main as run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
