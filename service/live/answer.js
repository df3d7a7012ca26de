// The text that a run is writing, as it comes. Very long ones are shown by their end, until asked for whole.

const ANSWER_SHOWN = 100_000; // characters

// The answers of a tree of runs, each of the turn at hand or the last. `since`: the moment from which on pieces come;
// what had been written of a turn before is not told again until its run has ended.
function newAnswers() {
  return { of: new Map(), since: 0, asked: new Map() };
}

function addToAnswers(answers, event) {
  const known = answers.of.get(event.run_id);
  if (event.type === "model.started") {
    answers.asked.set(event.run_id, event.time);
  } else if (event.type === "model.text_delta") {
    const goesOn = known && known.turn === event.turn && !known.over;
    const partial = answers.asked.get(event.run_id) < answers.since;
    const answer = goesOn ? known : { turn: event.turn, text: "", over: false, written: false, partial };
    answer.text += event.text;
    answers.of.set(event.run_id, answer);
  } else if (event.type === "model.completed" && known?.turn === event.turn) {
    known.written = true;
  } else if (event.type === "model.retrying" && known?.turn === event.turn) {
    known.over = true; // the next try begins its text anew
  } else if (event.type === "run.completed") {
    endAnswer(answers, event.run_id, event.text || known?.text || "");
  }
}

// The run has ended: this is its answer, whole.
function endAnswer(answers, runId, text) {
  answers.of.set(runId, { turn: 0, text, over: true, written: true, partial: false });
}

// The connection was lost: pieces are missing where it comes back.
function breakAnswers(answers, since) {
  answers.since = since;
  for (const answer of answers.of.values()) if (!answer.written && answer.text) answer.text += " […] ";
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
