"""The simulated model server as a program: ``python -P -m greenroom.load '{"port": 8080}'``.

Its one argument is the JSON of `Options`, default ``{}``. It prints ``{"port": N}`` as one line when it
listens. Started with ``until_eof`` it ends when its standard input does: whoever holds the other end need not
survive to end it.

``-P`` keeps the working directory off the import path; in a checkout of this project its folder `mailbox`
would otherwise hide the standard library's module.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable

import msgspec

from .server import Options, serve


def main(arguments: list[str]) -> int:
    """Run a server; returns the exit status (2: the argument cannot be read, 1: it cannot listen)."""
    try:
        options = msgspec.json.decode(arguments[0] if arguments else "{}", type=Options)
    except msgspec.DecodeError as error:
        print(f"greenroom.load: not its options: {error}", file=sys.stderr)
        return 2
    if options.until_eof:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _raise_descriptor_limit()
    # What start-up made stays for ever; a collector that skips it costs less for each request.
    gc.collect()
    gc.freeze()
    try:
        asyncio.run(_run(options))
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        print(f"greenroom.load: cannot listen on {options.host}:{options.port}: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(options: Options) -> None:
    ended = asyncio.Event()
    if options.until_eof:
        loop = asyncio.get_running_loop()
        # A thread, for not every loop can wait for every kind of standard input; daemon, for it may never
        # return.
        arguments = (loop.call_soon_threadsafe, ended.set)
        threading.Thread(target=_watch_input, args=arguments, name="stdin", daemon=True).start()
    await serve(options, _tell_port, ended)


def _watch_input(call_soon: Callable[[Callable[[], None]], object], end: Callable[[], None]) -> None:
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass  # no standard input at all is the end of it
    try:
        call_soon(end)
    except RuntimeError:
        pass  # the loop has closed: the server has ended for another reason


def _tell_port(port: int) -> None:
    print(msgspec.json.encode({"port": port}).decode(), flush=True)


def _raise_descriptor_limit() -> None:
    """One connection is one descriptor; the usual soft limit of 1,024 is too few for a thousand runs."""
    try:
        import resource  # absent on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            pass  # some systems call the hard limit infinite and then refuse it; the soft one stays


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
