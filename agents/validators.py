"""The checks of an agent's answers, by functions of the user.

A validator is asked for each answer that could be read, one after the other. It returns None to accept it, or what is
to be the output instead; the next one gets that. What it raises decides about the answer: `ModelRetry` sends its text
back to the model, within `output_retries`. Anything else fails the run with `ValidatorFailed`, as a guard does: an
answer that nobody could judge must not be given out, and asking the model again would not mend the validator.

The run waits for its validators and can be stopped meanwhile. A check that a crash has cut is made again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from ..actors.crashes import is_crash, stray
from .context import RunContext
from .errors import ModelRetry, ValidatorFailed, described
from .machine import Accepted, CheckFailed, Refused, Rejected

#: ``f(output)`` or ``f(output, context)``, sync or async.
Validator: TypeAlias = "Callable[..., Any]"

#: What a model is told that a validator refused without a word.
REFUSED = "Your answer was not accepted: mend it and answer again."


class Checker(msgspec.Struct, frozen=True):
    """One validator, and whether it takes the run's context too."""

    function: Validator
    name: str
    takes_context: bool


def read_validators(given: Validator | Iterable[Validator] | None) -> tuple[Checker, ...]:
    """The validators of an agent, from one function or a list.

    Raises:
        TypeError: something that cannot be called with an output, or with an output and a `RunContext`.
    """
    if given is None:
        raise TypeError("validators= takes a function or a list of them, not None: leave it out, or give []")
    if callable(given):
        return (_check_of(given),)
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"validators= takes a function or a list of them, not {given!r}")
    return tuple([_check_of(each) for each in given])


def _check_of(function: Any) -> Checker:
    name = getattr(function, "__name__", type(function).__name__)
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"validators= takes functions of the output, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"validators={name} yields, but a validator returns None or the output to use: remove the yield"
        )
    try:
        signature = inspect.signature(function)
    except ValueError:
        return Checker(function, name, False)  # written in C
    for values in ((None,), (None, None)):
        try:
            signature.bind(*values)
        except TypeError:
            continue
        return Checker(function, name, len(values) == 2)
    raise TypeError(
        f"validators={name} must take the output, or the output and the RunContext: def {name}(output): …, "
        f"not {name}{signature}"
    )


async def check(checks: Iterable[Checker], output: Any, context: RunContext[Any]) -> Accepted | Refused | CheckFailed:
    """Ask all validators about an output."""
    for each in checks:
        try:
            made = each.function(output, context) if each.takes_context else each.function(output)
            if inspect.isawaitable(made):
                made = await made
            if isinstance(made, bool) and not isinstance(output, bool):
                raise TypeError(
                    f"it returned {made}: return None to accept the output, raise ModelRetry(…) to send it back"
                )
        except ModelRetry as retry:
            rejection = Rejected(str(retry) or REFUSED, checked=True)
            rejection.__cause__ = retry
            return Refused(rejection)
        except BaseException as error:
            if not is_crash(error):
                raise
            failure = ValidatorFailed(each.name, described(error))
            failure.__cause__ = stray(each.name, error)
            return CheckFailed(failure)
        if made is not None:
            output = made
    return Accepted(output)
