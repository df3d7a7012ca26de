// What a run wants of its user: approvals of tool calls, with their final arguments, and questions of tools.
//
// A card stays as it is until its question is gone, so that nobody's half-written answer is lost. Characters that
// nobody can see, or that turn the direction of writing, are shown as escapes: what is approved must be what is read.

const UNSEEN_CHARACTERS = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
const CARD_SHOWN = 20_000; // characters

function plainly(words, kept = "\n") {
  return words.replace(UNSEEN_CHARACTERS, (one) =>
    kept.includes(one) ? one : `\\u${one.codePointAt(0).toString(16).padStart(4, "0")}`,
  );
}

// Keeps `box` as it should be. answer(path, body) sends one, and rejects where the server refuses it.
function questionCards(box, answer) {
  const cards = new Map();

  function show(runId, approvals, questions) {
    const wanted = new Map();
    for (const each of approvals) wanted.set(`call ${each.run_id} ${each.call_id}`, () => approvalCard(runId, each));
    for (const each of questions) wanted.set(`ask ${each.question_id}`, () => questionCard(runId, each));
    for (const [key, card] of cards) {
      if (wanted.has(key)) continue;
      card.remove();
      cards.delete(key);
    }
    for (const [key, make] of wanted) if (!cards.has(key)) cards.set(key, box.appendChild(make()));
    box.hidden = cards.size === 0;
  }

  function clear() {
    for (const card of cards.values()) card.remove();
    cards.clear();
    box.hidden = true;
  }

  function approvalCard(runId, asked) {
    const reason = el("input", { type: "text", placeholder: "reason, for the model (optional)", "aria-label": "Reason" });
    const path = `runs/${encodeURIComponent(runId)}/approvals/${encodeURIComponent(asked.call_id)}`;
    const send = (approved) => {
      const body = { approved, run_id: asked.run_id };
      if (!approved && reason.value.trim()) body.reason = reason.value.trim();
      give(card, path, body);
    };
    const card = el(
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
    card.addEventListener("submit", (event) => event.preventDefault());
    return card;
  }

  function questionCard(runId, asked) {
    const text = el("textarea", { rows: "2", required: true, "aria-label": "Your answer" });
    const card = el(
      "form",
      { class: "card" },
      el("h3", {}, el("code", {}, plainly(asked.tool)), " asks you"),
      longText(plainly(asked.question), "Question"),
      from(runId, asked),
      text,
      el("div", { class: "deeds" }, el("button", { type: "submit", class: "main" }, "Answer")),
      el("p", { class: "refused", role: "alert" }),
    );
    card.addEventListener("submit", (event) => {
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
    const fields = [...card.querySelectorAll("button, input, textarea")];
    for (const field of fields) field.disabled = true;
    try {
      await answer(path, body);
    } catch (error) {
      write(card.lastChild, `Not accepted: ${error.message}`);
      for (const field of fields) field.disabled = false;
    }
  }

  return { show, clear };
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
