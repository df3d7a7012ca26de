"""The list of runs, page by page, the youngest first.

Where the journal outlives the System it knows every run, so the list is its; a run that the service has the handle of
is described by that, another one is read. Without such a journal the list is of the handles.

A filter by agent or status can only be looked at when a run has been read. So that one request does not read a whole
archive, it reads a bounded number of runs: a page may be short, or empty, and have a cursor all the same.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from ..journal import BadRecord, Damaged, Listed, UnknownRun
from .body import one_of, whole
from .problems import Problem
from .run_views import view_of, view_of_past
from .wire import RunList, RunView, Status

if TYPE_CHECKING:
    from .app import Service

#: Runs in a page: if nothing is said, and at most.
PAGE = 50
LONGEST_PAGE = 500
#: Runs that are read for one page.
LOOKED_AT = 1_000

STATUSES: tuple[str, ...] = tuple(word for part in get_args(Status) for word in get_args(part) or (part,))


async def list_runs(service: Service, query: Mapping[str, str]) -> RunList:
    """A page of the list.

    Raises:
        Problem: a filter or a cursor that is none.
    """
    limit = whole(query.get("limit"), "limit", PAGE, 1, LONGEST_PAGE)
    status = one_of(query.get("status"), "status", STATUSES)
    agent = query.get("agent")
    place = read_cursor(query.get("cursor"))

    def fits(view: RunView) -> bool:
        return (agent is None or view.agent == agent) and (status is None or view.status == status)

    page = _of_journal if service.system.stage.journal.survives else _of_handles
    return await page(service, place, limit, fits)


async def _of_handles(service: Service, place: tuple[float, str] | None, limit: int, fits: Any) -> RunList:
    for cell in service.system.pool.cells():
        service.find(cell.name)  # whoever started it: from now on it is known
    found: list[RunView] = []
    cursor = None
    for known in sorted(service.known, key=lambda each: each.number, reverse=True):
        if place is not None and known.number >= place[0]:
            continue
        if len(found) == limit:
            return RunList(found, cursor)
        view = await view_of(known, service.agents.get(known.agent))
        cursor = make_cursor(known.number, known.run.id)
        if fits(view):
            found.append(view)
    return RunList(found)


async def _of_journal(service: Service, place: tuple[float, str] | None, limit: int, fits: Any) -> RunList:
    try:
        listed = await service.system.stage.journal.runs()
    except Damaged as damage:
        listed = list(damage.others)
    found: list[RunView] = []
    looked_at, cursor = 0, None
    for each in sorted(listed, key=_place, reverse=True):
        if each.parent_id is not None or (place is not None and _place(each) >= place):
            continue
        if len(found) == limit or looked_at == LOOKED_AT:
            return RunList(found, cursor)
        cursor = make_cursor(*_place(each))
        looked_at += 1
        view = await _view(service, each)
        if view is not None and fits(view):
            found.append(view)
    return RunList(found)


def _place(listed: Listed) -> tuple[float, str]:
    return listed.created_at, listed.run_id


async def _view(service: Service, listed: Listed) -> RunView | None:
    known = service.find(listed.run_id)
    if known is not None:
        return await view_of(known, service.agents.get(known.agent))
    try:
        chronicle = await service.system.chronicle(listed.run_id)
    except UnknownRun:
        return None  # forgotten meanwhile
    except (Damaged, BadRecord):
        return RunView(id=listed.run_id, agent=None, status="damaged", conversation_id=listed.conversation_id)
    return view_of_past(chronicle, service.agents.get(chronicle.agent))


def make_cursor(number: float, run_id: str) -> str:
    """Where a page ends, as text for an address."""
    return base64.urlsafe_b64encode(msgspec.json.encode((number, run_id))).decode().rstrip("=")


def read_cursor(cursor: str | None) -> tuple[float, str] | None:
    """The place that a cursor stands for.

    Raises:
        Problem: it is none.
    """
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        return msgspec.json.decode(raw, type=tuple[float, str])
    except (binascii.Error, msgspec.DecodeError, ValueError, RecursionError):
        raise Problem(422, "invalid_request", "cursor= is what the page before has for one", "cursor") from None
