// The text that a run is writing, as it comes. Very long ones are shown by their end, until asked for whole.

const ANSWER_SHOWN = 100_000; // characters
const ANSWER_LONG = 20_000; // characters; from here on all lines have one direction of writing

// The answers of a tree of runs, each of the turn at hand or the last. `since()`: the moment from which on pieces come;
// `asked`: since when models write. What a model had written before the pieces came is asked for, for as long as it
// writes; of subagents it is not told until they have ended.
function newAnswers() {
  return { of: new Map(), since: () => 0, asked: new Map() };
}

// Whether a model writes of which the first pieces have not come.
function isPartial(answers, runId) {
  return answers.asked.get(runId) < answers.since();
}

function addToAnswers(answers, event) {
  const known = answers.of.get(event.run_id);
  if (event.type === "model.started") {
    answers.asked.set(event.run_id, event.time);
    if (known?.whole && !isPartial(answers, event.run_id)) answers.of.delete(event.run_id);
  } else if (event.type === "model.text_delta") {
    const goesOn = known && known.turn === event.turn && !known.over;
    const partial = isPartial(answers, event.run_id);
    const answer = goesOn ? known : { turn: event.turn, text: "", over: false, written: false, whole: false, partial };
    if (!answer.whole) answer.text += event.text;
    answers.of.set(event.run_id, answer);
  } else if (/^model\.(completed|retrying|failed)$/u.test(event.type)) {
    answers.asked.delete(event.run_id);
    if (known?.turn === event.turn) known.written = true;
    if (known?.turn === event.turn && event.type === "model.retrying") known.over = true; // the next try begins anew
  } else if (event.type === "run.completed") {
    endAnswer(answers, event.run_id, event.text || known?.text || "");
  }
}

// The run has ended: this is its answer, whole.
function endAnswer(answers, runId, text) {
  answers.of.set(runId, { turn: 0, text, over: true, written: true, whole: true, partial: false });
}

// What the server says of an answer whose first pieces have not come: all that there is of it now.
function takeWhole(answers, runId, turn, text) {
  const known = answers.of.get(runId);
  const writes = answers.asked.has(runId);
  if (known && (known.turn > turn || (known.turn === turn && !known.partial) || known.over)) return;
  if (writes && !isPartial(answers, runId)) return;
  answers.of.set(runId, { turn, text, over: false, written: !writes, whole: true, partial: true });
}

// The connection was lost: pieces are missing where it comes back.
function breakAnswers(answers, since) {
  answers.since = since;
  for (const answer of answers.of.values()) {
    if (answer.written) continue;
    if (answer.text && !answer.whole) answer.text += " […] ";
    answer.partial = true;
  }
}

function answerView(box, note) {
  let shown = "";
  let all = false;
  const more = button("", () => ((all = true), show(shown, true)), { class: "more", hidden: true });
  const text = document.createTextNode("");
  box.append(more, text);

  function show(words, anew = false) {
    if (words === shown && !anew) return;
    const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 24;
    const whole = all || words.length <= ANSWER_SHOWN;
    if (whole && !anew && shown && words.startsWith(shown)) text.appendData(words.slice(shown.length));
    else text.data = whole ? words : words.slice(-ANSWER_SHOWN);
    shown = words;
    more.hidden = whole;
    box.classList.toggle("is-long", words.length > ANSWER_LONG);
    if (!whole) write(more, `Show all ${count(words.length)} characters, not only the last ${count(ANSWER_SHOWN)}`);
    if (atEnd) box.scrollTop = box.scrollHeight;
  }

  return {
    show,
    say: (words) => write(note, words),
    clear() {
      all = false;
      shown = "";
      text.data = "";
      more.hidden = true;
    },
  };
}
