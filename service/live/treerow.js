// One row of the tree, as elements: what stands in its cells, and how it is read aloud.

const COLUMNS = ["name", "state", "doing", "age", "mailbox", "restarts", "tokens", "cost"];
const SORTS = { age: "oldest" }; // the others are sorted by what they show
const UNSORTED = "doing";

function makeRow() {
  const cells = COLUMNS.map((name) => el("span", { class: `c-${name}`, role: "gridcell" }));
  const fold = el("span", { class: "fold", "aria-hidden": "true" });
  cells[0].append(fold, el("span", { class: "kind" }), el("bdi"), el("small"));
  cells[1].append(el("i", { class: "dot" }), el("span"));
  return el("div", { class: "row", role: "row" }, ...cells);
}

// Levels that are far down are moved by less, so that their names stay in sight.
const indentOf = (level) => 6 + 18 * Math.min(level - 1, 7) + 6 * Math.max(level - 8, 0);

const foreign = (words, most) => plainly(oneLine(words, most), "");

// known: what the tree knows; now: the server's clock; chosen: the key of the row that is open.
function fillRow(element, row, { tree: known, now, chosen }) {
  const [name, how, doingNow, old, mailbox, restarts, tokens, cost] = element.children;
  const { node, sum } = row;
  name.style.setProperty("--indent", `${indentOf(row.level)}px`);
  write(name.children[0], row.folds ? (row.open ? "▾" : "▸") : "");
  write(name.children[1], kindOf(row, known));
  const main = node ? (isRun(node) && row.level > 2 && runAbove(known.nodes, node) ? agentOf(node) : node.label) : row.group;
  write(name.children[2], foreign(main, 120));
  write(name.children[3], node ? (node.endedAt !== undefined ? foreign(agentOf(node), 60) : "") : some(sum.runs, "run"));
  element.classList.toggle("is-group", !node);
  element.classList.toggle("is-ended", node?.endedAt !== undefined);
  element.classList.toggle("is-chosen", row.key === chosen);
  const tone = node ? (asks(node) ? "asks" : toneOfState(node.state)) : sum.asks ? "asks" : "none";
  how.className = `c-state is-${tone}`;
  write(how.children[1], node ? (asks(node) ? "needs you" : node.state) : sum.asks ? `${sum.asks} need${sum.asks === 1 ? "s" : ""} you` : "");
  write(doingNow, node ? plainly(doing(known, node)) : statesOf(sum));
  write(old, node ? (node.endedAt === undefined ? age(now - node.born) : seconds(node.lasted)) : "");
  const figures = node ? { ...node.detail, depth: node.depth, restarts: node.restarts } : sum;
  write(mailbox, figures.depth ? count(figures.depth) : "");
  write(restarts, figures.restarts ? count(figures.restarts) : "");
  write(tokens, figures.tokens ? count(figures.tokens) : "");
  write(cost, figures.cost ? money(figures.cost) : "");
  const said = [how, doingNow, old].map((cell) => cell.textContent);
  const [waits, crashed, used] = [mailbox, restarts, tokens].map((cell) => cell.textContent);
  if (waits) said.push(`${waits} waiting in its mailbox`);
  if (crashed) said.push(`restarted ${crashed} times`);
  if (used) said.push(`${used} tokens`);
  const told = [kindOf(row, known), foreign(main, 120), ...said, cost.textContent].filter(Boolean);
  mark(element, "aria-label", clip(told.join(", "), 300));
  mark(element, "aria-level", row.level);
  mark(element, "aria-expanded", row.folds ? row.open : null);
  mark(element, "aria-selected", row.key === chosen);
}

function kindOf(row, known) {
  const { node } = row;
  if (!node) return row.key === "ended" ? "runs" : "agent";
  return isRun(node) && runAbove(known.nodes, node) ? "subagent" : node.kind;
}

function statesOf(sum) {
  return [...sum.states].map(([name, number]) => `${count(number)} ${name}`).join(", ");
}
