// An event in a sentence, for the list of events.

const args = (event) => `${event.tool}(${event.arguments ? oneLine(asJson(event.arguments), 200) : ""})`;
const tokens = (usage) => (usage ? `, ${count(usage.input_tokens ?? 0)} + ${count(usage.output_tokens ?? 0)} tokens` : "");
const again = (event) => `again in ${seconds(event.delay)}, as try ${event.attempt + 1}: ${event.error}`;

const lastLine = (words) => words.trimEnd().split("\n").at(-1); // of a command's output, say

const SAYS = {
  "run.started": (e) => `a run of ${e.agent} begins`,
  "run.restarted": (e) => `crashed, and goes on from its journal (restart ${e.restarts}): ${e.error}`,
  "run.recovered": (e) => `goes on from its journal, ${["", ...(e.changes ?? [])].join(" ")}`.trim(),
  "run.completed": (e) => `done${tokens(e.usage)}${e.text ? `: ${e.text}` : ""}`,
  "run.stopped": (e) => `stopped (${e.reason})${e.outlived?.length ? `; still running: ${e.outlived.join(", ")}` : ""}`,
  "run.limited": (e) => `ended at a limit: ${e.reason}`,
  "run.waiting": (e) => `ended, and waits for approvals: ${e.pending?.join(", ") ?? ""}`,
  "run.failed": (e) => `failed (${e.reason}): ${e.error}`,
  "run.paused": () => "paused: it begins nothing new",
  "run.resumed": () => "goes on",
  "run.stop_poll_failed": (e) => `its stop signal could not be asked: ${e.error}`,
  "limit.warning": (e) => `${e.limit}: ${count(e.used)} of ${count(e.allowed)} used`,
  "agent.handoff": (e) => `goes on with ${e.to}`,
  "agent.adopted": (e) => `${e.agent} has outlived the run above it`,
  "agent.replanning": (e) => `is told to look at its plan, after ${some(e.turns, "turn")}`,
  "agent.stuck": (e) => `made the same calls ${e.repeats} times: ${e.tools.join(", ")}`,
  "message.queued": (e) => `a message is on its way: ${e.text ?? ""}`,
  "message.delivered": (e) => `a message has arrived: ${e.text ?? ""}`,
  "message.asked": (e) => `${e.tool} asks: ${e.question}`,
  "message.answered": (e) => (e.outcome === "answered" ? `answered: ${e.text ?? ""}` : `the question is ${e.outcome}`),
  "context.overflow": (e) => `the conversation is too long: ${count(e.tokens)} tokens`,
  "context.compacted": (e) => `less is sent (${e.how}): ${e.messages_before} → ${e.messages_after} messages`,
  "turn.started": (e) => `turn ${e.turn}`,
  "turn.ended": (e) => `turn ${e.turn} is over`,
  "model.started": (e) => `asks ${e.model}${e.attempt > 1 ? ` (try ${e.attempt})` : ""}`,
  "model.completed": (e) =>
    `${e.model} has answered${tokens(e.usage)}${e.tool_calls ? `, ${some(e.tool_calls, "tool call")}` : ""}`,
  "model.retrying": (e) => `${e.kind}; ${again(e)}`,
  "model.fallback": (e) => `${e.provider} passed over (${e.kind}), asks ${e.next_provider}: ${e.next_model}`,
  "model.failed": (e) => `${e.kind}: ${e.error}`,
  "gate.waiting": (e) => `waits for admission to ${e.provider} (${e.reason}), ${count(e.ahead ?? 0)} ahead`,
  "gate.opened": (e) => `admitted after ${seconds(e.waited)}`,
  "tool.started": args,
  "tool.progress": (e) => `${e.tool}: ${typeof e.progress === "string" ? lastLine(e.progress) : asJson(e.progress)}`,
  "tool.completed": (e) => `${e.tool} → ${e.result}`,
  "tool.failed": (e) => `${e.tool} (${e.cause}): ${e.result}`,
  "tool.outlived": (e) => `${e.tool} was given up, and still runs`,
  "tool.retrying": (e) => `${e.tool} ${again(e)}`,
  "tool.blocked": (e) => `${e.tool} has kept everything else waiting for ${seconds(e.seconds)}`,
  "approval.requested": (e) => `${args(e)} wants an approval${e.question ? `: ${e.question}` : ""}`,
  "approval.resolved": (e) => `${e.tool} ${e.answer}${e.reason ? `: ${e.reason}` : ""}`,
  "toolset.opened": (e) => `${e.toolset} is open${e.again ? " again" : ""}`,
  "toolset.lost": (e) => `${e.toolset} has crashed, and is opened again${e.error ? `: ${e.error}` : ""}`,
  "events.dropped": (e) => `up to ${some(e.count, "event")} before this are not kept any more`,
};

const PLACE = new Set(["type", "seq", "time", "run_id", "path", "turn", "parent_id", "user_id", "conversation_id"]);

function say(event) {
  try {
    if (SAYS[event.type]) return oneLine(String(SAYS[event.type](event)), 400);
  } catch {
    // a newer server says something else by this name
  }
  return oneLine(asJson(Object.fromEntries(Object.entries(event).filter(([name]) => !PLACE.has(name)))), 400);
}

// Which colour an event has: that of its bar, or of how grave it is.
function toneOf(type) {
  if (/failed|restarted|outlived|blocked|stuck|lost/u.test(type)) return "bad";
  if (/retrying|limit|dropped|overflow|fallback/u.test(type)) return "caution";
  if (/^approval|asked|paused/u.test(type)) return "asks";
  if (/^run\.completed/u.test(type)) return "good";
  return type.split(".", 1)[0];
}
