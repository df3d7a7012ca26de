"""What can go wrong between machines. Each text says what to do.

::

    ExchangeError
    ├── Saturated       a dispatcher holds as many jobs as it may
    ├── NobodyThere     nobody receives at an address
    ├── AddressTaken    somebody receives there already
    └── Missed          events that a follower came too late for
"""

from __future__ import annotations


class ExchangeError(Exception):
    """Something between machines."""


class Saturated(ExchangeError):
    """The job of `run_id` was not taken: the dispatcher holds `capacity` jobs that are not done."""

    def __init__(self, run_id: str, capacity: int) -> None:
        super().__init__(f"run {run_id!r} was not taken: {capacity} jobs are not done yet; submit it again later")
        self.run_id = run_id
        self.capacity = capacity


class NobodyThere(ExchangeError):
    """The message was not taken: nobody receives at `address`, or who did has left."""

    def __init__(self, address: str) -> None:
        super().__init__(f"nobody receives at {address!r}: leave it where the next one there will look, or try later")
        self.address = address


class AddressTaken(ExchangeError):
    """Somebody receives at `address` already; there is one receiver at a time."""

    def __init__(self, address: str) -> None:
        super().__init__(f"somebody receives at {address!r} already: wait until they have left, or use another address")
        self.address = address


class Missed(ExchangeError):
    """The events from `first` to `last` of `topic` are not kept any more. The same iterator goes on after them."""

    def __init__(self, topic: str, first: int, last: int) -> None:
        super().__init__(
            f"events {first} to {last} of topic {topic!r} are not kept any more:"
            " catch this, learn what happened from the journal, and go on with the same iterator"
        )
        self.topic = topic
        self.first = first
        self.last = last
