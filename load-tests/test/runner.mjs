// Runs a script of this folder where there is no k6: k6's modules on Node's sockets and clock, one process for all VUs. It shows that the
// scripts run, do what they say and judge what they see; what it measures is worth nothing.
//
//   node test/runner.mjs SCRIPT        prints what the metrics hold, as JSON; settings come by the environment as k6 takes them

import { register } from "node:module";
import { pathToFileURL } from "node:url";
import WebSocket from "ws";

class K6Socket {
  constructor(url, protocols, params) {
    this.socket = new WebSocket(url, { headers: params?.headers });
  }
  get readyState() {
    return this.socket.readyState;
  }
  addEventListener(name, listener) {
    const events = { message: (data) => listener({ data: data.toString() }), close: () => listener({}), error: (error) => listener({ error }) };
    this.socket.on(name, events[name] ?? listener);
  }
  send(text) {
    // As k6's does, and unlike that of Node.
    if (this.readyState !== WebSocket.OPEN) throw new Error("InvalidStateError");
    this.socket.send(text);
  }
  close(code) {
    this.socket.close(code);
  }
}

const metrics = {};
class Metric {
  constructor(name) {
    metrics[name] = this.values = [];
  }
  add(value) {
    this.values.push(Number(value));
  }
}

async function asyncRequest(method, url, body, { headers }) {
  try {
    const answer = await fetch(url, { method, headers, body });
    return { status: answer.status, body: await answer.text() };
  } catch {
    // k6's word for no answer.
    return { status: 0, body: null };
  }
}

const vu = { idInTest: 1 };
globalThis.k6 = {
  "k6/execution": { default: { vu } },
  "k6/http": { default: { asyncRequest } },
  "k6/metrics": { Counter: Metric, Rate: Metric, Trend: Metric },
  "k6/timers": { setTimeout, clearTimeout },
  "k6/websockets": { WebSocket: K6Socket },
};
globalThis.__ENV = process.env;
globalThis.__VU = 1;
globalThis.__ITER = 0;

const hooks = `
  export async function resolve(name, context, next) {
    return name.startsWith("k6/") ? { url: "k6:" + name, shortCircuit: true } : next(name, context);
  }
  export async function load(url, context, next) {
    if (!url.startsWith("k6:")) return next(url, context);
    const name = url.slice(3);
    const names = { "k6/execution": ["default"], "k6/http": ["default"], "k6/metrics": ["Counter", "Rate", "Trend"],
      "k6/timers": ["setTimeout", "clearTimeout"], "k6/websockets": ["WebSocket"] }[name];
    if (!names) throw new Error("the runner knows no " + name);
    const lines = names.map((n) => n === "default" ? "export default k6['" + name + "'].default;" : "export const " + n + " = k6['" + name + "']." + n + ";");
    return { format: "module", source: lines.join("\\n"), shortCircuit: true };
  }`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);

/** An iteration that fails is told of, as k6 does, and judged by the thresholds alone. */
async function iteration(run, startTime = "0s") {
  await new Promise((done) => setTimeout(done, 1_000 * Number.parseFloat(startTime)));
  await run().catch((error) => console.error(error));
}

const script = await import(pathToFileURL(process.argv[2]));
const shared = await script.setup?.();
// Each scenario once; every VU would do the same under another name.
const scenarios = Object.values(script.options.scenarios);
await Promise.all(scenarios.map(({ exec, startTime }) => iteration(() => script[exec ?? "default"](shared), startTime)));
await script.teardown?.(shared);
process.stdout.write(`${JSON.stringify({ thresholds: script.options.thresholds, metrics })}\n`);
process.exit(0);
