"""A process that has run out of descriptors."""

import os
import resource


class NoMoreDescriptors:
    """While open, this process can get no new descriptor: the limit is the lowest free one."""

    def __enter__(self):
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        probe = os.dup(0)
        os.close(probe)
        resource.setrlimit(resource.RLIMIT_NOFILE, (probe, self._limits[1]))
        return self

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
