// The supervision tree as the page knows it, and the rows that it makes. No element of the page is touched here.
//
// The server sends the nodes flat, each behind the one above it: all of them first, then what has changed. Runs of one
// agent are shown as a group with their sums; a run that has ended stays for a while, among those that ended lately.

const ENDED_KEPT = 200;
const TOOL_ID = /:[^:]*$/u;

function newTree() {
  return { nodes: new Map(), roots: [], ended: new Map(), version: 0 };
}

function takeSnapshot(tree, nodes) {
  const before = tree.nodes;
  tree.nodes = new Map();
  tree.roots = [];
  for (const each of nodes) put(tree, each);
  // What was there before the connection was lost, and is there no more, has ended meanwhile.
  for (const node of before.values()) if (!tree.nodes.has(node.id)) keepEnded(tree, before, node);
  tree.version += 1;
}

function takeChange(tree, change) {
  for (const id of change.gone) remove(tree, id);
  for (const each of change.nodes) put(tree, each);
  tree.version += 1;
}

function put(tree, each) {
  const old = tree.nodes.get(each.id);
  const node = old ?? { id: each.id, parent: each.parent ?? null, children: new Set() };
  node.born = each.began;
  node.name = each.name;
  node.kind = each.kind;
  node.state = each.state;
  node.depth = each.depth ?? 0;
  node.restarts = each.restarts ?? 0;
  node.detail = each.detail ?? {};
  node.label = labelOf(node, tree.nodes.get(node.parent));
  node.hay = `${node.name} ${node.kind} ${node.state} ${node.detail.agent ?? ""} ${node.id}`.toLowerCase();
  if (old) return;
  const parent = tree.nodes.get(node.parent);
  tree.nodes.set(node.id, node);
  if (parent) parent.children.add(node.id);
  else tree.roots.push(node.id);
  tree.ended.delete(node.name); // a run that is at work again
}

// A tool's name without its call, an actor's without its supervisor's.
function labelOf(node, parent) {
  if (node.kind === "tool") return node.name.replace(TOOL_ID, "");
  return parent && node.name.startsWith(`${parent.name}/`) ? node.name.slice(parent.name.length + 1) : node.name;
}

function remove(tree, id) {
  const node = tree.nodes.get(id);
  if (!node) return;
  for (const child of [...node.children]) remove(tree, child);
  keepEnded(tree, tree.nodes, node);
  tree.nodes.delete(id);
  const parent = tree.nodes.get(node.parent);
  if (parent) parent.children.delete(id);
  else tree.roots = tree.roots.filter((root) => root !== id);
}

function keepEnded(tree, nodes, node) {
  if (!isRun(node) || runAbove(nodes, node)) return;
  const ended = { ...node, id: `ended:${node.name}`, children: new Set(), state: "ended", known: false };
  tree.ended.set(node.name, { ...ended, detail: { ...node.detail, asks: 0 }, endedAt: Infinity, lasted: NaN });
  forgetEnded(tree);
}

function forgetEnded(tree) {
  for (const name of tree.ended.keys()) {
    if (tree.ended.size <= ENDED_KEPT) break;
    tree.ended.delete(name);
  }
}

// What the server says of a run that has ended: how, and when.
function putEnded(tree, run) {
  if (run.status === "running" || live(tree, run.id)) return;
  const old = tree.ended.get(run.id);
  const ended = Date.parse(run.ended_at) / 1000;
  tree.ended.set(run.id, {
    id: `ended:${run.id}`,
    parent: null,
    children: new Set(),
    name: run.id,
    label: run.id,
    kind: "run",
    state: run.status,
    depth: 0,
    restarts: old?.restarts ?? 0,
    born: Date.parse(run.started_at) / 1000,
    endedAt: ended,
    lasted: ended - Date.parse(run.started_at) / 1000,
    detail: { agent: run.agent, tokens: run.usage?.total_tokens ?? old?.detail.tokens, cost: run.cost ?? old?.detail.cost },
    hay: `${run.id} run ${run.status} ${run.agent}`.toLowerCase(),
    known: true,
  });
  forgetEnded(tree);
  tree.version += 1;
}

const isDraining = (tree) => tree.roots.some((id) => ["draining", "closing"].includes(tree.nodes.get(id).state));
const isRun = (node) => node.kind === "run";
const agentOf = (node) => String(node.detail.agent ?? "unnamed");

function live(tree, runId) {
  for (const root of tree.roots) {
    for (const id of tree.nodes.get(root).children) {
      const node = tree.nodes.get(id);
      if (isRun(node) && node.name === runId) return node;
    }
  }
  return null;
}

// The run that a node belongs to, and the outermost one: the handle of that answers for all below it.
function runAbove(nodes, node) {
  for (let above = nodes.get(node.parent); above; above = nodes.get(above.parent)) if (isRun(above)) return above;
  return null;
}

function rootRun(tree, node) {
  let run = isRun(node) ? node : runAbove(tree.nodes, node);
  for (let above = run; above; above = runAbove(tree.nodes, above)) run = above;
  return run;
}

const asks = (node) => Number(node.detail.asks ?? 0);
const paused = (node) => node.state === "paused" || node.state === "pausing";

// What a node does just now, in words.
function doing(tree, node) {
  if (node.endedAt !== undefined) return "";
  if (asks(node)) return `needs you: ${some(asks(node), "question")}`;
  if (node.kind === "tool") return node.children.size ? "waits for its subagent" : "";
  if (!isRun(node) || paused(node) || node.state !== "running") return "";
  const tools = [...node.children].map((id) => tree.nodes.get(id)).filter((child) => child.kind === "tool");
  if (tools.length) return `tools: ${oneLine(tools.map((tool) => tool.label).join(", "), 60)}`;
  return node.detail.turn ? `turn ${node.detail.turn}: asks its model` : "waits for its turn";
}

const ORDERS = {
  oldest: (a, b) => a.born - b.born,
  newest: (a, b) => b.born - a.born,
  name: (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
  state: (a, b) => asks(b) - asks(a) || (a.state < b.state ? -1 : a.state > b.state ? 1 : 0),
  mailbox: (a, b) => b.depth - a.depth,
  restarts: (a, b) => b.restarts - a.restarts,
  tokens: (a, b) => (b.detail.tokens ?? -1) - (a.detail.tokens ?? -1),
  cost: (a, b) => (b.detail.cost ?? -1) - (a.detail.cost ?? -1),
};

// Of whom the end is not known yet, it has just come.
const latestEnd = (a, b) => (a.endedAt === b.endedAt ? b.born - a.born : b.endedAt - a.endedAt);

// The rows of the tree, top to bottom.
//
// view: words (all of which a node or one above or below it must have), only ("all", "work" or "asks"), order (a key of
// ORDERS), folded (by row key, whether somebody has folded or unfolded it). Runs are folded until somebody unfolds them:
// their tools come and go too fast to be read in passing.
function rowsOf(tree, view) {
  const words = view.words.toLowerCase().split(/\s+/u).filter(Boolean);
  const narrowed = words.length > 0 || view.only !== "all";
  const wanted = (node) => words.every((word) => node.hay.includes(word));
  const kept = (node) => {
    if (view.only === "work") return (isRun(node) || node.kind === "tool") && !paused(node) && !asks(node);
    if (view.only === "asks") return asks(node) > 0;
    return true;
  };
  const keep = new Set();
  // A node that is wanted takes all below it along, for nobody reads a run without its tools.
  function sift(node, above) {
    const hit = above || (wanted(node) && kept(node));
    let below = false;
    for (const id of node.children) below = sift(tree.nodes.get(id), hit) || below;
    if (hit || below) keep.add(node);
    return hit || below;
  }
  if (narrowed) for (const id of tree.roots) sift(tree.nodes.get(id), false);
  const visible = (node) => !narrowed || keep.has(node);
  const rows = [];
  const open = (key, node) => narrowed || !(view.folded.get(key) ?? (node !== undefined && isRun(node)));

  function addNode(node, level) {
    const children = [...node.children].map((id) => tree.nodes.get(id)).filter(visible);
    const row = { key: node.id, level, node, folds: children.length > 0, open: open(node.id, node) };
    rows.push(row);
    if (!row.open) return;
    const runs = children.filter(isRun);
    for (const child of children) if (!isRun(child)) addNode(child, level + 1);
    if (node.kind === "system") addGroups(byAgent(runs), level + 1);
    else for (const run of runs) addNode(run, level + 1);
  }

  function addGroups(groups, level) {
    for (const [agent, runs] of groups) addGroup(`agent:${agent}`, agent, runs, level);
  }

  function addGroup(key, label, runs, level, order = ORDERS[view.order]) {
    const row = { key, level, group: label, sum: sumOf(runs), folds: true, open: open(key) };
    rows.push(row);
    if (row.open) for (const run of runs.sort(order)) addNode(run, level + 1);
  }

  for (const id of tree.roots) if (visible(tree.nodes.get(id))) addNode(tree.nodes.get(id), 1);
  const ended = view.only === "all" ? [...tree.ended.values()].filter(wanted) : [];
  if (ended.length) addGroup("ended", "Ended lately", ended, 1, latestEnd);
  return rows;
}

function byAgent(runs) {
  const groups = new Map();
  for (const run of runs) {
    const agent = agentOf(run);
    if (!groups.has(agent)) groups.set(agent, []);
    groups.get(agent).push(run);
  }
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1));
}

function sumOf(runs) {
  const sum = { runs: runs.length, states: new Map(), asks: 0, restarts: 0, depth: 0, tokens: 0, cost: 0 };
  for (const run of runs) {
    sum.states.set(run.state, (sum.states.get(run.state) ?? 0) + 1);
    sum.asks += asks(run);
    sum.restarts += run.restarts;
    sum.depth += run.depth;
    sum.tokens += run.detail.tokens ?? 0;
    sum.cost += run.detail.cost ?? 0;
  }
  return sum;
}

// The figures at the top. A run's tokens have those of its subagents in them, so only the outermost runs are added up.
function totalsOf(tree) {
  const all = [...tree.nodes.values()];
  const outer = all.filter((node) => isRun(node) && !runAbove(tree.nodes, node));
  return {
    ...sumOf(outer),
    subagents: all.filter(isRun).length - outer.length,
    tools: all.filter((node) => node.kind === "tool").length,
    restarts: all.reduce((sum, node) => sum + node.restarts, 0),
  };
}
