// The panel of one run: its time, its answer, its events, its questions, and what can be done with it.

const EVENTS_KEPT = 5_000;
const QUIET = new Set(["model.text_delta", "model.thinking_delta", "model.tool_args_delta"]);
const ASKING = /^(approval\.|message\.(asked|answered)|run\.(completed|stopped|limited|waiting|failed)$)/u;

// tree: what is known of the tree; serverNow(): the server's clock; leave(): the panel was closed; showAll(id): no longer
// the subagent alone; changed(): it is to be drawn.
function runPanel({ tree, serverNow, leave, showAll, changed }) {
  const panel = $("panel");
  const drafts = new Map(); // messages that were begun and not sent, by their runs
  let run = null; // of the run that is shown: see open
  let dirty = false;

  const cards = questionCards($("asks"), (path, body) => call("POST", path, body).finally(refresh));
  const answer = answerView($("answer"), $("answer-note"));
  const time = timelineView($("timeline"), {
    now: serverNow,
    line: () => run?.line ?? newTimeline(),
    focus: () => run?.focus ?? null,
  });
  const events = eventList();

  $("panel-close").addEventListener("click", leave);
  $("latest").addEventListener("change", (event) => time.showLatest(event.target.checked));
  $("focus").addEventListener("click", () => showAll(run.id));
  $("send").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = $("send-text");
    const message = field.value;
    if (!message.trim()) return field.focus();
    const sentTo = run;
    deed("messages", { message, when: $("send-when").value }, "The message is on its way.").then((done) => {
      if (!done) return;
      drafts.delete(sentTo.id);
      if (run === sentTo && field.value === message) field.value = "";
    });
  });
  $("send-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      $("send").requestSubmit();
    }
  });
  $("pause").addEventListener("click", () =>
    isPaused()
      ? deed("resume", undefined, "It goes on.")
      : deed("pause", undefined, "It finishes the step at hand, and begins nothing new until you let it go on."),
  );
  for (const each of panel.querySelectorAll("[data-stop]")) {
    each.addEventListener("click", () => deed("stop", { mode: each.dataset.stop }, "It was asked to stop."));
  }

  // Show a run; `focus` is the subagent that is meant, or null.
  function open(id, focus) {
    if (run?.id === id) {
      run.focus = focus;
      return change();
    }
    close();
    run = { id, focus, events: [], cut: 0, line: newTimeline(), answers: newAnswers(), info: null };
    Object.assign(run, { ended: false, endedAs: null, rises: false, gone: null, lost: null, last: null, stop: null });
    panel.hidden = false;
    panel.classList.remove("is-actor");
    panel.scrollTop = 0;
    events.clear();
    $("send-text").value = drafts.get(id) ?? "";
    write($("deed-note"), "");
    attend();
    change();
  }

  // Follow the run that is open, behind the last event of it that is known.
  function attend() {
    const opened = run;
    run.stop = follow(`runs/${encodeURIComponent(run.id)}/events`, {
      since: run.last,
      onEvent: (type, event, last) => opened === run && take(event, last),
      onState: (state, more) => opened === run && linked(state, more),
    });
  }

  // The run has ended, as far as it was told.
  function end() {
    if (run.ended) return;
    run.ended = true;
    run.endedAs = live(tree, run.id);
  }

  // With a journal, a run that ended with its server goes on in the next one. It is then in the tree as another node.
  function rise() {
    const node = live(tree, run.id);
    if (!(run.ended || run.gone !== null) || node === null || node === run.endedAs) return;
    run.endedAs = node;
    run.rises = true;
    refresh();
  }

  // Show what is no run: an actor, a supervisor, a system.
  function openActor(node) {
    close();
    panel.hidden = false;
    panel.classList.add("is-actor");
    showActor(node);
  }

  function close() {
    run?.stop();
    if (run && $("send-text").value.trim()) drafts.set(run.id, $("send-text").value);
    else if (run) drafts.delete(run.id);
    run = null;
    events.clear();
    panel.hidden = true;
    cards.clear();
    answer.clear();
    delete panel.dataset.node;
  }

  function linked(state, more) {
    run.lost = state === "lost" || state === "busy" ? more : null;
    run.gone = state === "gone" ? more : null;
    if (state === "over") end();
    if (state === "open") {
      const opened = performance.now();
      breakAnswers(run.answers, () => serverNow() - (performance.now() - opened) / 1000);
      refresh();
    }
    change();
  }

  function take(event, last) {
    const era = (id) => id?.split(".", 1)[0];
    if (run.last !== null && era(last) !== era(run.last)) {
      const started = { type: "server.restarted", seq: 0, time: event.time, run_id: run.id, path: [run.id], turn: 0 };
      run.events.push(started);
    }
    run.last = last;
    if (event.type === "model.completed" && event.run_id === run.id && isPartial(run.answers, run.id)) refresh();
    addToTimeline(run.line, event, isPartial(run.answers, event.run_id));
    addToAnswers(run.answers, event);
    if (!QUIET.has(event.type)) run.events.push(event);
    if (run.events.length > EVENTS_KEPT) run.cut += run.events.splice(0, EVENTS_KEPT / 10).length;
    if (event.type === "approval.resolved") cards.settle(event);
    if (ASKING.test(event.type)) refresh();
    const isLast = event.run_id === run.id && ENDS.has(event.type);
    if (isLast) end();
    change();
    return isLast;
  }

  // Ask the server what the run says of itself: at the beginning, and when its questions have changed.
  async function refresh() {
    const asked = run;
    if (!asked || asked.asking) return void (asked && (asked.again = true));
    asked.asking = true;
    const at = performance.now();
    try {
      const info = await call("GET", `runs/${encodeURIComponent(asked.id)}`);
      if (asked !== run) return;
      run.info = info;
      if (info.status !== "running") end();
      else if (run.rises) {
        run.stop(); // which may still be trying
        Object.assign(run, { ended: false, gone: null });
        attend();
      }
      run.rises = false;
      if (info.status !== "running" && info.text) endAnswer(run.answers, run.id, info.text);
      else if (info.text) takeWhole(run.answers, run.id, info.turn, info.text);
      const lane = run.line.runs.get(run.id)?.lane;
      if (lane?.label === run.id) lane.label = info.agent; // how it began is not kept any more
      const [approvals, questions] = run.ended ? [[], []] : [info.pending, info.questions];
      cards.show(run.id, approvals, questions, at);
    } catch (error) {
      if (error.status === 404 || error.status === 410) asked.gone = error.message;
      else if (asked.rises) asked.endedAs = null; // it is asked again
    }
    asked.asking = false;
    if (asked.again) {
      asked.again = false;
      refresh();
    }
    change();
  }

  async function deed(what, body, words) {
    const asked = run;
    let refused = "";
    try {
      await call("POST", `runs/${encodeURIComponent(run.id)}/${what}`, body);
    } catch (error) {
      refused = plainly(`Not done: ${error.message}`);
    }
    if (asked === run) {
      $("deed-note").classList.toggle("refused", refused !== "");
      write($("deed-note"), refused || words);
    }
    refresh();
    return refused === "";
  }

  // -- showing

  function change() {
    dirty = true;
    changed();
  }

  function isPaused() {
    const node = live(tree, run.id);
    return node ? paused(node) : Boolean(run.info?.paused);
  }

  // Called for every frame in which something has changed, and now and then.
  function draw(regularly) {
    if (panel.dataset.node) {
      const node = tree.nodes.get(panel.dataset.node);
      if (regularly && node) showActor(node);
      else if (regularly) note("It is not there any more. This is how it was last seen.", false);
    }
    if (!run || !(dirty || regularly)) return;
    dirty = false;
    if (regularly) rise();
    if (regularly && !run.ended && run.lost === null && isPartial(run.answers, run.id)) refresh();
    showHead();
    const shown = run.focus === null ? run.events : run.events.filter((event) => event.path.includes(run.focus));
    events.show(shown, run);
    showAnswer();
    time.draw();
    if (regularly) time.sum();
  }

  function showHead() {
    const node = live(tree, run.id);
    const info = run.info;
    const unknown = run.gone !== null && info === null && run.events.length === 0;
    const over = run.ended || run.gone !== null;
    const told = over && !node ? (info?.status ?? "ended") : (node?.state ?? info?.status ?? "asking");
    const status = unknown ? "unknown" : told;
    const tokens = node?.detail.tokens ?? info?.usage?.total_tokens;
    const cost = node?.detail.cost ?? info?.cost;
    write($("panel-kind"), plainly(`run ${run.id}`));
    write($("panel-name"), plainly(node?.detail.agent ?? info?.agent ?? run.line.runs.get(run.id)?.lane.label ?? run.id, ""));
    const took = (Date.parse(info?.ended_at) - Date.parse(info?.started_at)) / 1000;
    showFacts([
      [node && asks(node) ? "needs you" : "", "asks"],
      [status, toneOfState(status)],
      [node ? age(serverNow() - node.born) : Number.isFinite(took) ? `took ${seconds(took)}` : ""],
      [node?.detail.turn || info?.turn ? `turn ${node?.detail.turn ?? info.turn}` : ""],
      [tokens != null ? `${count(tokens)} tokens` : ""],
      [cost ? money(cost) : ""],
      [node?.restarts ? some(node.restarts, "restart") : "", "bad"],
      [node?.depth ? `${some(node.depth, "message")} waiting` : ""],
    ]);
    const reason = REASONS[info?.reason] ?? info?.reason;
    const why = run.ended && info && info.status !== "completed" ? (info.error ?? reason) : "";
    note(
      run.gone !== null
        ? `The server does not have this run${unknown ? "" : " any more"}: ${run.gone}`
        : run.lost !== null
          ? "Connection lost. What happens meanwhile will be shown as soon as the server answers again."
          : why
            ? `It is over: ${why}`
            : "",
      run.gone !== null || run.lost !== null || status === "failed",
    );
    panel.classList.toggle("is-unknown", unknown);
    for (const field of $("deeds").querySelectorAll("button, textarea, select")) field.disabled = over;
    $("deeds").hidden = over;
    write($("pause"), isPaused() ? "Resume" : "Pause");
    $("focus").hidden = run.focus === null;
    write($("focus"), plainly(`Only the subagent ${run.focus}. Show all`));
  }

  function showFacts(facts) {
    const shown = facts.filter(([words]) => words);
    const box = $("panel-facts");
    while (box.children.length > shown.length) box.lastChild.remove();
    shown.forEach(([words, tone], at) => {
      const item = box.children[at] ?? box.appendChild(el("li"));
      item.className = tone ? `is-${tone}` : "";
      write(item, words);
    });
  }

  function note(words, grave) {
    const box = $("panel-note");
    box.hidden = words === "";
    box.classList.toggle("grave", grave);
    write(box, plainly(clip(words, 2_000)));
  }

  function showAnswer() {
    const known = run.answers.of.get(run.focus ?? run.id);
    answer.show(known?.text ?? "");
    if (!known?.text) answer.say(run.ended ? "It has written nothing." : "It has written nothing yet in this turn.");
    else if (known.over) answer.say("");
    else if (known.written) answer.say(`This it said in turn ${known.turn}.`);
    else {
      const cut = known.partial && !known.whole ? "You see it from where you came in. " : "";
      answer.say(`${cut}It is writing, in turn ${known.turn}.`);
    }
  }

  function showActor(node) {
    panel.dataset.node = node.id;
    write($("panel-kind"), node.kind);
    write($("panel-name"), plainly(node.label, ""));
    note("", false);
    showFacts([
      [node.state, toneOfState(node.state)],
      [age(serverNow() - node.born)],
      [node.children.size ? some(node.children.size, "child", "children") : ""],
      [node.depth ? `${some(node.depth, "message")} waiting` : "mailbox empty"],
      [node.restarts ? some(node.restarts, "restart") : "never restarted", node.restarts ? "bad" : ""],
    ]);
    write($("about"), `${ABOUT[node.kind] ?? ""} ${asJson(node.detail) === "{}" ? "" : plainly(asJson(node.detail, 2))}`);
    $("about").hidden = false;
  }

  return { open, openActor, close, draw };
}

const REASONS = {
  user: "somebody has stopped it.",
  abandoned: "nobody followed it any more.",
  system: "its server has ended. With a journal it goes on when the server is back, and so does this page.",
};

const ABOUT = {
  system: "The root: it holds all runs and all actors of this service, and ends them in order.",
  supervisor: "It starts its children, hears of it when one crashes, and starts that one again, or gives up.",
  actor: "A long-lived part of the program, which takes one message at a time.",
  toolset: "What tools keep open, such as a session with a server. Who crashes is opened again.",
};

const TONES = {
  running: "good",
  open: "good",
  completed: "good",
  paused: "caution",
  pausing: "caution",
  stopping: "caution",
  closing: "caution",
  draining: "caution",
  limited: "caution",
  waiting: "asks",
  unfinished: "caution",
  suspended: "caution",
  restarting: "bad",
  failed: "bad",
  damaged: "bad",
};
const toneOfState = (state) => TONES[state] ?? "soft";
