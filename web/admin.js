// The administration side of both pages: calls with the admin key, the key itself, and the stream of changes.

import { backoffDelay, retryAfterMs } from "/client.js";

/** An HTTP answer that was not a success, in the words of its problem document. */
export class ApiError extends Error {
  constructor(status, problem, retryMs) {
    super(problem.detail ?? problem.error ?? problem.title ?? `The server answered ${status}.`);
    this.name = "ApiError";
    this.status = status;
    this.code = problem.code;
    this.retryAfterMs = retryMs;
  }
}

/** One call. `key` goes into the x-api-key header, `bearer` into Authorization; neither ever into the address. */
export async function call(method, path, { key, bearer, deviceToken, body, signal } = {}) {
  const headers = { accept: "application/json" };
  if (key) headers["x-api-key"] = key;
  if (bearer) headers.authorization = `Bearer ${bearer}`;
  if (deviceToken) headers["x-device-token"] = deviceToken;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
    });
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    throw new ApiError(0, { detail: "The server cannot be reached. Is it running?" });
  }
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    // An empty answer is one, too.
  }
  if (!response.ok) {
    const problem = answer ?? {};
    // The sentence of the server is for programs of every kind; a person at this page can be told what to do.
    if (response.status === 401 && key) problem.detail = "The server does not know this key.";
    if (response.status === 403 && key) problem.detail = "This key is not an admin key.";
    throw new ApiError(response.status, problem, retryAfterMs(response.headers.get("retry-after")));
  }
  return { answer, next: response.headers.get("x-next-cursor") ?? answer?.next_cursor ?? null };
}

/** All calls with one key. */
export function api(key) {
  const of = (method) => async (path, body, signal) => (await call(method, path, { key, body, signal })).answer;
  return {
    key,
    get: (path, signal) => of("GET")(path, undefined, signal),
    post: of("POST"),
    delete: (path) => of("DELETE")(path),
    page: (path, signal) => call("GET", path, { key, signal }),
  };
}

/**
 * Takes a peer's right away and waits until the cluster has it: the answer of 202 names a place to ask until every gateway has
 * acknowledged or has run out of its lease. `progress` is called with each report.
 */
export async function untilEnforced(admin, first, progress = () => {}) {
  let report = first;
  progress(report);
  for (let tries = 0; report.enforced === false && report.poll && tries < 120; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    const poll = new URL(report.poll, location.href);
    if (poll.origin !== location.origin) break;
    report = { ...report, ...(await admin.get(poll.pathname + poll.search)) };
    progress(report);
  }
  return report;
}

function duration(ms) {
  return ms < 1 ? "in less than 1 ms" : `after ${Math.round(ms)} ms`;
}

/** A report of a revoke in one sentence. */
export function reportSentence(report) {
  const list = (names) => (names ?? []).join(", ");
  const parts = [];
  if ((report.acknowledged ?? []).length > 0) parts.push(`acknowledged by ${list(report.acknowledged)}`);
  if ((report.expired ?? []).length > 0) parts.push(`lease run out at ${list(report.expired)}`);
  const took = typeof report.waited_ms === "number" ? ` ${duration(report.waited_ms)}` : "";
  const how = parts.length > 0 ? `: ${parts.join("; ")}` : "";
  return report.enforced === false ? `Not enforced everywhere yet${how}.` : `Enforced${took}${how}.`;
}

// -- the key ------------------------------------------------------------------------------------------------------------

const KEY = "heliograph.admin-key";

/**
 * The admin key: kept in this tab's sessionStorage, so that it ends with the tab, and handed to other tabs of this origin that ask,
 * so that it is pasted only once. Emits "change".
 */
class KeyRing extends EventTarget {
  #channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("heliograph.admin-key") : null;

  constructor() {
    super();
    this.#channel?.addEventListener("message", ({ data }) => {
      if (data?.type === "ask" && this.key) this.#channel.postMessage({ type: "key", key: this.key });
      else if (data?.type === "key" && !this.key && typeof data.key === "string") this.#set(data.key);
      else if (data?.type === "forget" && this.key) this.#set(null);
    });
  }

  get key() {
    return sessionStorage.getItem(KEY);
  }

  /** Asks the other tabs. They answer by "change", or not at all. */
  ask() {
    if (!this.key) this.#channel?.postMessage({ type: "ask" });
  }

  /** Keeps a key that the server has accepted, here and in the tabs that are open. */
  keep(key) {
    this.#set(key);
    this.#channel?.postMessage({ type: "key", key });
  }

  /** Forgets it in all tabs. */
  forget() {
    this.#set(null);
    this.#channel?.postMessage({ type: "forget" });
  }

  #set(key) {
    if (key === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, key);
    this.dispatchEvent(new Event("change"));
  }
}

export const keyRing = new KeyRing();

/** Checks a key by a call that only an admin may make. Throws ApiError. */
export async function checkKey(key) {
  await call("GET", "/api/pairing/pending?limit=1", { key });
}

// -- live updates -------------------------------------------------------------------------------------------------------

/** The parts of an event stream (text/event-stream) as they arrive: yields {event, data}. Read with fetch, because EventSource cannot send a header. */
async function* eventStream(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = "message";
  let data = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    if (rest.length > 1_048_576) throw new Error("the event stream sent a line without an end");
    const lines = rest.split(/\r\n|\n|\r/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) yield { event, data: data.join("\n") };
        event = "message";
        data = [];
      } else if (line.startsWith("event:")) event = line.slice(6).trim();
      else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
    }
  }
}

/** A short name for a key, only to keep the streams of different keys apart. Nothing depends on it being hard to guess. */
function fingerprint(key) {
  let hash = 0x811c9dc5;
  for (const c of key) hash = Math.imul(hash ^ c.codePointAt(0), 0x01000193) >>> 0;
  return hash.toString(36);
}

/**
 * Follows the changes of the service and calls `listener({event, …data})` for each; also `{event: "open"}` whenever the stream (re)opens, since
 * something may have been missed. Returns a function that stops it.
 *
 * A browser keeps at most six connections to one server over all its tabs, so the tabs share one stream: the one that holds the lock reads it and
 * tells the others.
 */
export function follow(key, listener) {
  const stop = new AbortController();
  // One stream per key: an admin of one mesh does not hear the changes of another.
  const name = `heliograph.events.${fingerprint(key)}`;
  const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel(name) : null;
  /** What the stream is doing, in the tab that reads it; null in the others. */
  let reading = null;
  const tell = (message) => {
    if (message.event === "open" || message.event === "closed") reading = message.event;
    listener(message);
    channel?.postMessage(message);
  };
  channel?.addEventListener("message", ({ data }) => {
    // A tab that comes later has missed the opening.
    if (data?.event === "hello") {
      if (reading !== null) channel.postMessage({ event: reading });
    } else if (typeof data?.event === "string") listener(data);
  });
  channel?.postMessage({ event: "hello" });

  const read = async () => {
    for (let attempt = 0; !stop.signal.aborted; attempt += 1) {
      let floorMs = 0;
      try {
        const response = await fetch("/api/events", {
          headers: { "x-api-key": key, accept: "text/event-stream" },
          signal: stop.signal,
          cache: "no-store",
          credentials: "omit",
        });
        if (response.status === 401 || response.status === 403) {
          tell({ event: "refused" });
          return;
        }
        if (response.ok) {
          attempt = 0;
          tell({ event: "open" });
          for await (const { event, data } of eventStream(response)) {
            let parsed = {};
            try {
              parsed = JSON.parse(data);
            } catch {
              // The kind of the event is enough to look again.
            }
            tell({ ...parsed, event });
          }
        } else floorMs = retryAfterMs(response.headers.get("retry-after")) ?? 0;
      } catch {
        // The server went away or the page is being left; the loop decides.
      }
      if (stop.signal.aborted) return;
      tell({ event: "closed" });
      await new Promise((resolve) => setTimeout(resolve, backoffDelay(attempt, { floorMs, capMs: 10_000 })));
    }
  };

  // Locks exist only on https and on this machine; elsewhere each tab has its own stream.
  if (channel && navigator.locks) navigator.locks.request(name, { signal: stop.signal }, read).catch(() => {});
  else read();

  return () => {
    stop.abort();
    channel?.close();
  };
}
