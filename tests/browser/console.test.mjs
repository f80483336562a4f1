// The admin console: signing in, approving, inviting, revoking, the audit log; live while others act.

import { after, afterEach, before, beforeEach, test } from "node:test";
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Server, Tabs, connected, enrol, front, launchBrowser, until } from "./support.mjs";

let browser;
let server;
let tabs;

before(async () => {
  browser = await launchBrowser();
});
after(() => browser?.close());
beforeEach(async () => {
  server = await Server.start();
  tabs = await Tabs.open(browser, server);
});
afterEach(async () => {
  try {
    await tabs?.close();
  } finally {
    await server?.stop();
  }
});

async function signIn(page) {
  await page.getByLabel("Admin key").fill(server.key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Approvals" }).waitFor();
  await page.locator("#live[data-status=online]").waitFor();
}

const open = async (page, name) => {
  await page.getByRole("navigation", { name: "Console" }).getByRole("link", { name }).click();
  await page.getByRole("heading", { name, level: 1 }).waitFor();
};

const row = (page, text) => page.getByRole("row").filter({ hasText: text });

/** A device that has redeemed an invite and waits. */
async function waitingDevice(name) {
  const invite = await server.call("POST", "/api/pairing/generate-code", { body: {} });
  const pair = await server.call("POST", "/api/pairing/pair", { body: { code: invite.json.code, agent_name: name }, admin: false });
  assert.equal(pair.status, 200, pair.text);
  return pair.json;
}

test("a wrong key gets a readable answer, a key that is not an admin's as well, the right one opens the console", async () => {
  tabs.expect(/status of 40[13]/);
  const made = await server.call("POST", "/api/keys", { body: { peer_id: "agent-plain", role: "agent", name: "plain" } });
  assert.ok(made.json.key, made.text);
  const page = await tabs.tab("/console");
  const key = page.getByLabel("Admin key");
  await key.fill("ak_wrong");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").filter({ hasText: "does not know this key" }).waitFor();
  await key.fill(made.json.key);
  await page.keyboard.press("Enter");
  await page.getByRole("alert").filter({ hasText: "not an admin key" }).waitFor();
  await signIn(page);
  assert.equal(new URL(page.url()).search, "", "no key in the address");

  // A second tab asks the first; signing out in one signs out in both.
  const second = await tabs.tab("/console");
  await second.getByRole("heading", { name: "Approvals" }).waitFor();
  await second.getByRole("button", { name: "Sign out" }).click();
  await second.getByLabel("Admin key").waitFor();
  await page.getByLabel("Admin key").waitFor();
  for (const tab of [page, second]) assert.equal(await tab.evaluate(() => sessionStorage.length), 0);
});

test("the approval queue is live, and works with the keyboard alone", async () => {
  const page = await tabs.tab("/console");
  await page.keyboard.type(server.key);
  await page.keyboard.press("Enter");
  await page.locator("#live[data-status=online]").waitFor();
  await page.getByText("Nobody is waiting.").waitFor();

  const first = await waitingDevice("Tubac");
  const second = await waitingDevice("Capitan");
  await page.getByRole("button", { name: "Approve Tubac" }).waitFor();
  await page.getByRole("button", { name: "Approve Capitan" }).waitFor();
  await page.locator("#count-approvals").filter({ hasText: "2" }).waitFor();

  const focused = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? "");
  const tabTo = async (wanted) => {
    for (let presses = 0; presses < 60; presses += 1) {
      if ((await focused()) === wanted) return;
      await page.keyboard.press("Tab");
    }
    assert.fail(`Tab does not reach "${wanted}"`);
  };
  await tabTo("Approve Tubac");
  await page.keyboard.press("Enter");
  await row(page, "Tubac").waitFor({ state: "detached" });
  const kept = await focused();
  assert.notEqual(kept, "", "the focus did not fall off the page");
  await tabTo("Reject Capitan");
  await page.keyboard.press("Space");
  await page.getByText("Nobody is waiting.").waitFor();

  const status = async (pairing) => (await server.call("GET", `/api/pairing/${pairing.id}/status`, { admin: false, headers: { authorization: `Bearer ${pairing.claim_token}` } })).json.status;
  assert.equal(await status(first), "approved");
  assert.equal(await status(second), "rejected");
});

test("an invite is shown once with its QR code, works, and can be revoked", async () => {
  const page = await tabs.tab("/console#invites");
  await signInHere(page);
  await page.getByLabel("Devices").fill("2");
  await page.getByRole("button", { name: "Make invite" }).click();
  const dialog = page.getByRole("dialog", { name: "Invite code" });
  const code = await dialog.getByLabel("invite code", { exact: true }).innerText();
  assert.ok(code.length >= 6);
  const qr = dialog.getByRole("img", { name: "QR code of the invite code" });
  await qr.waitFor();
  assert.ok(await qr.evaluate((image) => image.complete && image.naturalWidth > 0), "the image is a picture");
  assert.match(await qr.getAttribute("src"), /^data:image\/svg\+xml,/);
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Make invite", "the focus is back where it was");

  const pair = await server.call("POST", "/api/pairing/pair", { body: { code, agent_name: "Lookout" }, admin: false });
  assert.equal(pair.status, 200, pair.text);
  await page.getByRole("row").filter({ hasText: "open" }).first().waitFor();
  assert.equal(await page.locator("body").innerText().then((text) => text.includes(code)), false, "the code is not shown again");

  await page.getByRole("button", { name: /^Revoke invite/ }).first().click();
  await page.locator("#rows-invites").getByText("revoked").waitFor();
  const again = await server.call("POST", "/api/pairing/pair", { body: { code, agent_name: "Lookout" }, admin: false });
  assert.equal(again.status, 401);

  // The device that came by it waits on; asked to, the invite takes it along.
  const invite = page.locator("#rows-invites tr").filter({ hasText: "revoked" }).first();
  await invite.getByRole("button", { name: /^Revoke all who came by/ }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke all" }).click();
  await page.locator("#notices").getByText(/0 peers revoked, 1 waiting device rejected\. Enforced/).waitFor();
  const status = await server.call("GET", `/api/peers/${pair.json.peer_id}`);
  assert.equal(status.json.status, "rejected");
});

async function signInHere(page) {
  await page.getByLabel("Admin key").fill(server.key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator("#live[data-status=online]").waitFor();
}

test("a revoke shows who acknowledged it, and the audit log holds it in an intact chain", async () => {
  const device = await tabs.tab();
  await enrol(device, "Swisshelm", server.key);
  const page = await tabs.tab("/console#peers");
  await page.locator("#live[data-status=online]").waitFor();
  await row(page, "Swisshelm").filter({ hasText: /session \d+/ }).waitFor();

  // Asked first, and "Cancel" means it.
  await page.getByRole("button", { name: "Revoke Swisshelm" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Revoke Swisshelm" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke", exact: true }).click();
  const report = page.locator("#report");
  await report.getByRole("heading", { name: "Swisshelm is revoked" }).waitFor();
  const text = await report.innerText();
  assert.match(text, /Enforced (after \d+|in less than 1) ms/);
  const gateways = await server.call("GET", "/api/gateways");
  assert.ok(text.includes(gateways.json.gateways[0].id), "the gateway that acknowledged is named");
  await row(page, "Swisshelm").filter({ hasText: "revoked" }).waitFor();
  await front(device);
  await device.getByRole("alert").filter({ hasText: "this device was revoked" }).waitFor();

  await front(page);
  await open(page, "Audit log");
  await page.locator("#rows-audit tr").first().waitFor();
  assert.match(await page.locator("#rows-audit").innerText(), /revoke/i);
  await page.getByRole("button", { name: "Verify the chain" }).click();
  await page.locator("#chain").filter({ hasText: /intact\s*All \d+ entries follow from each other/ }).waitFor();
});

test("API keys: shown once, usable, revoked", async () => {
  const page = await tabs.tab("/console#keys");
  await signInHere(page);
  await page.getByLabel("Peer id").fill("agent-batch");
  await page.getByLabel("Name", { exact: true }).fill("nightly batch");
  await page.getByRole("button", { name: "Make key" }).click();
  const dialog = page.getByRole("dialog", { name: "API key" });
  const key = await dialog.getByLabel("API key", { exact: true }).innerText();
  assert.match(key, /^ak_/);
  await dialog.getByRole("button", { name: "Done" }).click();
  const token = () => server.call("POST", "/api/token", { admin: false, headers: { "x-api-key": key } });
  assert.equal((await token()).json.peer_id, "agent-batch");
  await page.getByRole("button", { name: "Revoke key nightly batch" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke key" }).click();
  await page.locator("#notices").getByText(/The key nightly batch is revoked/).waitFor();
  assert.equal((await token()).status, 401);
});

test("the audit log is paged by cursor", async () => {
  for (let i = 0; i < 60; i += 1) await server.call("POST", "/api/pairing/generate-code", { body: {} });
  const page = await tabs.tab("/console#audit");
  await signInHere(page);
  const rows = page.locator("#rows-audit tr");
  await until(async () => (await rows.count()) === 50, "the first page");
  await page.locator("#more-audit").getByRole("button", { name: "Show more" }).click();
  await until(async () => (await rows.count()) > 55, "the second page");
  const versions = (await page.locator("#rows-audit th").allInnerTexts()).map(Number);
  assert.deepEqual(versions, [...versions].sort((x, y) => y - x), "newest first, without repetition");
  assert.equal(new Set(versions).size, versions.length);
  // A change comes in at the top, and what was paged to stays.
  const before = versions.length;
  await server.call("POST", "/api/pairing/generate-code", { body: {} });
  await until(async () => (await rows.count()) === before + 1, "the new entry");
});

test("gateways, and the console as a picture", async () => {
  const a = await tabs.tab();
  await enrol(a, "Bowie", server.key);
  const b = await tabs.tab();
  await enrol(b, "Graham", server.key);
  await connected(b, "Bowie");
  const page = await tabs.tab("/console#gateways");
  await page.locator("#rows-gateways tr").first().waitFor();
  assert.match(await page.locator("#rows-gateways").innerText(), /current/);
  await until(async () => (await page.locator("#tile-sessions").innerText()) === "2", "both sessions are counted");

  if (process.env.HELIOGRAPH_SCREENSHOTS) {
    await server.device("Antelope");
    await waitingDevice("Hillsboro");
    await open(page, "Peers");
    await page.getByRole("button", { name: "Revoke Antelope" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Revoke", exact: true }).click();
    await page.getByRole("heading", { name: "Antelope is revoked" }).waitFor();
    await row(page, "Hillsboro").waitFor();
    await row(page, "Antelope").filter({ hasText: "revoked" }).waitFor();
    await page.locator("#count-approvals").filter({ hasText: "1" }).waitFor();
    await mkdir(process.env.HELIOGRAPH_SCREENSHOTS, { recursive: true });
    await page.screenshot({ path: join(process.env.HELIOGRAPH_SCREENSHOTS, "console.png"), fullPage: true });
  }
});
