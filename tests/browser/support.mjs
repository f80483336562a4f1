// What the browser tests share: a server process of their own, a browser, and the steps of a newcomer.

import { execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

/** Bound of every wait. Generous: the machine may be busy building; nothing waits longer than it has to. */
export const BOUND_MS = 20_000;

export function binary() {
  const path = process.env.HELIOGRAPH_BIN;
  assert.ok(path, "Set HELIOGRAPH_BIN to the built binary, e.g. HELIOGRAPH_BIN=target/debug/heliograph");
  assert.ok(existsSync(path), `HELIOGRAPH_BIN names ${path}, which does not exist: build it first (cargo build -p heliograph)`);
  return path;
}

function chromiumPath() {
  const path = process.env.CHROMIUM || which("chromium") || which("chromium-browser") || which("google-chrome");
  assert.ok(path, "Chromium was not found. Install it (apt-get install chromium) or set CHROMIUM to its path.");
  assert.ok(existsSync(path), `CHROMIUM names ${path}, which does not exist. Install it: apt-get install chromium`);
  return path;
}

function which(name) {
  try {
    return execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim();
  } catch {
    return null;
  }
}

/** The environment of a process under test: nothing of the caller's own configuration may reach it. */
export function cleanEnvironment() {
  const foreign = /^(HELIOGRAPH_|OTEL_|SIGNALING_|API_KEY|TOKEN_URL|TURN_|ICE_|IPC_SOCKET|RUST_LOG)/;
  return { ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name))), NO_COLOR: "1" };
}

/** `hideAddresses`: as browsers do for pages without a camera or microphone, give mDNS names to the other side instead of addresses. */
export async function launchBrowser({ hideAddresses = false } = {}) {
  return chromium.launch({
    executablePath: chromiumPath(),
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // A machine without an mDNS responder cannot connect two pages that hide their addresses.
      `--${hideAddresses ? "enable" : "disable"}-features=WebRtcHideLocalIpsWithMdns`,
    ],
  });
}

/** `heliograph dev` with a data directory of its own. */
export class Server {
  #child = null;

  static async start() {
    const server = new Server();
    server.dataDir = await mkdtemp(join(tmpdir(), "heliograph-browser-"));
    await server.#spawn("127.0.0.1:0");
    assert.ok(server.key, `The first start printed no admin key:\n${server.output}`);
    return server;
  }

  async #spawn(listen) {
    const child = spawn(binary(), ["dev", "--listen", listen, "--ops-listen", "127.0.0.1:0", "--data-dir", this.dataDir], {
      env: cleanEnvironment(),
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    let text = "";
    let errors = "";
    child.stderr.on("data", (chunk) => {
      errors = (errors + chunk).slice(-8_000);
    });
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`The server printed no address within ${BOUND_MS} ms.\n${text}\n${errors}`)), BOUND_MS);
      child.once("error", reject);
      child.once("exit", (code, signal) => reject(new Error(`The server ended (${code ?? signal}) before it was ready.\n${text}\n${errors}`)));
      child.stdout.on("data", (chunk) => {
        text = (text + chunk).slice(-20_000);
        const url = /http:\/\/[^\s"']+/.exec(text);
        const key = /\bak_[A-Za-z0-9_-]+/.exec(text);
        if (key) this.key = key[0];
        // The key is printed on the first start only, and may come after the address.
        if (url && this.key) {
          this.url = new URL("/", url[0]).origin;
          clearTimeout(timer);
          resolve();
        }
      });
    });
    this.output = text;
    await until(async () => (await fetch(`${this.url}/`).catch(() => null))?.ok, "the page is served");
  }

  /** Ends it the hard way, as a power cut would. */
  async kill(signal = "SIGKILL") {
    const child = this.#child;
    this.#child = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    await new Promise((resolve) => {
      child.once("exit", resolve);
      child.kill(signal);
    });
  }

  /** Starts it again on the same data and the same port. */
  async startAgain() {
    await this.#spawn(new URL(this.url).host);
  }

  async stop() {
    await this.kill();
    await rm(this.dataDir, { recursive: true, force: true });
  }

  /** A call to the HTTP interface from outside of the browser. */
  async call(method, path, { body, headers = {}, admin = true } = {}) {
    const response = await fetch(this.url + path, {
      method,
      headers: { ...(admin ? { "x-api-key": this.key } : {}), ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    let json = null;
    try {
      json = JSON.parse(text);
    } catch {
      // Some answers have no body.
    }
    return { status: response.status, json, text };
  }

  /** A device that is already enrolled and approved; returns {peer_id, device_token}. */
  async device(name) {
    const invite = await this.call("POST", "/api/pairing/generate-code", { body: {} });
    const pair = await this.call("POST", "/api/pairing/pair", { body: { code: invite.json.code, agent_name: name }, admin: false });
    assert.equal(pair.status, 200, pair.text);
    const approved = await this.call("POST", `/api/pairing/${pair.json.id}/approve`, { body: { deliver: "device" } });
    assert.equal(approved.status, 200, approved.text);
    const status = await this.call("GET", `/api/pairing/${pair.json.id}/status`, { admin: false, headers: { authorization: `Bearer ${pair.json.claim_token}` } });
    assert.ok(status.json?.device_token, `the device gets its token: ${status.text}`);
    return { peer_id: pair.json.peer_id, device_token: status.json.device_token, pairing_id: pair.json.id };
  }
}

/** Waits for `check` to be truthy, with a bound. Returns what it returned. */
export async function until(check, what, boundMs = BOUND_MS) {
  const end = Date.now() + boundMs;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`Not within ${boundMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/**
 * A set of tabs that complains about everything a user would see in the developer tools: console errors, uncaught exceptions, violations of the
 * content security policy. `expected` names messages that a test brings about on purpose.
 */
export class Tabs {
  #browser;
  #problems = [];
  #expected = [];

  constructor(browser, server) {
    this.#browser = browser;
    this.server = server;
  }

  static async open(browser, server, options = {}) {
    const tabs = new Tabs(browser, server);
    tabs.context = await browser.newContext({ viewport: { width: 1280, height: 860 }, colorScheme: "light", ...options });
    tabs.context.setDefaultTimeout(BOUND_MS);
    await tabs.context.addInitScript(() => {
      globalThis.__violations = [];
      document.addEventListener("securitypolicyviolation", (e) => console.error(`CSP violation: ${e.violatedDirective} ${e.blockedURI}`));
    });
    return tabs;
  }

  expect(pattern) {
    this.#expected.push(pattern);
  }

  async tab(path = "/") {
    const page = await this.context.newPage();
    const problem = (text) => {
      if (!this.#expected.some((pattern) => pattern.test(text))) this.#problems.push(`${path}: ${text}`);
    };
    page.on("pageerror", (error) => problem(`uncaught ${error.stack ?? error.message}`));
    page.on("console", (message) => {
      if (message.type() === "error") problem(`${message.text()} ${message.location().url ?? ""}`);
    });
    await page.goto(this.server.url + path);
    return page;
  }

  /** Closes all tabs; fails when something was complained about. */
  async close() {
    await this.context.close();
    assert.deepEqual(this.#problems, [], "no console errors and no violations of the content security policy");
  }
}

// -- the steps of a newcomer --------------------------------------------------------------------------------------------

/** Join on the demonstration page and approve this very tab with one click. */
export async function enrol(page, name, key) {
  await front(page);
  await page.getByLabel("Name of this device").fill(name);
  const field = page.getByLabel("Admin key");
  if (await field.isVisible()) await field.fill(key);
  await page.getByRole("button", { name: "Join", exact: true }).click();
  await page.getByRole("button", { name: `Approve ${name}` }).click();
  await online(page);
  return ownId(page);
}

export async function online(page) {
  await page.locator("#state[data-status=online]").waitFor();
}

export async function ownId(page) {
  return page.locator("#own-id").innerText();
}

/** The card of a peer by the name it gave itself. */
export function peerCard(page, name) {
  return page.locator("#peers > li").filter({ has: page.getByRole("heading", { name, exact: true }) });
}

/** The card of a peer once its channel is open. */
export async function connected(page, name) {
  const card = peerCard(page, name);
  await card.and(page.locator("[data-status=open]")).waitFor();
  return card;
}

/** Chromium paints background tabs seldom, and a click waits until the button has been painted in one place twice. */
export function front(page) {
  return page.bringToFront();
}

export async function say(page, text) {
  await front(page);
  await page.getByLabel("Text", { exact: true }).fill(text);
  await page.getByLabel("Text", { exact: true }).press("Enter");
}

export async function heard(page, text) {
  await page.locator("#messages .message-in").filter({ hasText: text }).waitFor();
}
