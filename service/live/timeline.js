// What a run's events say about its time: bars in lanes. No element of the page is touched here.
//
// Each run has one lane for its model, and as many for its tools as are at work at once. A bar is open until the event
// that ends it; one whose end is never told is closed where its run ends or starts again.

const BARS_KEPT = 5_000;
const KINDS = {
  model: "model calls, pale until the first word",
  tool: "tools",
  approval: "waits for approval",
  question: "waits for an answer",
  gate: "waits for admission",
  retry: "pauses before a retry",
  paused: "paused",
};
const ENDS = new Set(["run.completed", "run.stopped", "run.limited", "run.waiting", "run.failed"]);

function newTimeline() {
  const line = { lanes: [], bars: [], marks: [], open: new Map(), runs: new Map(), from: Infinity, to: -Infinity };
  return { ...line, before: new Map(), dropped: false }; // before: the sums of bars that are not kept any more
}

// `isLate`: the first words of the model that writes were told before anybody looked, so nobody knows when they came.
function addToTimeline(line, event, isLate = false) {
  line.from = Math.min(line.from, event.time);
  line.to = Math.max(line.to, event.time);
  const run = runOf(line, event);
  const key = (kind, id = "") => `${event.run_id} ${kind} ${id}`;
  const begin = (kind, lane, label, id = "") => {
    end(line, key(kind, id), event.time, true);
    const bar = { kind, lane, label, from: event.time, to: null, first: null, failed: false, seq: event.seq };
    line.bars.push(bar);
    line.open.set(key(kind, id), bar);
    if (line.bars.length > BARS_KEPT) line.bars = forget(line);
    return bar;
  };
  const close = (kind, id = "", failed = false) => end(line, key(kind, id), event.time, failed);
  const stamp = (kind, label) => {
    line.marks.push({ kind, lane: run.lane, label, at: event.time, seq: event.seq });
    if (line.marks.length > BARS_KEPT) line.marks.shift();
  };

  switch (event.type) {
    case "run.started":
    case "agent.handoff":
      run.lane.label = event.to ?? event.agent;
      break;
    case "run.restarted":
    case "run.recovered":
      run.lane.label = event.agent;
      closeRun(line, event);
      stamp("restart", event.type === "run.restarted" ? "crashed and started again" : "recovered from its journal");
      break;
    case "model.started":
      close("retry");
      begin("model", run.lane, event.model);
      break;
    case "model.text_delta":
    case "model.thinking_delta":
    case "model.tool_args_delta": {
      const bar = line.open.get(key("model"));
      if (bar && bar.first === null) bar.first = isLate ? bar.from : event.time;
      break;
    }
    case "model.completed":
      close("model");
      break;
    case "model.failed":
      close("model", "", true);
      break;
    case "model.retrying":
      close("model", "", true);
      begin("retry", run.lane, `try ${event.attempt + 1} of ${event.model}`);
      break;
    case "gate.waiting":
      begin("gate", run.lane, `${event.model}: ${event.reason}`);
      break;
    case "gate.opened":
      close("gate");
      break;
    case "tool.started":
      begin("tool", toolLane(line, run, event.call_id), event.tool, event.call_id);
      break;
    case "tool.retrying":
      close("tool", event.call_id, true);
      begin("retry", toolLane(line, run, event.call_id), `${event.tool} again`, event.call_id);
      break;
    case "tool.completed":
    case "tool.failed":
    case "tool.outlived":
      for (const kind of ["question", "approval", "retry"]) close(kind, event.call_id);
      close("tool", event.call_id, event.type !== "tool.completed");
      run.calls.delete(event.call_id);
      break;
    case "approval.requested":
      begin("approval", toolLane(line, run, event.call_id), event.tool, event.call_id);
      break;
    case "approval.resolved":
      close("approval", event.call_id, event.answer !== "approved");
      break;
    case "message.asked":
      begin("question", toolLane(line, run, event.call_id), event.tool, event.call_id);
      break;
    case "message.answered":
      close("question", event.call_id, event.outcome !== "answered");
      break;
    case "message.delivered":
      stamp("message", "a message arrives");
      break;
    case "run.paused":
      begin("paused", run.lane, "paused");
      break;
    case "run.resumed":
      close("paused");
      break;
    case "events.dropped":
      line.dropped = true;
      break;
    default:
      if (ENDS.has(event.type)) closeRun(line, event);
  }
}

function end(line, key, time, failed) {
  const bar = line.open.get(key);
  if (!bar) return;
  bar.to = time;
  bar.failed = failed;
  line.open.delete(key);
}

function closeRun(line, event) {
  for (const key of [...line.open.keys()]) if (key.startsWith(`${event.run_id} `)) end(line, key, event.time, false);
  line.runs.get(event.run_id).calls.clear();
}

function runOf(line, event) {
  let run = line.runs.get(event.run_id);
  if (!run) {
    const above = line.runs.get(event.path?.[event.path.length - 2]);
    const lane = { run: event.run_id, label: event.agent ?? event.run_id, level: (event.path?.length ?? 1) - 1, place: 0 };
    run = { lane, tools: [], calls: new Map() };
    line.runs.set(event.run_id, run);
    insert(line, lane, above ? after(line, above) : line.lanes.length);
  }
  return run;
}

// The lane of a tool call: the first of its run that no other call is in.
function toolLane(line, run, call) {
  if (run.calls.has(call)) return run.calls.get(call);
  const taken = new Set(run.calls.values());
  let lane = run.tools.find((each) => !taken.has(each));
  if (!lane) {
    lane = { run: run.lane.run, label: "", level: run.lane.level, place: 0 };
    const last = run.tools.at(-1) ?? run.lane;
    run.tools.push(lane);
    insert(line, lane, last.place + 1);
  }
  run.calls.set(call, lane);
  return lane;
}

function insert(line, lane, place) {
  line.lanes.splice(place, 0, lane);
  for (let at = place; at < line.lanes.length; at += 1) line.lanes[at].place = at;
}

// Behind the lanes of a run and of all below it.
function after(line, run) {
  let place = run.lane.place + 1;
  while (place < line.lanes.length) {
    const lane = line.lanes[place];
    if (lane.run !== run.lane.run && lane.level <= run.lane.level) break;
    place += 1;
  }
  return place;
}

// The oldest bars that are over become sums.
function forget(line) {
  const over = new Set(line.bars.filter((bar) => bar.to !== null).slice(0, BARS_KEPT / 10));
  for (const bar of over) addTo(line.before, bar, bar.to);
  return line.bars.filter((bar) => !over.has(bar));
}

function addTo(spent, bar, until) {
  const { count: number = 0, seconds: took = 0 } = spent.get(bar.kind) ?? {};
  spent.set(bar.kind, { count: number + 1, seconds: took + Math.max(until - bar.from, 0) });
}

// How long all bars of a kind took together, and how many there were.
function timeSpent(line, now) {
  const spent = new Map(line.before);
  for (const bar of line.bars) addTo(spent, bar, bar.to ?? now);
  return spent;
}

// Steps of a scale that people count in.
function stepOf(span, most) {
  const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600];
  return steps.find((step) => span / step <= most) ?? 86400 * Math.ceil(span / most / 86400);
}
