// What a run wants of its user: approvals of tool calls, with their final arguments, and questions of tools.
//
// A card stays as it is until its question is gone, so that nobody's half-written answer is lost. What is approved must
// be what is read: characters that nobody can see are shown as escapes, and a card is known by all that stands in it,
// because some models give a call the id of an earlier one.

const CARD_SHOWN = 20_000; // characters

// Keeps `box` as it should be. answer(path, body) sends one, and rejects where the server refuses it.
function questionCards(box, answer) {
  const cards = new Map(); // by all that is asked; each with its element, and when it was answered
  let settled = 0;

  // `at`: when the server was asked for these. One that was answered before that, and is asked all the same, is asked
  // anew: by another process, which does not know of the answer, or by a model that calls the same once more.
  function show(runId, approvals, questions, at) {
    if (at < settled) return; // they were asked for too early: it is done again
    const wanted = new Map();
    for (const each of approvals) wanted.set(`call ${asJson(each)}`, () => approvalCard(runId, each));
    for (const each of questions) wanted.set(`ask ${asJson(each)}`, () => questionCard(runId, each));
    drop((card, key) => !wanted.has(key) || card.answered < at);
    for (const [key, make] of wanted) if (!cards.has(key)) cards.set(key, add(make()));
  }

  function add(made) {
    box.append(made.element);
    box.hidden = false;
    return made;
  }

  function drop(which) {
    for (const [key, card] of cards) {
      if (!which(card, key)) continue;
      card.element.remove();
      cards.delete(key);
    }
    box.hidden = cards.size === 0;
  }

  const clear = () => drop(() => true);
  // The call has its answer, from whomever: what asks under its id from now on is another one.
  function settle(event) {
    settled = performance.now();
    drop((card) => card.call === `${event.run_id} ${event.call_id}`);
  }

  function approvalCard(runId, asked) {
    const reason = el("input", { type: "text", placeholder: "reason, for the model (optional)", "aria-label": "Reason" });
    const path = `runs/${encodeURIComponent(runId)}/approvals/${encodeURIComponent(asked.call_id)}`;
    const send = (approved) => {
      const body = { approved, run_id: asked.run_id, turn: asked.turn };
      if (!approved && reason.value.trim()) body.reason = reason.value.trim();
      give(card, path, body);
    };
    const element = el(
      "form",
      { class: "card" },
      el("h3", {}, "May it call ", el("code", {}, plainly(asked.tool)), "?"),
      asked.question ? el("p", { class: "foreign" }, plainly(asked.question)) : null,
      from(runId, asked),
      longText(plainly(asJson(asked.arguments ?? {}, 2)), "It would be called with"),
      el(
        "div",
        { class: "deeds" },
        button("Approve", () => send(true), { class: "main" }),
        button("Deny", () => send(false), { class: "grave" }),
        reason,
      ),
      el("p", { class: "refused", role: "alert" }),
    );
    element.addEventListener("submit", (event) => event.preventDefault());
    const card = { element, call: `${asked.run_id} ${asked.call_id}`, answered: Infinity };
    return card;
  }

  function questionCard(runId, asked) {
    const text = el("textarea", { rows: "2", required: true, "aria-label": "Your answer" });
    const element = el(
      "form",
      { class: "card" },
      el("h3", {}, el("code", {}, plainly(asked.tool)), " asks you"),
      longText(plainly(asked.question), "Question"),
      from(runId, asked),
      text,
      el("div", { class: "deeds" }, el("button", { type: "submit", class: "main" }, "Answer")),
      el("p", { class: "refused", role: "alert" }),
    );
    const card = { element, call: null, answered: Infinity };
    element.addEventListener("submit", (event) => {
      event.preventDefault();
      const path = `runs/${encodeURIComponent(runId)}/answers/${encodeURIComponent(asked.question_id)}`;
      give(card, path, { text: text.value });
    });
    return card;
  }

  function from(runId, asked) {
    return asked.run_id === runId ? null : el("p", { class: "note foreign" }, `asked by its subagent ${asked.run_id}`);
  }

  async function give(card, path, body) {
    const fields = [...card.element.querySelectorAll("button, input, textarea")];
    for (const field of fields) field.disabled = true;
    try {
      await answer(path, body);
      card.answered = performance.now();
    } catch (error) {
      write(card.element.lastChild, `Not accepted: ${error.message}`);
      for (const field of fields) field.disabled = false;
    }
  }

  return { show, settle, clear };
}

function longText(words, label) {
  const shown = el("pre", { class: "foreign", tabindex: "0", "aria-label": label }, clip(words, CARD_SHOWN));
  if (words.length <= CARD_SHOWN) return shown;
  const more = button(`Show all ${count(words.length)} characters`, () => {
    write(shown, words);
    more.remove();
  });
  return el("div", {}, shown, more);
}
