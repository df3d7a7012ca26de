"""What can go wrong between us and a NATS server, in words that name no client library. Each text says what to do.

::

    EngineError
    ├── EngineAway          no answer: it is not known what the server did; the same may be tried again
    │   └── NobodyAnswers   nobody listens there: no stream, no leader yet, no receiver
    └── EngineRefused       the server has answered, and says no

The modules that talk to a server raise these and nothing else. A server is named by its host and port alone, because
its URL may hold a password.
"""

from __future__ import annotations

from ..exchange import ExchangeError


class EngineError(ExchangeError):
    """Something between this process and the NATS server."""


class EngineAway(EngineError):
    """There is no answer. What was asked for may have been done or not."""


class NobodyAnswers(EngineAway):
    """The server is there, and nobody listens at that subject now. Nothing was done."""


class EngineRefused(EngineError):
    """The server says no.

    Attributes:
        code: of the answer, as in HTTP.
        error: the server's own number for it; 0 if it gave none.
    """

    def __init__(self, text: str, code: int = 0, error: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.error = error
