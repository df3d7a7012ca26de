// Talking to the service: calls, and streams that come back by themselves.
//
// Streams are server-sent events over fetch, because EventSource cannot send a token. One that breaks is tried again
// after a pause that grows, and goes on behind the last event that it has seen.
//
// A browser gives a server six connections, for all of its windows and tabs. So a page that nobody looks at lets go of its
// streams; and all pages together hold no more of them than there are places, so that one can still be stopped, and
// opened. A page that finds no place looks again every few seconds.

const FOLDER = new URL("./", location.href);
const PAUSES = [0.5, 1, 2, 4, 5];
const SILENCE = 40; // seconds without even a comment, after which a connection counts as lost
const UNSEEN = 10; // seconds
const PLACES = 4; // streams, of all windows and tabs
const GLANCE = 0.7; // seconds that a stream without a place stays open, once it has told something
const BETWEEN = 2.5; // seconds between two such

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
    if (response.ok) return response.status === 204 ? null : readJson(await response.text());
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

// A place among the streams of all pages of this server: gives what leaves it, or null where all are taken. Browsers know
// of other pages only where the address is safe (https, or this machine).
async function takePlace() {
  if (!navigator.locks) return () => {};
  for (let place = 0; place < PLACES; place += 1) {
    const leave = await new Promise((given) => {
      const held = (lock) => (lock ? new Promise((left) => given(left)) : given(null));
      navigator.locks.request(`greenroom stream ${place}`, { ifAvailable: true }, held).catch(() => given(() => {}));
    });
    if (leave) return leave;
  }
  return null;
}

// Follow a stream until `stop()` is called, or `onEvent` returns true: that was the last one. `since` is the event that it
// goes on behind.
//
// onState is told "open", "lost" (with the seconds until the next try), "busy" (likewise), "asleep", "gone" (with why), or
// "over": there is nothing more to come.
function follow(path, { onEvent, onState, since: last = null }) {
  let stopped = false;
  let failures = 0;
  let abort = new AbortController();
  let hidden = null;

  const seen = () => {
    clearTimeout(hidden);
    if (document.hidden) hidden = setTimeout(() => abort.abort(), UNSEEN * 1000);
  };
  document.addEventListener("visibilitychange", seen);

  // Gives "over" where nothing more will come, "glanced" where it had no place and let go, otherwise "broken".
  async function once(hasPlace) {
    const own = new AbortController();
    abort = own;
    const more = last === null ? {} : { "Last-Event-ID": last };
    const response = await fetch(new URL(path, FOLDER), {
      headers: headers({ Accept: "text/event-stream", ...more }),
      cache: "no-store",
      signal: own.signal,
    });
    if (!response.ok) throw await refusal(response);
    if (response.status === 204) return "over";
    onState("open");
    const enough = performance.now() + GLANCE * 1000;
    let ended = false;
    const read = eventReader((type, data, id) => {
      failures = 0;
      if (id !== null) last = id;
      try {
        if (!stopped && onEvent(type, readJson(data), last)) ended = true;
      } catch (fault) {
        reportError(fault); // a fault of this page is no fault of the connection
      }
    });
    const body = response.body.pipeThrough(new TextDecoderStream()).getReader();
    try {
      while (!ended && !stopped) {
        if (!hasPlace && last !== null && performance.now() > enough) break;
        const silent = setTimeout(() => own.abort(), 1000 * (hasPlace || last === null ? SILENCE : GLANCE));
        const { done, value } = await body.read().finally(() => clearTimeout(silent));
        if (done) break;
        read(value);
      }
    } catch (error) {
      if (hasPlace || error.name !== "AbortError") throw error;
    }
    own.abort();
    return ended ? "over" : hasPlace ? "broken" : "glanced";
  }

  async function onceInPlace() {
    const leave = await takePlace();
    try {
      return await once(leave !== null);
    } finally {
      leave?.();
    }
  }

  async function keepOn() {
    while (!stopped) {
      let pause = null;
      let how = "broken";
      try {
        if (document.hidden) await shown();
        how = await onceInPlace();
        if (how === "broken" && !stopped && (await isEnding())) pause = 2;
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
      if (how === "over") {
        onState("over");
        break;
      }
      if (document.hidden) {
        onState("asleep");
        continue;
      }
      if (how === "glanced") {
        await rest(BETWEEN);
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
