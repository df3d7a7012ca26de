"""The live page in a real browser, against a real service in a process of its own (`live_stage.py`).

Every test ends with the same look back: nothing in the console but what the test expects, nothing asked of anybody
else, and nothing that a model has said was obeyed. Where Chromium is missing the tests skip, and in CI they fail.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from greenroom.agents import events

STAGE = Path(__file__).with_name("live_stage.py")
SOURCES = Path(__file__).resolve().parents[1] / "service" / "live"
PURE = ("text.js", "tree.js", "timeline.js", "says.js")
TOKEN = "a-token-of-this-test"
WORDS = "The quick brown fox jumps over the lazy dog while the band plays on and nobody minds the rain at all. "

#: Elements of the whole page, however many runs there are.
MOST_ELEMENTS = 1_200
#: Seconds of the frame in the middle, on a machine that does much else too; 1/60 where it does not.
FRAME = 0.1

expect.set_options(timeout=15_000)


# -- the browser


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        said = "no Chromium: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(said)
        pytest.skip(said)
    started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
    yield started
    started.close()


class Visit:
    """A page that is open on a stage, and what it did that nobody may see.

    Attributes:
        expected: the console's errors that belong to the test.
    """

    def __init__(self, context: BrowserContext, stage: Stage) -> None:
        self.stage = stage
        self.expected: list[str] = []
        self._errors: list[str] = []
        self._elsewhere: list[str] = []
        self.page = context.new_page()
        self.page.on("console", lambda said: self._errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self._errors.append(f"uncaught: {error}"))
        context.on(
            "request",
            lambda request: (
                None if request.url.startswith((stage.url, "data:")) else self._elsewhere.append(request.url)
            ),
        )

    def open(self, address: str = "") -> Page:
        self.page.goto(f"{self.stage.url}/live{address}")
        expect(self.page.locator("#link")).to_have_text("live")
        return self.page

    def check(self) -> None:
        unexpected = [each for each in self._errors if not any(re.search(one, each) for one in self.expected)]
        assert unexpected == []
        assert self._elsewhere == []
        assert self.page.evaluate("window.hit") is None


#: What a browser's console says of a server that is not there.
LOST = (
    "ERR_CONNECTION_REFUSED",
    "ERR_INCOMPLETE_CHUNKED",
    "ERR_CONNECTION_RESET",
    "ERR_EMPTY",
    "ERR_CONTENT_LENGTH",
    "403",
)


def visits(browser: Browser, stage: Stage, expected: Sequence[str] = ()) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1360, "height": 820})
    made = Visit(context, stage)
    made.expected.extend(expected)
    yield made
    try:
        made.check()
    finally:
        context.close()


@pytest.fixture
def visit(browser: Browser, stage: Stage) -> Iterator[Visit]:
    yield from visits(browser, stage)


# -- the service


class Stage:
    """A service in a process of its own."""

    def __init__(self, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.options = options
        self.headers = {"Authorization": f"Bearer {TOKEN}"} if "--token" in options else {}
        # Nothing of it stays open between two tests.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(base_url=self.url, headers=self.headers, limits=limits, timeout=30)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads could hold it up
        self._number = 0
        self.raise_curtain()

    def raise_curtain(self) -> None:
        command = [sys.executable, str(STAGE), str(self.port), *self.options]
        self.process = subprocess.Popen(command, stderr=self._log)
        for _ in range(400):
            if self.process.poll() is not None:
                self._log.seek(0)
                raise AssertionError(self._log.read())
            try:
                if self._client.get("/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        self.kill()
        raise AssertionError("the stage has not opened within 20 seconds")

    def kill(self) -> None:
        self.process.kill()
        self._let_go()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self._let_go()
        self._client.close()
        self._log.close()

    def _let_go(self) -> None:
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def start(self, prompt: str, agent: str = "researcher") -> str:
        self._number += 1
        run_id = f"{prompt.split()[0]}-{self._number}"
        self.post("/runs", {"agent": agent, "prompt": prompt, "run_id": run_id})
        return run_id

    def post(self, path: str, body: Any) -> None:
        answer = self._client.post(path, json=body)
        assert answer.is_success, answer.text

    def run(self, run_id: str) -> dict[str, Any]:
        return self._client.get(f"/runs/{run_id}").json()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    started = Stage()
    yield started
    started.close()


@pytest.fixture
def own_stage() -> Iterator[Callable[..., Stage]]:
    """A stage for one test."""
    started: list[Stage] = []

    def start(*options: str) -> Stage:
        started.append(Stage(*options))
        return started[0]

    yield start
    for each in started:
        each.close()


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live") / "runs.db"


@pytest.fixture(scope="module")
def mortal_stage(journal: Path) -> Iterator[Stage]:
    """A stage with a journal, which the tests end and raise again."""
    started = Stage("--journal", str(journal))
    yield started
    started.close()


@pytest.fixture
def mortal_visit(browser: Browser, mortal_stage: Stage) -> Iterator[Visit]:
    yield from visits(browser, mortal_stage, LOST)


def status(page: Page, word: str) -> None:
    expect(page.locator("#panel-facts")).to_contain_text(word)


def listed(page: Page, word: str) -> None:
    """Find an event in the list, of which only what is in sight is there, and which may be growing."""
    page.wait_for_function(
        """(word) => {
          const box = document.getElementById("events"), end = box.scrollHeight - box.clientHeight - 1;
          if (box.textContent.includes(word)) return true;
          box.scrollTop = box.scrollTop >= end ? 0 : box.scrollTop + 150;
        }""",
        arg=word,
    )


# -- many runs


def test_a_thousand_live_runs_stay_smooth(browser: Browser, own_stage: Callable[..., Stage]) -> None:
    """The list is scrolled through for two seconds while every run changes: frames come, elements do not."""
    stage = own_stage("--runs", "1000")
    context = browser.new_context(viewport={"width": 1360, "height": 820})
    visit = Visit(context, stage)
    page = visit.open()
    expect(page.locator("#totals div").first).to_contain_text("1,000")
    expect(page.locator("#rows .row", has_text="500 runs")).to_have_count(2)  # groups that large begin folded
    page.get_by_role("button", name="Unfold").click()
    expect(page.locator("#rows")).to_have_attribute("aria-rowcount", re.compile("^10[0-9][0-9]$"))
    frames: list[float] = page.evaluate(
        """() => new Promise((done) => {
          const box = document.getElementById("rows"), times = [], began = performance.now();
          let before = began, step = 37;
          requestAnimationFrame(function frame(now) {
            times.push((now - before) / 1000);
            before = now;
            box.scrollTop += step;
            if (box.scrollTop + box.clientHeight >= box.scrollHeight - 1 || box.scrollTop <= 0) step = -step;
            if (now - began < 2000) requestAnimationFrame(frame); else done(times);
          });
        })"""
    )
    assert sorted(frames)[len(frames) // 2] < FRAME
    assert page.evaluate("document.querySelectorAll('*').length") < MOST_ELEMENTS
    assert page.locator("#rows .row").count() < 60
    page.evaluate("document.getElementById('rows').scrollTop = 1e9")
    expect(page.locator("#rows .row", has_text="run-0999")).to_be_visible()
    page.get_by_role("searchbox").fill("writer 0777")
    expect(page.locator("#rows .row[aria-level='3']")).to_have_count(1)
    expect(page.locator("#rows .row", has_text="run-0777")).to_be_visible()
    visit.check()
    context.close()


def test_the_tree_is_told_by_what_it_is_and_does(visit: Visit) -> None:
    """Supervisors, actors, groups with their sums, runs, tools and subagents; what has crashed is counted."""
    visit.stage.start("team think")
    page = visit.open()
    row = page.locator("#rows .row")
    expect(row.filter(has_text="stage").first).to_contain_text("system")
    expect(row.filter(has_text="clerks")).to_contain_text("supervisor")
    expect(row.filter(has_text="mail").locator(".c-restarts")).to_have_text("1")
    team = row.filter(has_text="team-")
    expect(team.first.locator(".c-doing")).to_have_text("tools: reader")
    team.first.locator(".fold").click()
    expect(row.filter(has_text="waits for its subagent")).to_have_attribute("aria-level", "4")
    page.get_by_role("searchbox").fill("subagent-not-there")
    expect(page.locator("#empty")).to_contain_text("Clear the search")
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Needs you").click()
    expect(page.locator("#empty")).to_contain_text("Nobody needs you now")
    page.get_by_role("button", name="Only at work").click()
    expect(row.filter(has_text="clerks")).to_have_count(0)
    expect(row.filter(has_text="team-").first).to_be_visible()


def test_what_tools_keep_open_is_in_the_tree_and_its_restarts_are_counted(visit: Visit) -> None:
    """As the session with a server is: what has crashed is open again, and is told what it is."""
    visit.stage.start("tear", "librarian")
    page = visit.open()
    row = page.locator("#rows .row", has=page.get_by_text("toolset", exact=True))
    expect(row.locator(".c-restarts")).to_have_text("1")
    expect(row).to_contain_text("library")
    row.click()
    expect(page.locator("#panel-kind")).to_have_text("toolset")
    expect(page.locator("#panel-facts")).to_contain_text("1 restart")
    expect(page.locator("#about")).to_contain_text("What tools keep open")


def test_a_run_that_has_ended_stays_among_those_that_ended_lately(visit: Visit) -> None:
    """With how it ended, whether the page has seen its end or not."""
    before = visit.stage.start("brief one")
    while visit.stage.run(before)["status"] == "running":
        time.sleep(0.02)
    page = visit.open()
    after = visit.stage.start("brief two")
    for run_id in (before, after):
        row = page.locator("#rows .row.is-ended", has=page.get_by_text(run_id, exact=True))
        expect(row.locator(".c-state")).to_contain_text("completed")
        expect(row.locator(".c-tokens")).to_have_text("165")
    page.locator("#rows .row.is-ended", has=page.get_by_text(after, exact=True)).click()
    status(page, "completed")
    expect(page.locator("#answer")).to_have_text("Done: two")
    expect(page.locator("#events .row", has_text="run.completed")).to_have_count(1)
    expect(page.locator("#deeds")).to_be_hidden()


# -- one run


def test_a_stop_on_the_page_stops_the_run(visit: Visit) -> None:
    """Each way to stop, on a run that would go on for ever; and it is told to the end."""
    names = ("Stop now", "Stop after its tools", "Stop after this turn")
    runs = {name: visit.stage.start("rounds") for name in names}
    page = visit.open()
    for name, run_id in runs.items():
        page.locator("#rows .row", has_text=run_id).click()
        status(page, "running")
        page.get_by_role("button", name=name).click()
        status(page, "stopped")
        ended = visit.stage.run(run_id)
        assert (ended["status"], ended["reason"]) == ("stopped", "user")
        expect(page.locator("#deeds")).to_be_hidden()
        expect(page.locator("#events .row", has_text="run.stopped")).to_have_count(1)


def test_an_approval_shows_the_final_arguments_and_lets_the_call_run(visit: Visit) -> None:
    """What is asked is counted at the top and in the tree; once approved the run completes."""
    run_id = visit.stage.start("approve /srv/data/report.txt")
    page = visit.open(f"#run={run_id}")
    card = page.locator("#asks .card")
    expect(card).to_contain_text("May it call delete_file?")
    expect(card.locator("pre")).to_have_text('{\n  "path": "/srv/data/report.txt"\n}')
    expect(page.locator("#totals .is-asks")).to_contain_text("1")
    expect(page).to_have_title(re.compile(r"^\(1\) greenroom$"))
    page.get_by_role("button", name="Needs you").click()
    expect(page.locator("#rows .row", has_text=run_id).locator(".c-state")).to_have_text("needs you")
    card.get_by_role("button", name="Approve").click()
    status(page, "completed")
    expect(card).to_have_count(0)
    expect(page.locator("#answer")).to_have_text("The file is gone.")
    expect(page.locator("#events .row", has_text="tool.completed")).to_contain_text("deleted /srv/data/report.txt")


def test_an_approval_shows_a_long_number_digit_by_digit(visit: Visit) -> None:
    """The numbers of a browser end at 16 digits; those of a tool do not."""
    page = visit.open(f"#run={visit.stage.start('pay')}")
    arguments = page.locator("#asks .card pre")
    expect(arguments).to_have_text('{\n  "account": 12345678901234567890,\n  "cents": -9007199254740993\n}')
    expect(page.locator("#events .row", has_text="approval.requested")).to_contain_text("12345678901234567890")
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("#answer")).to_have_text("It is paid.")


def test_a_call_with_the_id_of_an_earlier_one_is_asked_with_its_own_arguments(visit: Visit) -> None:
    """Some models number their calls anew in each turn; the server may ask for the next before the page has looked."""
    run_id = visit.stage.start("same")
    page = visit.open(f"#run={run_id}")
    card = page.locator("#asks .card")
    expect(card).to_contain_text("/srv/0.txt")

    def late(route: Any) -> None:
        while [each["arguments"]["path"] for each in visit.stage.run(run_id)["pending"]] != ["/srv/1.txt"]:
            time.sleep(0.02)
        route.continue_()

    page.route(f"**/runs/{run_id}", late)
    page.get_by_role("button", name="Approve").click()
    expect(card).to_contain_text("/srv/1.txt")
    expect(card).to_have_count(1)
    page.unroute_all()
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("#answer")).to_have_text("The files are gone.")


def test_a_message_that_was_begun_stays_with_its_run(visit: Visit) -> None:
    """Another run's field is empty; Esc leaves a field with words in it and not the run; spaces are not sent."""
    first, second = visit.stage.start("think"), visit.stage.start("think")
    page = visit.open(f"#run={first}")
    field = page.get_by_label("Send it a message")
    field.fill("   ")
    field.press("Enter")
    field.fill("Stop at the third page")
    field.press("Escape")
    expect(page.locator("#panel")).to_be_visible()
    page.locator("#rows .row", has_text=second).click()
    expect(page.locator("#panel-kind")).to_have_text(f"run {second}")
    expect(field).to_have_value("")
    page.go_back()
    expect(field).to_have_value("Stop at the third page")
    field.press("Enter")
    expect(field).to_have_value("")
    expect(page.locator("#events .row", has_text="message.queued")).to_have_count(1)


def test_a_denial_tells_the_model_why_also_for_a_subagent(visit: Visit) -> None:
    """The call of a run below is answered through the run above."""
    run_id = visit.stage.start("team approve")
    page = visit.open(f"#run={run_id}")
    card = page.locator("#asks .card")
    expect(card).to_contain_text(f"asked by its subagent {run_id}.")
    card.get_by_label("Reason").fill("it is still needed")
    card.get_by_role("button", name="Deny").click()
    status(page, "completed")
    denied = page.locator("#events .row", has_text="approval.resolved")
    expect(denied).to_contain_text("delete_file denied: it is still needed")
    assert visit.stage.run(run_id)["status"] == "completed"


def test_a_question_is_answered(visit: Visit) -> None:
    """And what somebody has begun to write is not lost when another event comes."""
    run_id = visit.stage.start("ask Which city do you mean?")
    page = visit.open(f"#run={run_id}")
    card = page.locator("#asks .card")
    expect(card).to_contain_text("Which city do you mean?")
    card.get_by_label("Your answer").fill("Lis")
    page.get_by_label("Send it a message").fill("Hello")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#events .row", has_text="message.queued")).to_have_count(1)
    expect(card.get_by_label("Your answer")).to_have_value("Lis")
    card.get_by_label("Your answer").fill("Lisbon")
    card.get_by_role("button", name="Answer").click()
    status(page, "completed")
    expect(page.locator("#events .row", has_text="message.answered")).to_contain_text("answered: Lisbon")
    expect(page.locator("#answer")).to_have_text("Thank you. You also said: Hello")


def test_an_answer_that_comes_too_late_says_so(visit: Visit) -> None:
    """Somebody else was faster, between the look and the click."""
    run_id = visit.stage.start("approve")
    page = visit.open(f"#run={run_id}")
    expect(page.locator("#asks .card")).to_have_count(1)
    visit.expected = ["409"]

    def answer_first(route: Any) -> None:
        visit.stage.post(f"/runs/{run_id}/approvals/call_0_0", {"approved": False})
        route.continue_()

    page.route("**/approvals/*", answer_first)
    page.get_by_role("button", name="Approve").click()
    status(page, "completed")
    expect(page.locator("#asks")).to_be_hidden()
    expect(page.locator("#events .row", has_text="approval.resolved")).to_contain_text("denied")


def test_a_pause_holds_the_run_until_it_is_resumed(visit: Visit) -> None:
    """The button says what it would do."""
    run_id = visit.stage.start("rounds")
    page = visit.open(f"#run={run_id}")
    page.get_by_role("button", name="Pause").click()
    status(page, "paused")
    assert visit.stage.run(run_id)["paused"]
    page.get_by_role("button", name="Resume").click()
    status(page, "running")
    listed(page, "run.resumed")
    page.get_by_role("button", name="Stop now").click()
    status(page, "stopped")


def test_the_answer_is_there_as_it_is_written(visit: Visit) -> None:
    """It grows while somebody looks, and is whole at the end."""
    run_id = visit.stage.start("talk")
    page = visit.open(f"#run={run_id}")
    page.get_by_role("button", name="Approve").click()
    answer = page.locator("#answer")
    expect(answer).to_contain_text("The quick brown fox")
    first = len(answer.inner_text())
    page.wait_for_function("(first) => document.getElementById('answer').textContent.length > first + 100", arg=first)
    expect(page.locator("#answer-note")).to_contain_text("It is writing, in turn 2.")
    page.get_by_role("button", name="Stop now").click()
    status(page, "stopped")


def test_an_answer_that_is_opened_in_the_middle_is_there_from_its_beginning(visit: Visit) -> None:
    """A second page comes while the model writes for the first: it shows the same, and goes on with it."""
    run_id = visit.stage.start("talk")
    first = visit.open(f"#run={run_id}")
    first.get_by_role("button", name="Approve").click()
    expect(first.locator("#answer")).to_contain_text("the rain at all. The quick")
    second = visit.page.context.new_page()
    second.goto(f"{visit.stage.url}/live#run={run_id}")
    answer = second.locator("#answer")
    expect(answer).to_have_text(re.compile(f"^{WORDS}The quick"))
    expect(second.locator("#answer-note")).to_have_text("It is writing, in turn 2.")
    length = len(answer.inner_text())
    second.wait_for_function("(length) => document.getElementById('answer').textContent.length > length", arg=length)
    second.get_by_role("button", name="Stop now").click()
    status(second, "stopped")
    text = visit.stage.run(run_id)["text"] or answer.inner_text()
    assert (WORDS * 400).startswith(text.rstrip())


def test_the_time_of_a_run_is_drawn_and_told_in_words(visit: Visit) -> None:
    """Model, tools and the pause before a retry, each with its sum; a subagent's lanes can be singled out."""
    run_id = visit.stage.start("retry")
    page = visit.open(f"#run={run_id}")
    status(page, "completed")
    legend = page.locator(".legend")
    expect(legend).to_contain_text("model calls")
    expect(legend).to_contain_text("pauses before a retry")
    label = re.compile(r"^Timeline: model calls, .*, 2 of them; pauses before a retry 1\.\d s, 1 of them$")
    expect(page.locator("#timeline canvas")).to_have_attribute("aria-label", label)
    assert page.evaluate(
        """() => document.querySelector("#timeline canvas").getContext("2d")
          .getImageData(200, 20, 300, 20).data.some(Boolean)"""
    )


# -- what must not be obeyed


def test_hostile_text_is_shown_as_text(visit: Visit) -> None:
    """Scenario 100: in arguments, results, answers, names and addresses; what cannot be seen is shown as an escape."""
    run_id = visit.stage.start("hostile")
    page = visit.open(f"#run={run_id}")
    arguments = page.locator("#asks .card pre")
    expect(arguments).to_contain_text("<script>window.hit = 1</script><img src=x onerror='window.hit = 2'>")
    expect(arguments).to_contain_text("\\u202egnp.exe\\u202c \\u0000")
    page.get_by_role("button", name="Approve").click()
    status(page, "completed")
    expect(page.locator("#answer")).to_contain_text("<img src=x onerror='window.hit = 2'></script><style>")
    result = page.locator("#events .row", has_text="tool.completed").first
    expect(result).to_contain_text("<script>window.hit = 1</script>")
    result.click()
    expect(page.locator("#event")).to_contain_text("\\u202egnp.exe")
    assert page.evaluate("document.querySelectorAll('main script, main style, main img').length") == 0
    assert page.locator("#event").is_visible()  # `display: none` of a style would hide it
    page.goto(f"{visit.stage.url}/live#run=%3Cimg%20src%3Dx%20onerror%3D%22window.hit%3D4%22%3E")
    visit.expected = ["404"]
    expect(page.locator("#panel-note")).to_contain_text("The server does not have this run: ")
    expect(page.locator("#panel-facts")).to_have_text("unknown")
    expect(page.locator("#time")).to_be_hidden()


def test_a_megabyte_is_shown_and_does_not_hold_up_the_page(visit: Visit) -> None:
    """By its end first, and whole when somebody asks for it."""
    run_id = visit.stage.start("huge")
    page = visit.open(f"#run={run_id}")
    status(page, "completed")
    expect(page.locator("#answer")).to_contain_text("Show all 1.0 M characters")
    assert len(page.locator("#answer").inner_text()) < 110_000
    page.locator("#answer button").click()
    assert page.evaluate("document.getElementById('answer').lastChild.data.length") == 1_000_000
    page.locator("#events .row", has_text="tool.started").click()
    assert len(page.locator("#event").inner_text()) < 60_000
    page.locator("#event button").click()
    assert page.evaluate("document.getElementById('event').textContent.length") > 1_000_000


def told(page: Page, path: str, event: str, *data: Any) -> None:
    """Let a stream of the service tell these events, and end."""
    body = "".join(
        f"event: {event}\nid: a.{number}\ndata: {msgspec.json.encode(each).decode()}\n\n"
        for number, each in enumerate(data, 1)
    )
    page.route(path, lambda route: route.fulfill(headers={"Content-Type": "text/event-stream"}, body=body))


def node(id: str, kind: str, **more: Any) -> dict[str, Any]:
    parent, _, name = id.rpartition("/")
    return {
        "id": id,
        "parent": parent or None,
        "name": name or id,
        "kind": kind,
        "state": "running",
        "began": 0,
        **more,
    }


def test_names_far_down_stay_in_sight_and_hide_nothing(visit: Visit) -> None:
    """Twenty subagents below each other, on a telephone; a name that turns its direction stands there as an escape."""
    below = "s"
    nodes = [node(below, "system")]
    for depth in range(20):
        below += f"/run{depth}"
        nodes.append(node(below, "run", detail={"agent": "dear\u202efdp.exe" if depth == 0 else "worker"}))
        below += f"/delegate:call_{depth}"
        nodes.append(node(below, "tool"))
    page = visit.page
    page.set_viewport_size({"width": 360, "height": 700})
    told(page, "**/tree/events", "tree", {"type": "tree", "version": 1, "time": 0, "nodes": nodes})
    page.goto(f"{visit.stage.url}/live")
    page.get_by_role("searchbox").fill("running")
    expect(page.locator("#rows .row", has_text="dear\\u202efdp.exe")).to_have_count(1)
    page.evaluate("document.getElementById('rows').scrollTop = 1e9")
    last = page.locator("#rows .row[aria-level='42']")
    expect(last).to_contain_text("delegate")
    seen = "(row) => row.querySelector('bdi').getBoundingClientRect().right <= row.getBoundingClientRect().right - 12"
    assert last.evaluate(seen)


def test_what_is_left_out_of_a_very_long_run_is_said_and_still_counted(visit: Visit) -> None:
    """Thousands of events: the list holds the latest, the sums hold all, and times stay readable."""
    run = {"run_id": "long", "path": ["long"], "turn": 1}
    each = [
        {"type": type, "seq": number, "time": number, "call_id": "x", "tool": "t", **run}
        for number, type in enumerate(("tool.started", "tool.completed") * 2_600, 1)
    ]
    page = visit.page
    visit.expected = ["404"]
    told(page, "**/runs/long/events", "event", *each, {"type": "run.completed", "seq": 5_201, "time": 5_201, **run})
    page.goto(f"{visit.stage.url}/live#run=long")
    expect(page.locator("#events .row", has_text="run.completed")).to_contain_text("+1:26:40")
    expect(page.locator("#events .row").first).to_have_attribute("aria-setsize", "4701")
    expect(page.locator("#events-note")).to_have_text("The first 500 are left out here, to spare this browser.")
    expect(page.locator(".legend")).to_contain_text("2600")


# -- the connection


@pytest.mark.leaks("the stage is raised again for the tests that follow", "process")
def test_a_killed_server_shows_as_such_and_the_page_comes_back_by_itself(mortal_visit: Visit) -> None:
    """Another process, another token, the same run of the journal: and what has happened meanwhile is there."""
    stage = mortal_visit.stage
    run_id = stage.start("rounds")
    page = mortal_visit.open(f"#run={run_id}")
    expect(page.locator("#events .row", has_text="tool.completed").first).to_be_visible()
    stage.kill()
    expect(page.locator("#link")).to_contain_text("connection lost, trying again")
    expect(page.locator("#banner")).to_contain_text("No connection to the server.")
    expect(page.locator("#panel-note")).to_contain_text("Connection lost.")
    stage.raise_curtain()
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#panel-note")).to_be_hidden()
    page.locator("#events").evaluate("box => box.scrollTop = 0")
    expect(page.locator("#events .row").first).to_contain_text("run.started")  # what was there before is kept
    listed(page, "the server was started again")
    listed(page, "run.recovered")
    page.get_by_role("button", name="Stop now").click()  # the token of the new process
    status(page, "stopped")
    assert stage.run(run_id)["status"] == "stopped"


@pytest.mark.leaks("the stage is raised again for the tests that follow", "process")
def test_a_server_that_drains_says_so_and_its_run_goes_on_in_the_next_one(mortal_visit: Visit) -> None:
    """An orderly restart: the run ends with its server, is taken up from the journal, and so is the page."""
    stage = mortal_visit.stage
    stage.start("look")  # holds the drain up
    run_id = stage.start("approve")
    page = mortal_visit.open(f"#run={run_id}")
    expect(page.locator("#asks .card")).to_have_count(1)
    stage.process.send_signal(signal.SIGUSR1)
    expect(page.locator("#link")).to_contain_text("draining")
    expect(page.locator("#banner")).to_contain_text("The server is draining: it takes no new work")
    expect(page.locator("#rows .row").first.locator(".c-state")).to_have_text("draining")
    stage.process.wait(20)
    expect(page.locator("#link")).to_contain_text("connection lost, trying again")
    stage.raise_curtain()
    expect(page.locator("#link")).to_have_text("live")
    page.get_by_role("button", name="Approve").click()
    status(page, "completed")
    expect(page.locator("#panel-note")).to_be_hidden()
    expect(page.locator("#answer")).to_have_text("The file is gone.")


@pytest.mark.leaks("the stage is raised again for the tests that follow", "process")
def test_a_server_that_knows_nothing_of_the_run_any_more_says_so(mortal_visit: Visit, journal: Path) -> None:
    """Without its journal a run ends with its process: the page does not pretend that it goes on."""
    stage = mortal_visit.stage
    mortal_visit.expected.append("404")
    page = mortal_visit.open(f"#run={stage.start('rounds')}")
    status(page, "running")
    stage.kill()
    expect(page.locator("#banner")).to_be_visible()
    for each in journal.parent.iterdir():
        each.unlink()
    stage.raise_curtain()
    expect(page.locator("#panel-note")).to_contain_text("The server does not have this run any more")
    expect(page.locator("#deeds")).to_be_hidden()
    expect(page.locator("#totals div").first).to_contain_text("0")


def test_windows_do_not_take_each_other_the_last_connection(visit: Visit) -> None:
    """A browser has six for a server: with a run open in three windows a button works, and a fourth window opens."""
    context = visit.page.context
    for _ in range(2):
        page = context.new_page()
        page.goto(f"{visit.stage.url}/live#run={visit.stage.start('rounds')}")
        status(page, "running")
    run_id = visit.stage.start("rounds")
    page = visit.open(f"#run={run_id}")
    expect(page.locator("#events .row", has_text="tool.completed").first).to_be_visible()
    page.get_by_role("button", name="Stop now").click()
    status(page, "stopped")
    fourth = context.new_page()
    fourth.goto(f"{visit.stage.url}/live")
    expect(fourth.locator("#link")).to_have_text("live")


def test_a_page_that_nobody_looks_at_lets_go_of_its_connections(visit: Visit) -> None:
    """A browser has six for a server: ten forgotten tabs must not lock the eleventh out."""
    run_id = visit.stage.start("rounds")
    page = visit.page
    page.clock.install()
    page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => window.unseen === true })")
    visit.open(f"#run={run_id}")
    turn = "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(f"window.unseen = true; {turn}")
    page.clock.fast_forward(11_000)
    expect(page.locator("#link")).to_contain_text("asleep")
    turns = visit.stage.run(run_id)["turn"]
    while visit.stage.run(run_id)["turn"] < turns + 2:  # the run goes on meanwhile
        time.sleep(0.05)
    page.evaluate(f"window.unseen = false; {turn}")
    expect(page.locator("#link")).to_have_text("live")
    page.get_by_role("button", name="Stop now").click()
    status(page, "stopped")
    expect(page.locator("#events .row", has_text="run.stopped")).to_have_count(1)
    events_shown = page.locator("#events .row").last.get_attribute("aria-setsize")
    answer = httpx.get(f"{visit.stage.url}/runs/{run_id}/events", headers={"Accept": "application/x-ndjson"})
    told = [line for line in answer.text.splitlines() if "_delta" not in line]
    assert events_shown == str(len(told))  # none is missing, and none is there twice


@pytest.mark.parametrize("how", ["refused", "ended"])
def test_a_server_that_ends_is_told_from_one_that_is_lost(visit: Visit, how: str) -> None:
    """It takes nothing new, but answers: its streams end, or are refused."""
    page = visit.open()
    visit.expected = ["503"]
    busy = {"status": 503, "headers": {"Retry-After": "1"}, "json": {"error": {"type": "x", "message": "ending"}}}
    page.route("**/ready", lambda route: route.fulfill(**busy))
    page.route("**/tree/events", lambda route: route.fulfill(**(busy if how == "refused" else {"body": ""})))
    page.reload()
    expect(page.locator("#link")).to_contain_text("ending or busy, trying again")
    expect(page.locator("#banner")).to_contain_text("The server takes no new work")
    page.unroute_all()
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("#banner")).to_be_hidden()


def test_a_protected_service_is_opened_with_its_token_and_one_without_runs_says_how_to_start_one(
    browser: Browser, own_stage: Callable[..., Stage]
) -> None:
    """Asked for once in a tab; a wrong one is asked for again; nothing is shown before, and no figure is made up.

    A newcomer's first look then; and the run that comes needs no reload.
    """
    stage = own_stage("--token", TOKEN, "--bare")
    context = browser.new_context()
    visit = Visit(context, stage)
    visit.expected = ["401"]
    page = visit.page
    page.goto(f"{stage.url}/live")
    field = page.get_by_label("This service is protected. Its token:")
    field.fill("ключ")  # which no browser can send
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#token-note")).to_contain_text("This cannot be a token")
    field.fill("a-wrong-token-for-it")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#token-note")).to_contain_text("does not accept this token")
    assert page.locator("#rows .row").count() == 0
    expect(page.locator("#totals div").first).to_contain_text("not known yet")
    field.fill(TOKEN)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("#empty")).to_contain_text("No run is at work")
    run_id = stage.start("rounds")
    expect(page.locator("#empty")).to_be_hidden()
    page.locator("#rows .row", has_text=run_id).click()
    page.get_by_role("button", name="Stop now").click()
    status(page, "stopped")
    page.reload()
    expect(page.locator("#link")).to_have_text("live")
    visit.check()
    context.close()


# -- people


def test_the_page_is_used_by_keys_alone(visit: Visit) -> None:
    """Search, down to the run, open it, close it; the active row is named for readers of screens."""
    run_id = visit.stage.start("think")
    page = visit.open()
    expect(page.locator("#rows .row", has_text=run_id)).to_have_count(1)
    page.keyboard.press("/")
    page.keyboard.type(run_id)
    expect(page.locator("#rows .row")).to_have_count(3)
    page.locator("#rows").focus()
    page.keyboard.press("End")
    active = page.locator("#rows").get_attribute("aria-activedescendant")
    assert active is not None
    expect(page.locator(f"#{active}")).to_have_attribute("aria-label", re.compile(f"^run, {run_id}, running"))
    page.keyboard.press("Enter")
    expect(page.locator("#panel-kind")).to_have_text(f"run {run_id}")
    assert page.url.endswith(f"#run={run_id}")
    page.get_by_role("button", name="Close").press("Enter")
    expect(page.locator("#panel")).to_be_hidden()
    expect(page.locator("#rows")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#panel")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#panel")).to_be_hidden()
    page.get_by_role("searchbox").fill("")
    page.locator("#rows").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#rows .row").first).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#rows .row").first).to_have_attribute("aria-expanded", "true")
    page.go_back()
    expect(page.locator("#panel-kind")).to_have_text(f"run {run_id}")


def test_the_address_names_the_run_and_brings_its_row_into_sight(visit: Visit) -> None:
    """A link to a run can be sent to somebody else."""
    for _ in range(40):
        run_id = visit.stage.start("think", "writer")
    page = visit.open(f"#run={run_id}")
    expect(page.locator("#rows .row.is-chosen", has_text=run_id)).to_be_in_viewport()


def test_a_run_is_printed_whole_and_in_the_colours_of_paper(browser: Browser, stage: Stage) -> None:
    """Without buttons and the list beside it; and no row of it is missing because it is not in sight."""
    context = browser.new_context(viewport={"width": 1360, "height": 500}, color_scheme="dark")
    visit = Visit(context, stage)
    page = visit.open(f"#run={stage.start('team sections')}")
    status(page, "completed")
    events = page.locator("#events .row")
    rows = int(events.first.get_attribute("aria-setsize") or 0)
    assert events.count() < rows
    page.emulate_media(media="print", color_scheme="dark")
    expect(events).to_have_count(rows)
    expect(page.locator("#list")).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 251, 250)"
    whole = "() => document.getElementById('panel').scrollHeight <= document.documentElement.scrollHeight"
    assert page.evaluate(whole)
    visit.check()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_shows_one_thing_at_a_time(browser: Browser, stage: Stage, scheme: Any) -> None:
    """Nothing is wider than the screen, in either colours; the run covers the list, and closes again."""
    context = browser.new_context(viewport={"width": 360, "height": 700}, color_scheme=scheme)
    visit = Visit(context, stage)
    run_id = stage.start("approve")
    page = visit.open()
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(fits)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 251, 250)"
    assert light == (scheme == "light")
    page.locator("#words").fill(run_id)
    page.locator("#rows .row", has_text=run_id).click()
    expect(page.locator("#panel")).to_be_focused()  # the list, where the focus was, is gone
    expect(page.locator("#asks .card")).to_be_visible()
    expect(page.locator("#list")).to_be_hidden()
    assert page.evaluate(fits)
    page.get_by_role("button", name="Deny").click()
    status(page, "completed")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#list")).to_be_visible()
    visit.check()
    context.close()


# -- the scripts without a page


@pytest.fixture(scope="module")
def scripts(browser: Browser) -> Iterator[Callable[[str, Any], Any]]:
    """Evaluates an expression where the pure scripts are."""
    context = browser.new_context()
    page = context.new_page()
    for name in PURE:
        page.add_script_tag(content=SOURCES.joinpath(name).read_text())
    yield page.evaluate
    context.close()


def event(seq: int, type: str, time: float, run: str = "r", **more: Any) -> dict[str, Any]:
    return {"seq": seq, "type": type, "time": time, "run_id": run, "path": run.split("/"), "turn": 1, **more}


DRAW = """(events) => {
  const line = newTimeline();
  for (const event of events) addToTimeline(line, event);
  return {
    bars: line.bars.map((bar) => [bar.kind, bar.lane.place, bar.from, bar.to, bar.failed]),
    lanes: line.lanes.map((lane) => lane.label),
    open: line.open.size,
  };
}"""


def test_tools_that_run_at_once_have_lanes_of_their_own(scripts: Callable[[str, Any], Any]) -> None:
    """A lane is taken again by the next call, and what waits for approval is in the lane of its call."""
    drawn = scripts(
        DRAW,
        [
            event(1, "run.started", 0, agent="a"),
            event(2, "model.started", 0, model="m", attempt=1),
            event(3, "model.completed", 1, model="m"),
            event(4, "tool.started", 1, call_id="x", tool="slow"),
            event(5, "approval.requested", 1, call_id="y", tool="grave", question="?"),
            event(6, "approval.resolved", 2, call_id="y", tool="grave", answer="approved"),
            event(7, "tool.started", 2, call_id="y", tool="grave"),
            event(8, "tool.failed", 3, call_id="y", tool="grave", result="no", cause="failed"),
            event(9, "tool.started", 3, call_id="z", tool="next"),
        ],
    )
    assert drawn["bars"] == [
        ["model", 0, 0, 1, False],
        ["tool", 1, 1, None, False],
        ["approval", 2, 1, 2, False],
        ["tool", 2, 2, 3, True],
        ["tool", 2, 3, None, False],
    ]
    assert drawn["lanes"] == ["a", "", ""]


def test_a_model_call_is_pale_until_its_first_word_where_somebody_saw_it(scripts: Callable[[str, Any], Any]) -> None:
    """Who came in the middle does not know when the first word came, and is not told a wrong moment."""
    drawn = """(late) => {
      const line = newTimeline();
      addToTimeline(line, { seq: 1, type: "model.started", time: 1, run_id: "r", path: ["r"], model: "m" });
      addToTimeline(line, { seq: 2, type: "model.text_delta", time: 5, run_id: "r", path: ["r"], text: "A" }, late);
      return line.bars[0].first;
    }"""
    assert (scripts(drawn, False), scripts(drawn, True)) == (5, 1)


def test_a_subagent_stands_below_its_run_and_nothing_stays_open_at_the_end(scripts: Callable[[str, Any], Any]) -> None:
    """A crash closes what was open, whoever ends it; a run that ends ends its bars."""
    drawn = scripts(
        DRAW,
        [
            event(1, "run.started", 0, agent="above"),
            event(2, "tool.started", 0, call_id="x", tool="below"),
            event(3, "run.started", 0, "r/s", agent="below"),
            event(4, "model.started", 0, "r/s", model="m", attempt=1),
            event(5, "run.restarted", 1, "r/s", agent="below", restarts=1, error="boom"),
            event(6, "model.started", 1, "r/s", model="m", attempt=1),
            event(7, "model.retrying", 2, "r/s", model="m", attempt=1, delay=1, kind="overloaded", error="busy"),
            event(8, "tool.started", 2, call_id="y", tool="more"),
            event(9, "run.stopped", 3, "r/s", agent="below", reason="user"),
            event(10, "run.stopped", 3, agent="above", reason="user"),
        ],
    )
    assert drawn["open"] == 0
    assert drawn["lanes"] == ["above", "", "", "below"]
    assert [bar for bar in drawn["bars"] if bar[0] == "model"] == [
        ["model", 3, 0, 1, False],
        ["model", 3, 1, 2, True],
    ]


def test_events_are_read_however_they_are_cut(browser: Browser) -> None:
    """Between any two characters, with either line end, with comments and with several lines of data."""
    source = SOURCES.joinpath("wire.js").read_text()
    reader = source[source.index("function eventReader") : source.index("// Follow a stream")]
    text = ": hello\r\n\r\nid: a.1\nevent: change\ndata: {\ndata: }\n\ndata:no space\n\n"
    text += "id: 7\n\nevent: end\r\ndata: é\r\n\r\n"
    context = browser.new_context()
    page = context.new_page()
    page.add_script_tag(content=reader)
    read = page.evaluate(
        """(text) => [1, 2, 3, 5, text.length].map((size) => {
          const found = [], read = eventReader((...event) => { found.push(event); });
          for (let at = 0; at < text.length; at += size) read(text.slice(at, at + size));
          return found;
        })""",
        text,
    )
    context.close()
    whole = [["change", "{\n}", "a.1"], ["message", "no space", None], ["end", "é", None]]
    assert read == [whole] * 5


def test_every_event_that_there_is_has_a_sentence(scripts: Callable[[str, Any], Any]) -> None:
    """One that a newer server sends is told by its fields, and a field that is missing does no harm."""
    names = [each.__struct_config__.tag for each in events.Event.__subclasses__()]
    deltas = {each.__struct_config__.tag for each in events.DELTAS}
    assert scripts("(names) => names.filter((name) => !(name in SAYS))", names) == sorted(deltas, key=names.index)
    assert scripts("say", event(1, "new.thing", 0, what="a thing")) == '{"what":"a thing"}'
    assert scripts("say", event(1, "agent.stuck", 0)) == "{}"
