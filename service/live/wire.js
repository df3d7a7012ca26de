// Talking to the service: calls, and streams that come back by themselves.
//
// Streams are server-sent events over fetch, because EventSource cannot send a token. One that breaks is tried again
// after a pause that grows, and goes on behind the last event that it has seen. A page that nobody looks at lets go of
// its streams: a browser gives a server six connections, for all of its tabs.

const FOLDER = new URL("./", location.href);
const PAUSES = [0.5, 1, 2, 4, 5];
const SILENCE = 40; // seconds without even a comment, after which a connection counts as lost
const UNSEEN = 10; // seconds

class Refused extends Error {
  constructor(status, words, retryAfter) {
    super(words);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const access = {
  page: document.querySelector('meta[name="greenroom-token"]')?.content ?? "",
  bearer: sessionStorage.getItem("greenroom-token") ?? "",
  asked: null, // by a stream that was refused, until somebody has given a token: a promise of that
  ask: () => {},
};

function headers(more) {
  const all = { ...more };
  if (access.page) all["X-Greenroom-Token"] = access.page;
  if (access.bearer) all.Authorization = `Bearer ${access.bearer}`;
  return all;
}

function giveToken(token) {
  access.bearer = token;
  sessionStorage.setItem("greenroom-token", token);
  access.given?.();
  access.asked = null;
}

function tokenAsked() {
  if (!access.asked) {
    access.asked = new Promise((given) => (access.given = given));
    access.ask(access.bearer !== "");
  }
  return access.asked;
}

// A server that was started again has another token for its page.
async function renewPage() {
  const response = await fetch(location.pathname, { cache: "no-store" });
  const found = /<meta name="greenroom-token" content="([\w-]*)">/u.exec(await response.text());
  const changed = found !== null && found[1] !== access.page;
  if (changed) access.page = found[1];
  return changed;
}

async function refusal(response) {
  let words = `the server says ${response.status} ${response.statusText}`.trim();
  try {
    words = (await response.json()).error.message ?? words;
  } catch {
    // no JSON, or not of the usual shape: the status says it
  }
  return new Refused(response.status, String(words), Number(response.headers.get("Retry-After")));
}

async function call(method, path, body) {
  for (let again = false; ; again = true) {
    let response;
    try {
      response = await fetch(new URL(path, FOLDER), {
        method,
        headers: headers(body === undefined ? {} : { "Content-Type": "application/json" }),
        body: body === undefined ? undefined : JSON.stringify(body),
        cache: "no-store",
        signal: AbortSignal.timeout(30_000),
      });
    } catch {
      throw new Refused(0, "the server does not answer");
    }
    if (response.ok) return response.status === 204 ? null : response.json();
    if (response.status !== 403 || again || !(await renewPage())) throw await refusal(response);
  }
}

// Server-sent events out of pieces of text: what is put in comes out as whole events.
function eventReader(tell) {
  let rest = "";
  let event = { data: [], type: "message", id: null };
  return (piece) => {
    rest += piece;
    let from = 0;
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n", from)) {
      const line = rest.slice(from, end).replace(/\r$/u, "");
      from = end + 1;
      if (line === "") {
        if (event.data.length) tell(event.type, event.data.join("\n"), event.id);
        event = { data: [], type: "message", id: null };
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /u, "");
      if (field === "data") event.data.push(value);
      else if (field === "event") event.type = value;
      else if (field === "id") event.id = value;
    }
    rest = rest.slice(from);
  };
}

// Follow a stream until `stop()` is called, or `onEvent` returns true: that was the last one.
//
// onState is told "open", "lost" (with the seconds until the next try), "busy" (likewise), "asleep" or "gone" (with why).
function follow(path, { onEvent, onState }) {
  let stopped = false;
  let last = null;
  let failures = 0;
  let abort = new AbortController();
  let hidden = null;

  const seen = () => {
    clearTimeout(hidden);
    if (document.hidden) hidden = setTimeout(() => abort.abort(), UNSEEN * 1000);
  };
  document.addEventListener("visibilitychange", seen);

  async function once() {
    abort = new AbortController();
    const more = last === null ? {} : { "Last-Event-ID": last };
    const response = await fetch(new URL(path, FOLDER), {
      headers: headers({ Accept: "text/event-stream", ...more }),
      cache: "no-store",
      signal: abort.signal,
    });
    if (!response.ok) throw await refusal(response);
    if (response.status === 204) return true; // it is over, and there is nothing new
    onState("open");
    let ended = false;
    const read = eventReader((type, data, id) => {
      failures = 0;
      if (id !== null) last = id;
      try {
        if (!stopped && onEvent(type, JSON.parse(data), last)) ended = true;
      } catch (fault) {
        reportError(fault); // a fault of this page is no fault of the connection
      }
    });
    const body = response.body.pipeThrough(new TextDecoderStream()).getReader();
    while (!ended && !stopped) {
      const silent = setTimeout(() => abort.abort(), SILENCE * 1000);
      const { done, value } = await body.read().finally(() => clearTimeout(silent));
      if (done) break;
      read(value);
    }
    if (ended) abort.abort();
    return ended;
  }

  async function keepOn() {
    while (!stopped) {
      let pause = null;
      try {
        if (document.hidden) await shown();
        if (await once()) break;
        if (!stopped && (await isEnding())) pause = 2;
      } catch (error) {
        if (stopped) break;
        if (error instanceof Refused) {
          if (error.status === 401) {
            await tokenAsked();
            continue;
          }
          if (error.status === 403 ? !(await renewPage().catch(() => true)) : error.status < 500) {
            onState("gone", error.message);
            break;
          }
          if (error.status === 503) pause = Math.min(error.retryAfter || 1, 10);
        }
      }
      if (stopped) break;
      if (document.hidden) {
        onState("asleep");
        continue;
      }
      const wait = pause ?? PAUSES[Math.min(failures, PAUSES.length - 1)] * (0.8 + 0.4 * Math.random());
      failures += 1;
      onState(pause === null ? "lost" : "busy", wait);
      await rest(wait);
    }
    document.removeEventListener("visibilitychange", seen);
  }

  keepOn();
  return () => {
    stopped = true;
    abort.abort();
    clearTimeout(hidden);
  };
}

// Whether the server takes no new work. It then ends its streams too, and answers for a while.
async function isEnding() {
  const response = await fetch(new URL("ready", FOLDER), { cache: "no-store" }).catch(() => null);
  return response?.status === 503;
}

function shown() {
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

// A pause that ends early where there is reason to try at once.
function rest(wait) {
  return new Promise((done) => {
    const early = new AbortController();
    const over = () => (early.abort(), clearTimeout(timer), done());
    const timer = setTimeout(over, wait * 1000);
    window.addEventListener("online", over, early);
    document.addEventListener("visibilitychange", over, early);
  });
}
