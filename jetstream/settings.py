"""What all parts on one NATS server agree about: where their names begin, and how safely things are stored."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from .subjects import check_prefix

#: So many servers that hold the same stream make it safe without waiting for a disk.
SAFE = 3

_MONITOR = "monitor= takes 'http://host:8222', or a list of such addresses"


class Settings(msgspec.Struct, frozen=True):
    """How streams are made, on first use, and what is expected of those that are there.

    Attributes:
        prefix: what the names of all streams and subjects begin with (default ``"greenroom"``). Two systems with
            different prefixes know nothing of each other.
        replicas: how many servers of a cluster hold each stream at least: 1 (the default), 3 or 5.
        durable: whether to refuse servers that could lose what they said was stored. A server that stores each message
            on disk before it says so is safe (``sync_interval: always``), and so are three servers that hold the same.
        monitor: the monitoring addresses of the servers, such as ``"http://localhost:8222"``, where `durable` asks
            whether they wait for the disk. Not needed with three replicas.

    Raises:
        TypeError, ValueError: a value that cannot work.
    """

    prefix: str = "greenroom"
    replicas: int = 1
    durable: bool = False
    monitor: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        check_prefix(self.prefix)
        if not isinstance(self.replicas, int) or isinstance(self.replicas, bool):
            raise TypeError(f"replicas= takes 1, 3 or 5, not {self.replicas!r}")
        if not 1 <= self.replicas <= 5:
            raise ValueError(f"replicas= takes 1, 3 or 5, not {self.replicas!r}")
        if not isinstance(self.durable, bool):
            raise TypeError(f"durable= takes True or False, not {self.durable!r}")
        if not isinstance(self.monitor, Sequence):
            raise TypeError(f"{_MONITOR}, not {self.monitor!r}")
        for each in self.monitors:
            _check_monitor(each)

    @property
    def monitors(self) -> tuple[str, ...]:
        """The monitoring addresses."""
        return (self.monitor,) if isinstance(self.monitor, str) else tuple(self.monitor)


def _check_monitor(url: object) -> None:
    """It is not shown: somebody may have put a password into it."""
    if not isinstance(url, str):
        raise TypeError(f"{_MONITOR}, not a list with {type(url).__name__}")
    try:
        parts = urlsplit(url)
        fits = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        )
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{_MONITOR}; one of those given is none, or has a user in it")
