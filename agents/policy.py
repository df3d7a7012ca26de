"""What a model may do: a function that is asked before each tool call, and some that are ready.

A policy is a function of a `ToolCall` and a `RunContext`, sync or async. It returns `Allow()`, `Deny(reason)` or
`Ask(question)`; True and None mean allow, False means deny. It is a *guard*: one that raises, or returns anything else,
fails the run, because a call that nobody could judge must not run.

Several may have a say: the agent's own, and those that this run and the runs above it were started with. The strictest
answer holds: one that denies ends the matter, and one that asks is not overruled by another that allows.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from .tool_rules import RISKS, Risk

if TYPE_CHECKING:
    from ..providers import ToolCall
    from .context import RunContext


class Allow(msgspec.Struct, frozen=True):
    """The call may run."""


class Deny(msgspec.Struct, frozen=True):
    """The call must not run; the model is told why.

    Raises:
        TypeError: a reason that is no text.
    """

    reason: str = "not allowed"

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"Deny(reason) takes text for the model, not {self.reason!r}")


class Ask(msgspec.Struct, frozen=True):
    """Somebody has to approve the call first; `question` is what they are asked."""

    question: str = ""


Verdict: TypeAlias = Allow | Deny | Ask
Policy: TypeAlias = "Callable[[ToolCall, RunContext[Any]], Verdict | bool | Awaitable[Verdict | bool | None] | None]"


def allow_only(*names: str, tags: Collection[str] = ()) -> Policy:
    """A policy that allows the tools of these names, and those with any of these tags, and denies all others."""
    allowed, tagged = _read_names("allow_only", names), _read_names("allow_only(tags=)", tags)

    def judge(call: ToolCall, context: RunContext[Any]) -> Verdict:
        if call.name in allowed or tagged & _tags(context):
            return Allow()
        return Deny(f"{call.name} is not among the tools that are allowed here")

    return judge


def deny_all(reason: str = "no tool may be called here") -> Policy:
    """A policy that denies every call."""
    verdict = Deny(reason)
    return lambda _call, _context: verdict


def ask_before(*names: str, tags: Collection[str] = (), risk: Risk | None = None) -> Policy:
    """A policy that has approved: the tools of these names, those with any of these tags, those of at least this risk.

    All others are allowed; a tool that says nothing of its risk has none.
    """
    asked, tagged = _read_names("ask_before", names), _read_names("ask_before(tags=)", tags)
    if risk is not None and risk not in RISKS:
        raise ValueError(f"ask_before(risk=) is one of {', '.join(map(repr, RISKS))}, not {risk!r}")
    risky = RISKS[RISKS.index(risk) :] if risk is not None else ()

    def judge(call: ToolCall, context: RunContext[Any]) -> Verdict:
        tool = context.tool
        if call.name in asked or tagged & _tags(context) or (tool is not None and tool.rules.risk in risky):
            return Ask()
        return Allow()

    return judge


def _tags(context: RunContext[Any]) -> frozenset[str]:
    return context.tool.rules.tags if context.tool is not None else frozenset()


def _read_names(what: str, names: Collection[str]) -> frozenset[str]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{what} takes names, not {names!r}")
    return frozenset(names)


def check_policy(policy: object) -> None:
    """Refuse what is no policy.

    Raises:
        TypeError: it cannot be called with a call and a context.
    """
    if policy is None:
        return
    if not callable(policy) or isinstance(policy, type):
        raise TypeError(f"policy= takes a function of a call and a RunContext, not {policy!r}")
    try:
        signature = inspect.signature(policy)
    except (TypeError, ValueError):
        return  # written in C
    try:
        signature.bind(None, None)
    except TypeError:
        raise TypeError(
            f"policy= takes a function of a call and a RunContext: def policy(call, context): …, not {policy!r}"
        ) from None


async def judge(policies: Sequence[Policy], call: ToolCall, context: RunContext[Any]) -> Verdict:
    """What the policies say together.

    Raises:
        TypeError: one of them answers with something else.
        BaseException: what one of them raises.
    """
    strictest: Verdict = Allow()
    for policy in policies:
        given: Any = policy(call, context)
        if inspect.isawaitable(given):
            given = await given
        match given:
            case Deny():
                return given
            case False:
                return Deny()
            case Ask():
                strictest = given if not isinstance(strictest, Ask) else strictest
            case Allow() | True | None:
                pass
            case _:
                raise TypeError(f"a policy returns Allow(), Deny(…), Ask(…), True, False or None, not {given!r}")
    return strictest
