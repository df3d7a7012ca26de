// The page: the tree in its list, the figures at the top, the connection, and which run is open.
//
// Changes are collected, and drawn once for a frame; the order of the rows is worked out at most a few times a second.

const REORDER = 250; // milliseconds
const LARGE = 100; // runs of one agent
const ENDED_LISTED = 50;
const RELIST = 3_000; // milliseconds
const LOOKUPS = 4; // at the same time

const tree = newTree();
const view = { words: "", only: "all", order: "oldest", folded: new Map(), seen: false };
let rows = [];
let skew = 0; // of the server's clock before ours, in seconds
let ordered = { at: -REORDER, version: -1 };
let state = { link: "connecting", next: 0 };
let selected = null; // the key of a row
let sought = false; // whether that row is still to be brought into sight

const now = () => Date.now() / 1000;
const serverNow = () => now() + skew;
const panel = runPanel({ tree, serverNow, leave, showAll: (id) => go(runHash(id), selected), changed: schedule });

const list = rowList($("rows"), {
  make: makeRow,
  fill(element, row) {
    fillRow(element, row, { tree, now: serverNow(), chosen: selected });
    if (row.node?.known === false) lookUp(row.node.name);
  },
  count: () => rows.length,
  at: (index) => rows[index],
  press: (row, index, event) => (row.folds && (!row.node || event.target.closest?.(".fold")) ? fold(row) : choose(row)),
  key: turn,
});

// -- the rows

for (const name of COLUMNS) {
  const sort = SORTS[name] ?? name;
  const head = name !== UNSORTED ? button(name, () => order(name === "age" && view.order === "oldest" ? "newest" : sort)) : name;
  if (head !== name) head.tabIndex = -1; // the same choice is in the list beside the search
  $("heads").append(el("span", { class: `c-${name}` }, head));
}

function fold(row) {
  if (view.words || view.only !== "all") return; // what is searched for is always unfolded
  view.folded.set(row.key, row.open);
  reorder();
}

function turn(event, row, index, move) {
  if (event.key === "ArrowRight" && row.folds) row.open ? move(index + 1) : fold(row);
  else if (event.key === "ArrowLeft") {
    if (row.folds && row.open) fold(row);
    else for (let up = index - 1; up >= 0; up -= 1) if (rows[up].level < row.level) return move(up), true;
  } else return false;
  return true;
}

function order(name) {
  view.order = name;
  $("order").value = name;
  reorder();
}

function reorder() {
  ordered = { at: -REORDER, version: -1 };
  schedule();
}

// Who comes to a large System sees its agents and their sums first. A group that grows later stays as it is.
function foldLarge() {
  view.seen = true;
  for (const row of rowsOf(tree, view)) if (row.sum?.runs > LARGE) view.folded.set(row.key, true);
}

function narrow(change) {
  Object.assign(view, change);
  for (const each of document.querySelectorAll("[data-only]")) mark(each, "aria-pressed", each.dataset.only === view.only);
  list.reset();
  reorder();
}

// -- what is open: the address says it, so that it can be kept and sent to others

function choose(row) {
  const { node } = row;
  const run = node && rootRun(tree, node);
  if (!node) return;
  if (!run) return go(`node=${encodeURIComponent(node.id)}`);
  const inner = isRun(node) ? node : runAbove(tree.nodes, node);
  go(`${runHash(run.name)}${inner !== run ? `&focus=${encodeURIComponent(inner.name)}` : ""}`, node.id);
}

const runHash = (id) => `run=${encodeURIComponent(id)}`;

function leave() {
  go("");
  $("rows").focus();
}

function go(hash, key = null) {
  selected = key;
  sought = false;
  if (location.hash.slice(1) !== hash) history.pushState(null, "", `#${hash}`);
  arrive();
}

function arrive() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const node = tree.nodes.get(asked.get("node"));
  if (asked.get("run")) panel.open(asked.get("run"), asked.get("focus"));
  else if (node) panel.openActor(node);
  else panel.close();
  if (!location.hash.slice(1)) selected = null;
  else if (selected === null) sought = true;
  document.body.classList.toggle("has-panel", !$("panel").hidden);
  if (!$("panel").hidden && getComputedStyle($("list")).display === "none") $("panel").focus(); // no room for both
  reorder();
}

// Who has come by an address, and not by the row, finds the row in sight.
function seek() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const key = asked.get("node") ?? live(tree, asked.get("run"))?.id ?? `ended:${asked.get("run")}`;
  const index = rows.findIndex((row) => row.key === key);
  const run = live(tree, asked.get("run"));
  if (index < 0 && run && view.folded.get(`agent:${agentOf(run)}`)) {
    view.folded.delete(`agent:${agentOf(run)}`);
    reorder();
  }
  if (index < 0) return;
  selected = key;
  sought = false;
  list.reveal(index);
}

window.addEventListener("popstate", () => ((selected = null), arrive()));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("panel").hidden && !event.isComposing) {
    // Who writes leaves the field first.
    if (event.target.value && event.target.matches("#panel textarea, #panel input[type=text]")) $("panel").focus();
    else leave();
  } else if (event.key === "/" && !event.target.closest("input, textarea, select")) {
    event.preventDefault();
    $("words").focus();
  }
});

// -- the tools above the list

$("words").addEventListener("input", (event) => narrow({ words: event.target.value }));
for (const each of document.querySelectorAll("[data-only]")) {
  each.addEventListener("click", () => narrow({ only: each.dataset.only }));
}
$("order").addEventListener("change", (event) => order(event.target.value));
$("fold").addEventListener("click", () => {
  const folds = rows.some(isOpenGroup);
  view.folded.clear();
  if (folds) for (const row of rows.filter(isOpenGroup)) view.folded.set(row.key, true);
  reorder();
});
const isOpenGroup = (row) => !row.node && row.open;

// -- the connection

follow("tree/events", {
  onEvent(type, data) {
    schedule();
    skew = data.time - now();
    if (type === "change") return takeChange(tree, data);
    takeSnapshot(tree, data.nodes);
    if (data.nodes.length && !view.seen) foldLarge();
    if (location.hash && $("panel").hidden) arrive();
    listEnded();
  },
  onState(link, more) {
    state = { link, next: now() + (typeof more === "number" ? more : 0), why: more };
    showLink(state, isDraining(tree));
  },
});

// Runs that had ended before this page came, or while it had no connection, and those that were too short to be seen in
// the tree. A list that takes its server long, of a large journal, is asked for less often.
let listing = 0;
async function listEnded() {
  clearTimeout(listing);
  const began = performance.now();
  const asked = state.link === "open" ? call("GET", `runs?limit=${ENDED_LISTED}`).catch(() => null) : null;
  const answer = await asked;
  for (const run of answer?.runs ?? []) if (tree.ended.get(run.id)?.known !== true) putEnded(tree, run);
  clearTimeout(listing);
  listing = setTimeout(listEnded, Math.max(RELIST, 30 * (performance.now() - began)));
  schedule();
}

// How a run has ended is asked for those in sight alone: thousands may end in a minute.
const lookedUp = new Set();
async function lookUp(name) {
  if (lookedUp.has(name) || lookedUp.size >= LOOKUPS) return;
  lookedUp.add(name);
  const path = `runs/${encodeURIComponent(name)}`;
  const run = await call("GET", path).catch((error) => (error.status === 404 ? null : undefined));
  if (run) putEnded(tree, run);
  else if (run === null && tree.ended.has(name)) tree.ended.get(name).known = true; // nobody knows it any more
  setTimeout(() => lookedUp.delete(name), run === undefined ? 2_000 : 0);
  schedule();
}

// -- drawing

function showEmpty() {
  const box = $("empty");
  box.hidden = rows.some((row) => !row.node || row.node.kind !== "system");
  if (box.hidden) return;
  const narrowed = view.words !== "" || view.only !== "all";
  write(
    box,
    tree.version === 0
      ? "Waiting for the server’s first word."
      : narrowed
        ? view.only === "asks" && !view.words
          ? "Nobody needs you now. Runs whose tools ask for an approval or an answer will be listed here."
          : "Nothing like this is alive now. Clear the search, or show everything."
        : "No run is at work. Start one, with POST /runs or from your program: it appears here at once.",
  );
}

// Ages go on, and pauses end, also where the server has nothing to say.
let due = 0;
let scheduled = false;
setInterval(() => ((due = 1), schedule()), 500);

function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(frame);
}

function frame() {
  scheduled = false;
  const time = performance.now();
  const regularly = due === 1;
  due = 0;
  const changed = ordered.version !== tree.version && time - ordered.at >= REORDER;
  if (changed) {
    rows = rowsOf(tree, view);
    ordered = { at: time, version: tree.version };
    write($("fold"), rows.some(isOpenGroup) ? "Fold" : "Unfold");
    showEmpty();
  }
  if (changed || regularly) {
    list.draw();
    if (sought) seek();
    showTotals(totalsOf(tree), state.link === "open", tree.version > 0);
    showLink(state, isDraining(tree));
  }
  panel.draw(regularly);
  if (ordered.version !== tree.version) setTimeout(schedule, REORDER);
}

arrive();
showLink(state, false);
due = 1;
schedule();
