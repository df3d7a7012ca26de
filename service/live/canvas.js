// The timeline, drawn. What the bars say is also in the list of events, as text; so this is a picture to readers of
// screens, with a label that sums it up.

const LANE = 22;
const AXIS = 20;
const TALLEST = 240;
const LATEST = 60; // seconds, of "Latest minute"

// A drawing of a timeline in `box`.
//
// now: what the server's clock says; line: gives the timeline; focus: gives the run whose lanes stand out, or null.
function timelineView(box, { now, line, focus }) {
  const canvas = el("canvas", { role: "img" });
  const space = el("div", { class: "lanes-space" });
  const tip = el("div", { class: "tip", hidden: true });
  const lanes = el("div", { class: "lanes", tabindex: "0", role: "group", "aria-label": "Timeline" }, canvas, space);
  const legend = el("ul", { class: "legend" });
  const more = el("p", { class: "note", hidden: true }, "The first events are not kept any more: what they told is missing.");
  box.append(lanes, tip, legend, more);
  const pen = canvas.getContext("2d");
  let colours = null;
  let latest = false;
  let pointer = null;

  for (const media of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(media).addEventListener("change", () => ((colours = null), draw()));
  }
  new ResizeObserver(() => draw()).observe(lanes);
  lanes.addEventListener("scroll", () => draw());
  canvas.addEventListener("pointermove", (event) => ((pointer = event), draw()));
  canvas.addEventListener("pointerleave", () => ((pointer = null), draw()));

  function readColours() {
    const style = getComputedStyle(box);
    const names = [...Object.keys(KINDS), "ink", "soft", "grid", "bad", "card", "caution"];
    return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }

  function draw() {
    const told = line();
    colours ??= readColours();
    const tall = Math.max(told.lanes.length, 1) * LANE + AXIS;
    lanes.style.height = `${Math.min(tall, TALLEST)}px`;
    space.style.height = `${tall}px`;
    const width = lanes.clientWidth;
    const height = Math.min(lanes.clientHeight, tall);
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = `12px ${getComputedStyle(box).fontFamily}`;
    pen.textBaseline = "middle";
    const until = told.open.size ? Math.max(now(), told.to) : told.to;
    const from = latest ? Math.max(told.from, until - LATEST) : told.from;
    const names = Math.min(Math.max(width * 0.22, 84), 150);
    const span = Math.max(until - from, 0.05);
    const x = (time) => names + ((time - from) / span) * (width - names - 8);
    const y = (lane) => AXIS + lane.place * LANE - lanes.scrollTop;
    drawScale({ from, span, x, names, width, height });
    const hit = drawBars(told, { from, until, x, y, names, width, height });
    drawNames(told, { y, names, width, height });
    showTip(hit, told, until);
  }

  function drawScale({ from, span, x, names, width, height }) {
    const zero = line().from;
    const step = stepOf(span, Math.max(Math.floor((width - names) / 80), 2));
    pen.strokeStyle = colours.grid;
    pen.fillStyle = colours.soft;
    pen.lineWidth = 1;
    for (let at = Math.ceil((from - zero) / step) * step; at <= from - zero + span; at += step) {
      const place = Math.round(x(zero + at)) + 0.5;
      pen.beginPath();
      pen.moveTo(place, AXIS - 4);
      pen.lineTo(place, height);
      pen.stroke();
      const words = at < 60 ? `${Number(at.toFixed(2))} s` : age(at).replace(/ 00 (s|min)$/u, "");
      if (place + 3 + pen.measureText(words).width < width) pen.fillText(words, place + 3, AXIS / 2 - 1);
    }
  }

  function drawBars(told, { from, until, x, y, names, width, height }) {
    let hit = null;
    pen.save();
    pen.beginPath();
    pen.rect(names - 2, AXIS, width - names + 2, height - AXIS);
    pen.clip();
    for (const bar of told.bars) {
      const top = y(bar.lane) + 3;
      if (top > height || top + LANE < AXIS || (bar.to ?? until) < from) continue;
      const left = x(Math.max(bar.from, from));
      const right = Math.max(x(bar.to ?? until), left + 2);
      pen.globalAlpha = dimmed(bar.lane) ? 0.25 : 1;
      drawBar(bar, left, right, top, x);
      if (under(left, right, top)) hit = bar;
    }
    for (const each of told.marks) {
      const place = x(each.at);
      const top = y(each.lane) + 3;
      pen.globalAlpha = dimmed(each.lane) ? 0.25 : 1;
      pen.fillStyle = each.kind === "restart" ? colours.bad : colours.ink;
      pen.beginPath();
      pen.moveTo(place - 5, top - 3);
      pen.lineTo(place + 5, top - 3);
      pen.lineTo(place, top + 5);
      pen.fill();
      if (under(place - 5, place + 5, top)) hit = each;
    }
    pen.restore();
    return hit;
  }

  function drawBar(bar, left, right, top, x) {
    const tall = LANE - 6;
    pen.fillStyle = colours[bar.kind];
    if (bar.kind === "model" && bar.first !== null) {
      // Until the first token the model is only waited for.
      const shows = Math.min(Math.max(x(bar.first), left), right);
      const alpha = pen.globalAlpha;
      pen.globalAlpha = alpha * 0.45;
      pen.fillRect(left, top, shows - left, tall);
      pen.globalAlpha = alpha;
      pen.fillRect(shows, top, right - shows, tall);
    } else {
      pen.fillRect(left, top, right - left, tall);
    }
    if (bar.failed) {
      pen.fillStyle = colours.bad;
      pen.fillRect(left, top + tall - 4, right - left, 4);
    }
    const words = plainly(clip(bar.label, 60), "");
    const room = right - left - 8;
    if (room > 24) {
      pen.save();
      pen.beginPath();
      pen.rect(left, top, right - left, tall);
      pen.clip();
      pen.fillStyle = colours.card;
      if (pen.measureText(words).width <= room) pen.fillText(words, left + 4, top + tall / 2 + 0.5);
      pen.restore();
    }
  }

  function drawNames(told, { y, names, height }) {
    pen.save();
    pen.beginPath();
    pen.rect(0, AXIS, names - 6, height - AXIS);
    pen.clip();
    pen.fillStyle = colours.ink;
    for (const lane of told.lanes) {
      const top = y(lane);
      if (!lane.label || top > height || top + LANE < AXIS) continue;
      pen.globalAlpha = dimmed(lane) ? 0.4 : 1;
      pen.fillText(plainly(clip(lane.label, 40), ""), 2 + Math.min(lane.level, 6) * 10, top + LANE / 2);
    }
    pen.restore();
  }

  function dimmed(lane) {
    return focus() !== null && lane.run !== focus();
  }

  function under(left, right, top) {
    if (!pointer) return false;
    const { offsetX, offsetY } = pointer;
    return offsetX >= left - 1 && offsetX <= right + 1 && offsetY >= top && offsetY <= top + LANE - 4;
  }

  function showTip(hit, told, until) {
    tip.hidden = !hit;
    if (!hit) return;
    const what = hit.at === undefined ? `${KINDS[hit.kind]}: ` : "";
    const took = hit.at === undefined ? `, ${seconds((hit.to ?? until) - hit.from)}` : "";
    const how = hit.failed ? ", failed or cut short" : hit.to === null ? ", still at it" : "";
    write(tip, `${what}${plainly(clip(hit.label, 200))}${took}${how}, at ${since((hit.at ?? hit.from) - told.from)}`);
    tip.style.left = `${Math.min(pointer.offsetX + 10, Math.max(lanes.clientWidth - 220, 0))}px`;
    tip.style.top = `${pointer.offsetY + 18}px`;
  }

  // The sums, as words below and as the picture's label.
  function sum() {
    const spent = timeSpent(line(), now());
    const parts = Object.entries(KINDS).filter(([kind]) => spent.has(kind));
    const words = parts.map(([kind, name]) => {
      const { count: number, seconds: took } = spent.get(kind);
      return [kind, name, seconds(took), number];
    });
    more.hidden = !line().dropped;
    while (legend.children.length > words.length) legend.lastChild.remove();
    words.forEach(([kind, name, took, number], at) => {
      const item = legend.children[at] ?? legend.appendChild(el("li", {}, el("i"), el("span"), el("b")));
      item.className = `is-${kind}`;
      write(item.children[1], name);
      write(item.children[2], `${took} (${number}×)`);
    });
    const told = words.map(([, name, took, number]) => `${name} ${took}, ${number} of them`);
    mark(canvas, "aria-label", `Timeline: ${told.join("; ")}`);
  }

  return {
    draw,
    sum,
    showLatest(value) {
      latest = value;
      draw();
    },
  };
}
