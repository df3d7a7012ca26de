"""The client of OpenAI's SDK as a service with many runs in flight sets it up, for the contenders that take one.

The SDK keeps 100 connections alive. To keep more would open no connection twice, but its pool looks at every idle one
for each request, so with 1,000 in flight runs would cost two to three times as much: the bound of 100 is left, which is
the cheaper choice here. Idle ones are kept for a minute instead of 5 seconds, and a connect may take longer than 5
seconds, which is short where a thousand begin at once. Version 3 stands on httpx2.
"""

from __future__ import annotations

import httpx2
from contender import Options
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

TIMEOUT = httpx2.Timeout(600.0)
KEPT_ALIVE = 100


def limits(options: Options, kept_alive: int = KEPT_ALIVE) -> httpx2.Limits:
    """As many connections as there are runs in flight, `kept_alive` of them between requests."""
    return httpx2.Limits(max_connections=options.in_flight, max_keepalive_connections=kept_alive, keepalive_expiry=60.0)


def shared_client(options: Options, kept_alive: int = KEPT_ALIVE) -> AsyncOpenAI:
    """One for all runs."""
    http_client = DefaultAsyncHttpxClient(limits=limits(options, kept_alive), timeout=TIMEOUT)
    return AsyncOpenAI(base_url=options.base_url, api_key="none", http_client=http_client, timeout=TIMEOUT)
