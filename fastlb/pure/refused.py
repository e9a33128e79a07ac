"""The one way in which a parser says no."""


class Refused(Exception):  # noqa: N818 - an outcome, named as in the native engine
    """A message that is not understood, or not wanted: the `status` for it, and `why` in a few words.

    `taken_bytes`: of the piece of a body that is refused, what was read of it. `body`: the data in it.
    """

    def __init__(self, status: int, why: str, taken_bytes: int = 0, body: bytes = b"") -> None:
        super().__init__(f"{status}: {why}")
        self.status = status
        self.why = why
        self.taken_bytes = taken_bytes
        self.body = body
