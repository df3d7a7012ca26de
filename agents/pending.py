"""What ``agent.run(…)`` is until it is awaited."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Generic, NoReturn, TypeVar

T = TypeVar("T")


class Pending(Coroutine[Any, Any, T], Generic[T]):
    """A coroutine that explains itself to those who forget to await it."""

    __slots__ = ("__name__", "__qualname__", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, T], name: str) -> None:
        self._coroutine = coroutine
        self.__name__ = self.__qualname__ = name
        coroutine.__name__ = coroutine.__qualname__ = name  # for Python's warning, should nobody await it

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{self.__qualname__}(…) has not been awaited, so it has no {name!r} yet: "
            f"write `await {self.__qualname__}(…)`"
        )

    def _not_yet(self, *_: object) -> NoReturn:
        raise TypeError(f"{self.__qualname__}(…) has not been awaited: write `await {self.__qualname__}(…)`")

    __len__ = __iter__ = __getitem__ = __contains__ = _not_yet  # pyright: ignore[reportAssignmentType]

    def _no_block(self, *_: object) -> NoReturn:
        raise TypeError(
            f"{self.__qualname__}(…) is no block and no stream: write `await {self.__qualname__}(…)`, "
            "or `async with agent.stream(…) as run:`"
        )

    __enter__ = __exit__ = __aenter__ = __aexit__ = __aiter__ = _no_block

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<{self.__qualname__}(…), not awaited>"
