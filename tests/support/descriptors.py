"""A process that has run out of descriptors."""

import os
import resource


class NoMoreDescriptors:
    """While open, this process can get no new descriptor but `spare` ones: the limit is the lowest
    that is free behind them."""

    def __init__(self, spare=0):
        self._spare = spare

    def __enter__(self):
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        probes = [os.dup(0) for _ in range(self._spare + 1)]
        for probe in probes:
            os.close(probe)
        resource.setrlimit(resource.RLIMIT_NOFILE, (probes[-1], self._limits[1]))
        return self

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
