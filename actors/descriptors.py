"""The soft limit on open descriptors: each connection of a busy system needs one.

Systems ship a soft limit of 1,024 under a far higher hard limit; a process may raise the soft one by itself.
"""

from __future__ import annotations

import sys

#: Descriptors that a process needs beside its connections: files, pipes, the loop's own.
RESERVE = 64


class DescriptorLimit(OSError):
    """The process may not open as many descriptors as were asked for."""


def raise_descriptor_limit(connections: int) -> None:
    """Make room for `connections` open sockets beside the usual handful of files.

    Raises:
        DescriptorLimit: the hard limit is lower; the message says what to lower or raise.
    """
    if sys.platform == "win32":
        return  # no such limit for sockets
    import resource

    needed = connections + RESERVE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise DescriptorLimit(
            f"{connections} connections need {needed} descriptors, but this process may open {hard}: "
            "lower max_running, or raise the hard limit (ulimit -Hn)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
