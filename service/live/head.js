// The head of the page: the connection, the figures of the whole system, and the question for a token.

// state: how it is (`link`), when it is tried again (`next`, in seconds), and why not (`why`). The seconds stand beside the
// words that a reader of screens is told, not among them.
function showLink(state, isDraining) {
  const link = state.link === "open" && isDraining ? "draining" : state.link;
  const wait = Math.max(Math.ceil(state.next - Date.now() / 1000), 0);
  const words = {
    connecting: "connecting",
    open: "live",
    draining: "live, draining",
    lost: "connection lost, trying again",
    busy: "the server is ending or busy, trying again",
    asleep: "asleep while nobody looks",
    gone: `refused: ${state.why}`,
  };
  const tones = { open: "good", draining: "caution", connecting: "soft", asleep: "soft" };
  $("link").className = `is-${tones[link] ?? "bad"}`;
  write($("link-words"), plainly(words[link]));
  write($("link-wait"), wait && (link === "lost" || link === "busy") ? `in ${wait} s` : "");
  const lost = link === "lost" || link === "busy" || link === "gone";
  document.body.classList.toggle("is-lost", lost);
  $("banner").hidden = !lost && link !== "draining";
  $("banner").className = link === "draining" ? "is-mild" : "";
  const stale = "What you see is how it was before. The page comes back by itself and shows what has happened meanwhile.";
  const why = {
    lost: `No connection to the server. ${stale}`,
    busy: `The server takes no new work: it is ending, or has too much to do. ${stale}`,
    gone: `The server refuses this page: ${state.why}`,
    draining: "The server is draining: it takes no new work, runs have a moment to finish, and then it ends.",
  };
  if (!$("banner").hidden) write($("banner"), plainly(why[link]));
}

// known: whether the server has said anything yet.
function showTotals(sum, isLive, known) {
  const others = [...sum.states].filter(([name]) => name !== "running").map(([name, runs]) => `${count(runs)} ${name}`);
  const unpriced = sum.tokens && !sum.cost;
  const figures = [
    ["live runs", count(sum.runs), others.join(", ") || (sum.runs ? "all running" : "none now")],
    ["need you", count(sum.asks), sum.asks ? "waiting for an answer" : "nobody waits for you"],
    ["tools at work", count(sum.tools), sum.subagents ? some(sum.subagents, "subagent") : "no subagents"],
    ["restarts", count(sum.restarts), sum.restarts ? "of what lives now" : "nothing has crashed"],
    ["tokens", count(sum.tokens), "of live runs"],
    ["cost", sum.cost ? money(sum.cost) : NOTHING, unpriced ? "no prices known" : "of live runs"],
  ];
  write($("asking"), sum.asks ? `Needs you (${sum.asks})` : "Needs you");
  const box = $("totals");
  figures.forEach(([name, figure, more], place) => {
    const tile = box.children[place] ?? box.appendChild(el("div", {}, el("dt"), el("dd"), el("dd", { class: "more" })));
    write(tile.children[0], name);
    write(tile.children[1], known ? figure : NOTHING);
    write(tile.children[2], known ? more : "not known yet");
    tile.classList.toggle("is-asks", name === "need you" && sum.asks > 0);
    tile.classList.toggle("is-bad", name === "restarts" && sum.restarts > 0);
  });
  const title = `${sum.asks ? `(${sum.asks}) ` : ""}${isLive ? "" : "… "}greenroom`;
  if (document.title !== title) document.title = title;
}

// What a browser can send in a header.
const SENDABLE = /^[\x21-\x7e]+$/u;

access.ask = (again) => {
  $("token").hidden = false;
  if (again) write($("token-note"), "The server does not accept this token.");
  $("token-text").focus();
};
$("token").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("token-text").value.trim();
  if (!SENDABLE.test(token)) {
    write($("token-note"), "This cannot be a token: it has characters other than letters from A to Z, figures and signs.");
    return;
  }
  $("token").hidden = true;
  giveToken(token);
  $("token-text").value = "";
});
