"""Starting a run: what was asked for, checked, and done once however often it is asked for.

A request with an idempotency key starts one run, and the same request again gives that run. The id of the run is made
of the key, so the journal refuses a second one, also across a restart and between two servers on one file; what the
request was is kept beside the run as a digest. A run of a conversation has a number for an id, so there the key is
looked for among the runs of the conversation.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from typing_extensions import Unpack

from ..agents import Agent, Limits
from ..agents.history import Prompt
from ..agents.launch import Launch
from ..agents.run_options import RunKeywords
from ..journal import UnknownRun
from ..providers import Message, message_from_openai
from .known_runs import KnownRun
from .origin import Origin
from .problems import Problem, problem_of
from .run_views import DIGEST, KEY, OWN, without_own
from .wire import LimitsAsked, MessageIn, StartRun

if TYPE_CHECKING:
    from .app import Service

#: How long a key may be.
KEY_LENGTH = 256

_canonical = msgspec.json.Encoder(order="deterministic").encode


class Begun(msgspec.Struct, frozen=True):
    """What a request to start a run has come to.

    Attributes:
        run_id: the run.
        known: its handle; None of one that was started long ago, which only the journal knows.
        is_new: whether this request has started it.
    """

    run_id: str
    known: KnownRun | None
    is_new: bool


async def start_run(service: Service, asked: StartRun, key: str | None) -> Begun:
    """Start the run that was asked for, unless this key has started it before.

    Raises:
        Problem: it cannot be started; the message says why.
    """
    agent = service.agent(asked.agent)
    messages = _messages(asked)
    if any(name.startswith(OWN) for name in asked.metadata):
        raise Problem(422, "invalid_request", f"names in metadata must not begin with {OWN}", "metadata")
    if key is None:
        known = await _start(service, agent, asked, messages, asked.run_id, {})
        return Begun(known.run.id, known, True)
    if not 0 < len(key) <= KEY_LENGTH:
        said = f"an idempotency key has 1 to {KEY_LENGTH} characters"
        raise Problem(400, "invalid_request", said, "Idempotency-Key")
    mark = {KEY: sha256(key.encode()).hexdigest(), DIGEST: sha256(_canonical(asked)).hexdigest()}
    run_id = asked.run_id
    if run_id is None and asked.conversation_id is None:
        run_id = f"key-{mark[KEY][:32]}"
    while (begun := service.beginning.get(mark[KEY])) is not None:
        await begun.wait()  # somebody begins it at this moment
    service.beginning[mark[KEY]] = begun = anyio.Event()
    try:
        found = await _begun_before(service, agent, asked, run_id, mark)
        if found is not None:
            return found
        try:
            known = await _start(service, agent, asked, messages, run_id, mark)
        except Problem as problem:
            if problem.body.type != "run_exists":
                raise
            # Another server on the file may have begun it meanwhile, or another service of the System.
            found = await _begun_before(service, agent, asked, run_id, mark)
            if found is None:
                raise problem if run_id is None or run_id == asked.run_id else _key_reused() from None
            return found
        return Begun(known.run.id, known, True)
    finally:
        del service.beginning[mark[KEY]]
        begun.set()


async def _start(
    service: Service,
    agent: Agent[Any, Any],
    asked: StartRun,
    messages: str | list[Message],
    run_id: str | None,
    mark: Mapping[str, str],
) -> KnownRun:
    return await launch_run(
        service,
        agent,
        messages,
        limits=within(asked.limits, agent.limits) if asked.limits is not None else None,
        user_id=asked.user_id,
        conversation_id=asked.conversation_id,
        run_id=run_id,
        tags=asked.tags,
        metadata={**asked.metadata, **mark},
        when_busy="refuse",
    )


async def launch_run(
    service: Service, agent: Agent[Any, Any], prompt: Prompt | None, **options: Unpack[RunKeywords]
) -> KnownRun:
    """Start a run in the service's System, with what its tools depend on, counted and held.

    Args:
        service: where.
        agent: what answers.
        prompt: what to.
        options: those of `System.start`, but for `deps`.

    Raises:
        Problem: the System is full or ends, the run's id is taken, its conversation busy, an argument cannot work.
    """
    service.refuse_when_draining()
    system = service.system
    run_id = options.get("run_id")
    if run_id is not None and service.find(run_id) is not None:
        raise Problem(409, "run_exists", "there is a run of that id already", "run_id")
    tags, metadata = list(options.get("tags", ())), dict(options.get("metadata") or {})
    user_id, conversation_id = options.get("user_id"), options.get("conversation_id")
    for name in system.require:
        if options.get(name) is None:
            raise Problem(422, "invalid_request", f"this service requires {name}", name)
    deps = service.deps_for(Origin(agent.name, user_id, conversation_id, tuple(tags), without_own(metadata)))
    try:
        launch = Launch(agent, prompt, deps=deps, system=system, **options)
    except (TypeError, ValueError) as error:
        raise Problem(422, "invalid_request", str(error), "messages") from None
    try:
        run = await system.launch(launch)
    except Exception as error:
        problem = problem_of(error)
        if problem is None:
            raise
        raise problem from error
    service.meter.started(agent.name)
    return service.known.add(
        KnownRun(
            run,
            agent.name,
            datetime.now(UTC),
            key=metadata.get(KEY),
            digest=metadata.get(DIGEST),
            user_id=user_id,
            conversation_id=conversation_id,
            tags=tags,
            metadata=without_own(metadata),
        ),
        len(system.pool),
    )


async def _begun_before(
    service: Service, agent: Agent[Any, Any], asked: StartRun, run_id: str | None, mark: Mapping[str, str]
) -> Begun | None:
    """The run that the key has started, if it has.

    Raises:
        Problem: it has started another one, or one of another service's agent.
    """
    known = service.known.find_key(mark[KEY])
    if known is not None:
        _refuse_other(known.digest, mark)
        return Begun(known.run.id, known, False)
    journal = service.system.stage.journal
    if not journal.survives:
        return None
    if run_id is not None:
        ids = [run_id]
    else:
        ids = [each.run_id for each in await journal.runs(conversation_id=asked.conversation_id)]
    for each in reversed(ids):
        try:
            chronicle = await service.system.chronicle(each)
        except UnknownRun:
            continue
        metadata = chronicle.began.metadata
        if metadata.get(KEY) == mark[KEY]:
            if chronicle.agent != agent.name:
                raise _key_reused()
            _refuse_other(metadata.get(DIGEST), mark)
            return Begun(each, service.find(each), False)
    return None


def _refuse_other(digest: str | None, mark: Mapping[str, str]) -> None:
    if digest != mark[DIGEST]:
        raise _key_reused()


def _key_reused() -> Problem:
    said = "this idempotency key was used before, for another request: take a new key"
    return Problem(422, "key_reused", said, "Idempotency-Key")


def _messages(asked: StartRun) -> str | list[Message]:
    if (asked.prompt is None) == (asked.messages is None):
        raise Problem(422, "invalid_request", "give prompt or messages, and not both", "prompt")
    if asked.messages is None:
        assert asked.prompt is not None
        return asked.prompt
    return [_message(each, index) for index, each in enumerate(asked.messages)]


def _message(given: MessageIn, index: int) -> Message:
    if (given.content is None) == (given.parts is None):
        where = f"messages[{index}]"
        raise Problem(422, "invalid_request", f"{where} needs content or parts, and not both", where)
    if given.parts is not None:
        return Message(given.role, tuple(given.parts))
    try:
        return message_from_openai({"role": given.role, "content": given.content})
    except (TypeError, ValueError) as error:
        raise Problem(422, "invalid_request", str(error), f"messages[{index}]") from None


def within(asked: LimitsAsked, own: Limits) -> Limits:
    """The bounds of a run whose client has asked for some: the lower of both, each."""
    lower: dict[str, Any] = {}
    for name in LimitsAsked.__struct_fields__:
        wanted, allowed = getattr(asked, name), getattr(own, name)
        if wanted is not None:
            lower[name] = wanted if allowed is None else min(wanted, allowed)
    return msgspec.structs.replace(own, **lower)
