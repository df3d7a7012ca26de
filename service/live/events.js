// The events of a run, as text: a line for each, and the chosen one whole.

const EVENT_SHOWN = 50_000; // characters

function eventList() {
  const box = $("events");
  const whole = $("event");
  const sentences = new WeakMap(); // of events: one may have a megabyte of arguments
  let events = [];
  let run = null;
  let chosen = null;
  let atEnd = true; // whoever looks at the end stays there, also where the list becomes shorter or lower
  let top = 0;
  const list = rowList(box, {
    make: () => el("div", { class: "row", role: "option" }, el("time"), el("code"), el("bdi"), el("span")),
    fill,
    count: () => events.length,
    at: (index) => events[index],
    press: (event) => choose(chosen === event ? null : event),
  });

  new ResizeObserver(stay).observe(box);
  box.addEventListener("scroll", scrolled, { passive: true });

  function scrolled() {
    if (box.scrollTop + box.clientHeight >= box.scrollHeight - 40) atEnd = true;
    else if (box.scrollTop < top) atEnd = false;
    top = box.scrollTop;
  }

  function stay() {
    if (atEnd) box.scrollTop = box.scrollHeight;
  }

  function fill(row, event, index) {
    const [when, type, words, who] = row.children;
    if (!sentences.has(event)) sentences.set(event, event.seq ? plainly(say(event)) : "the server was started again");
    write(when, event.seq ? since(event.time - run.line.from) : "");
    write(type, event.type);
    type.className = `is-${toneOf(event.type)}`;
    write(words, sentences.get(event));
    write(who, event.run_id === run.id ? "" : plainly(run.line.runs.get(event.run_id)?.lane.label ?? "", ""));
    mark(row, "aria-selected", chosen === event);
    mark(row, "aria-posinset", index + 1);
    mark(row, "aria-setsize", events.length);
  }

  function choose(event) {
    chosen = event;
    whole.hidden = event === null;
    whole.replaceChildren();
    if (event === null) return list.draw();
    const words = `${clock(event.time)}\n${plainly(asJson(event, 2))}`;
    whole.append(clip(words, EVENT_SHOWN));
    if (words.length > EVENT_SHOWN) {
      whole.append(button(` Show all ${count(words.length)} characters`, () => write(whole, words)));
    }
    list.draw();
  }

  return {
    // The latest event stays in sight for whoever looks at the end.
    show(shown, of) {
      const none = of.events.length === 0 ? "Its events are not kept any more." : "Nothing of this subagent is kept.";
      const cut = of.cut ? `The first ${count(of.cut)} are left out here, to spare this browser.` : "";
      write($("events-note"), shown.length === 0 && of.info !== null && (of.ended || of.events.length) ? none : cut);
      [events, run] = [shown, of];
      list.draw();
      stay();
    },
    clear() {
      events = [];
      choose(null);
      list.reset();
      [atEnd, top] = [true, 0];
    },
  };
}
