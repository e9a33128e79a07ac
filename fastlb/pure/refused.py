"""The one way in which a parser says no."""


class Refused(Exception):  # noqa: N818 - an outcome, named as in the native engine
    """A message that is not understood, or not wanted: the `status` for it, and `why` in a few words."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(f"{status}: {why}")
        self.status = status
        self.why = why
