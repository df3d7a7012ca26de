// The head of the page: the connection, the figures of the whole system, and the question for a token.

// state: how it is (`link`), when it is tried again (`next`, in seconds), and why not (`why`).
function showLink(state) {
  const wait = Math.max(Math.ceil(state.next - Date.now() / 1000), 0);
  const words = {
    connecting: "connecting",
    open: "live",
    lost: `connection lost, trying again${wait ? ` in ${wait} s` : ""}`,
    busy: `the server is ending or busy, trying again${wait ? ` in ${wait} s` : ""}`,
    asleep: "asleep while nobody looks",
    gone: `refused: ${state.why}`,
  };
  $("link").className = `is-${{ open: "good", connecting: "soft", asleep: "soft" }[state.link] ?? "bad"}`;
  write($("link").lastElementChild, words[state.link]);
  const lost = state.link === "lost" || state.link === "busy" || state.link === "gone";
  document.body.classList.toggle("is-lost", lost);
  $("banner").hidden = !lost;
  const stale = "What you see is how it was before. The page comes back by itself and shows what has happened meanwhile.";
  const why = {
    lost: `No connection to the server. ${stale}`,
    busy: `The server takes no new work: it is ending, or has too much to do. ${stale}`,
    gone: `The server refuses this page: ${state.why}`,
  };
  if (lost) write($("banner"), why[state.link]);
}

function showTotals(sum, isLive) {
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
    write(tile.children[1], figure);
    write(tile.children[2], more);
    tile.classList.toggle("is-asks", name === "need you" && sum.asks > 0);
    tile.classList.toggle("is-bad", name === "restarts" && sum.restarts > 0);
  });
  const title = `${sum.asks ? `(${sum.asks}) ` : ""}${isLive ? "" : "… "}greenroom`;
  if (document.title !== title) document.title = title;
}

access.ask = (again) => {
  $("token").hidden = false;
  if (again) write($("token-note"), "The server does not accept this token.");
  $("token-text").focus();
};
$("token").addEventListener("submit", (event) => {
  event.preventDefault();
  $("token").hidden = true;
  giveToken($("token-text").value.trim());
  $("token-text").value = "";
});
