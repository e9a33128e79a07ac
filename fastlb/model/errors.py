"""Every error that fastlb raises on purpose. Each says whose fault it was."""


class FastlbError(Exception):
    """Base of all errors raised on purpose by fastlb."""


class ConfigError(FastlbError, ValueError):
    """A value that the user gave makes no sense. The command line exits with status 2.

    `path` is the dotted path of the value (`probe.interval_s`), `value` is what was given and
    `expected` says in a few words what would be right.
    """

    def __init__(self, path: str, value: object, expected: str) -> None:
        super().__init__(f"{path}: {value!r} is not {expected}")
        self.path = path
        self.value = value
        self.expected = expected


class StartError(FastlbError, OSError):
    """The machine refused what a sensible configuration asked for. Exit status 1."""


class EngineUnavailableError(FastlbError, ImportError):
    """The engine that was asked for is not built for this platform."""


class NoBackendError(FastlbError, LookupError):
    """Every backend is down, draining, full or excluded."""
