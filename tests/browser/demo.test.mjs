// The demonstration page in real tabs: real sockets, real RTCPeerConnections, real DataChannels.

import { after, afterEach, before, beforeEach, test } from "node:test";
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Server, Tabs, connected, enrol, front, heard, launchBrowser, online, ownId, peerCard, say, until } from "./support.mjs";

let browser;
let server;
let tabs;

before(async () => {
  browser = await launchBrowser();
});
after(() => browser?.close());

// Each test has a server of its own: revoked and forgotten devices of one must not be the peers of the next.
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

/** Two tabs that are joined and connected. */
async function pair() {
  const a = await tabs.tab();
  await enrol(a, "Bowie", server.key);
  const b = await tabs.tab();
  await enrol(b, "Graham", server.key);
  await connected(a, "Graham");
  await connected(b, "Bowie");
  return [a, b];
}

/** Numbers the connections of a tab, so that a test can tell whether one was replaced. */
const markConnections = (page) => page.evaluate(() => [...globalThis.heliograph.client.peers.values()].forEach((p) => (p.connection.marked = true)));
const markedOpen = (page) => page.evaluate(() => [...globalThis.heliograph.client.peers.values()].filter((p) => p.open && p.connection.marked).length);

test("two tabs enrol, are approved with one click, open a DataChannel and exchange text", async () => {
  const [a, b] = await pair();

  await say(a, "Good morning from the ridge");
  await heard(b, "Good morning from the ridge");
  await b.getByLabel("Text", { exact: true }).fill("Clear sky here, I can see your mirror");
  await b.getByRole("button", { name: "Send", exact: true }).click();
  await heard(a, "Clear sky here, I can see your mirror");

  for (const [page, other] of [[a, "Graham"], [b, "Bowie"]]) {
    const card = peerCard(page, other);
    await card.locator("[data-field=rtt]").filter({ hasText: /^[\d.]+ ms$/ }).waitFor();
    await card.locator("[data-field=local]").filter({ hasText: "host" }).waitFor();
    await card.locator("[data-field=pair]").filter({ hasText: /(host|prflx) udp .+ → (host|prflx) udp/ }).waitFor();
  }
  const roles = await Promise.all([peerCard(a, "Graham"), peerCard(b, "Bowie")].map((card) => card.locator("[data-field=role]").innerText()));
  assert.deepEqual([...roles].sort(), ["impolite", "polite"], "exactly one gives way");

  // The pages name their devices; the ids are the service's.
  assert.notEqual(await ownId(a), await ownId(b));
  const offers = await Promise.all([a, b].map((page) => page.locator("#log .frame-out").filter({ hasText: "offer" }).count()));
  assert.deepEqual([...offers].sort(), [0, 1], "only the newcomer has offered");

  // The key was pasted once, in the first tab; it is in no address.
  for (const page of [a, b]) assert.equal(page.url(), `${server.url}/`);

  if (process.env.HELIOGRAPH_SCREENSHOTS) {
    const c = await tabs.tab();
    await enrol(c, "Antelope", server.key);
    await connected(a, "Antelope");
    await say(c, "Joining you both from the north");
    await heard(a, "Joining you both");
    const d = await tabs.tab();
    await d.getByLabel("Name of this device").fill("Hillsboro");
    await d.getByRole("button", { name: "Join", exact: true }).click();
    await a.getByRole("button", { name: "Approve Hillsboro" }).waitFor();
    await peerCard(a, "Antelope").locator("[data-field=pair]").filter({ hasText: "→" }).waitFor();
    await until(() => a.locator("#notices .note").count().then((n) => n === 0), "the notices are gone");
    await mkdir(process.env.HELIOGRAPH_SCREENSHOTS, { recursive: true });
    await a.screenshot({ path: join(process.env.HELIOGRAPH_SCREENSHOTS, "demo.png"), fullPage: true });
  }
});

test("a device without the admin key joins with an invite code", async () => {
  const invite = await server.call("POST", "/api/pairing/generate-code", { body: {} });
  const page = await tabs.tab();
  await page.getByText("Join with an invite code instead").click();
  await page.getByLabel("Name of this device").fill("Deming");
  // Wrong first: a readable refusal, and the form is still there.
  tabs.expect(/status of 40[01]/);
  await page.getByLabel("Invite code").fill("WRONG-CODE");
  await page.getByRole("button", { name: "Join with code" }).click();
  await page.locator("#alerts .note").waitFor();
  await page.getByRole("button", { name: "Close this message" }).click();
  await page.getByLabel("Invite code").fill(invite.json.code);
  await page.getByRole("button", { name: "Join with code" }).click();
  await page.locator("#waiting-text").filter({ hasText: "Deming" }).waitFor();
  assert.equal(await page.locator("#approvals").isVisible(), false, "without the key there is nothing to approve with");

  // A reload while it waits does not lose its place.
  await page.reload();
  await page.locator("#waiting-text").filter({ hasText: "Deming" }).waitFor();

  const pending = await server.call("GET", "/api/pairing/pending");
  assert.equal(pending.json.length, 1);
  await server.call("POST", `/api/pairing/${pending.json[0].id}/approve`, { body: { deliver: "device" } });
  await online(page);
  assert.equal(await ownId(page), pending.json[0].peer_id);
});

test("a rejected device is told so", async () => {
  const page = await tabs.tab();
  await page.getByLabel("Name of this device").fill("Emma");
  await page.getByLabel("Admin key").fill(server.key);
  await page.getByRole("button", { name: "Join", exact: true }).click();
  await page.getByRole("button", { name: "Reject Emma" }).click();
  await page.getByRole("alert").filter({ hasText: "Not approved" }).waitFor();
  await page.getByRole("button", { name: "Join", exact: true }).waitFor();
});

test("a peer that is revoked in a third tab sees its signaling stop, its counterpart is told, and it cannot come back", async () => {
  const [a, b] = await pair();
  const third = await tabs.tab();
  await enrol(third, "Antelope", server.key);
  await connected(third, "Graham");
  await connected(b, "Antelope");

  // What the revoked device could try to come back with: its device token, and a token from before.
  const device = await b.evaluate(() => JSON.parse(sessionStorage.getItem("heliograph.device")));
  const before = await server.call("POST", "/api/token", { admin: false, headers: { "x-device-token": device.token } });
  assert.equal(before.status, 200);

  await front(third);
  await third.getByRole("button", { name: "Revoke Graham" }).click();
  await third.getByRole("dialog").getByRole("button", { name: "Revoke", exact: true }).click();
  await third.locator("#notices").getByText(/Graham is revoked\. Enforced/).waitFor();

  await front(b);
  await b.getByRole("alert").filter({ hasText: "Signaling has stopped: this device was revoked" }).waitFor();
  await b.locator("#state[data-status=stopped]").waitFor();
  for (const page of [a, third]) {
    await page.locator("#messages .message-system").filter({ hasText: "Graham was revoked" }).waitFor();
    await peerCard(page, "Graham").waitFor({ state: "detached" });
  }
  await b.waitForFunction(() => [...globalThis.heliograph.client.peers.values()].every((p) => !p.open));
  // The others go on.
  await say(a, "Still here");
  await heard(third, "Still here");

  const token = await server.call("POST", "/api/token", { admin: false, headers: { "x-device-token": device.token } });
  assert.equal(token.status, 401);
  tabs.expect(/WebSocket connection to .* failed/);
  const outcome = await b.evaluate(
    (jwt) =>
      new Promise((resolve) => {
        const ws = new WebSocket(`ws://${location.host}/ws`, ["heliograph.mesh.v1"]);
        const seen = [];
        ws.onopen = () => {
          ws.send(JSON.stringify({ type: "authenticate", payload: { token: jwt } }));
          ws.send(JSON.stringify({ type: "register", peer_id: "x", payload: { version: 1, capabilities: [] } }));
        };
        ws.onmessage = ({ data }) => seen.push(JSON.parse(data).type);
        ws.onclose = ({ code }) => resolve({ code, seen });
      }),
    before.json.token,
  );
  assert.deepEqual(outcome.seen, [], "no list for a revoked peer");
  assert.ok([4401, 4403, 1006].includes(outcome.code), `the socket is refused (${outcome.code})`);

  // A reload changes nothing.
  tabs.expect(/status of 401/);
  await b.reload();
  await b.getByRole("alert").filter({ hasText: "this device is not accepted any more" }).waitFor();
});

test("a reload comes back as the same peer, and the channel opens again", async () => {
  const [a, b] = await pair();
  const id = await ownId(b);
  await b.reload();
  await online(b);
  assert.equal(await ownId(b), id);
  await connected(b, "Bowie");
  await connected(a, "Graham");
  await say(b, "Back again");
  await heard(a, "Back again");
  await say(a, "Welcome back");
  await heard(b, "Welcome back");

  // And the other one, so that both orders of offering were there.
  await a.reload();
  await connected(a, "Graham");
  await connected(b, "Bowie");
  await say(a, "Me too");
  await heard(b, "Me too");
});

test("the server is killed and started again: the open channel lives on, signaling comes back by itself", async () => {
  tabs.expect(/ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|ERR_SOCKET_NOT_CONNECTED|WebSocket connection to/);
  const [a, b] = await pair();
  const ids = [await ownId(a), await ownId(b)];
  await markConnections(a);
  await markConnections(b);

  await server.kill("SIGKILL");
  await a.locator("#state:not([data-status=online])").waitFor();
  await b.locator("#state:not([data-status=online])").waitFor();
  await say(a, "Can you still see me?");
  await heard(b, "Can you still see me?");

  await server.startAgain();
  await online(a);
  await online(b);
  assert.deepEqual([await ownId(a), await ownId(b)], ids);
  assert.equal(await markedOpen(a), 1, "the very same connection");
  assert.equal(await markedOpen(b), 1, "the very same connection");
  await say(b, "All the time");
  await heard(a, "All the time");

  // The new session is a whole one: a third tab finds both.
  const c = await tabs.tab();
  await enrol(c, "Antelope", server.key);
  await connected(c, "Bowie");
  await connected(c, "Graham");
});

test("the newest session of a device wins, and the older one says so", async () => {
  const page = await tabs.tab();
  await enrol(page, "Alma", server.key);
  const device = await page.evaluate(() => sessionStorage.getItem("heliograph.device"));
  const second = await tabs.tab();
  await second.evaluate((d) => sessionStorage.setItem("heliograph.device", d), device);
  await second.reload();
  await online(second);
  await page.getByRole("alert").filter({ hasText: "open elsewhere" }).waitFor();
  await front(page);
  await page.getByRole("button", { name: "Take over here" }).click();
  await online(page);
  await second.getByRole("alert").filter({ hasText: "open elsewhere" }).waitFor();
});

test("with the keyboard alone: join, approve, write", async () => {
  const other = await tabs.tab();
  await enrol(other, "Bowie", server.key);
  const page = await tabs.tab();
  // The other tab has handed the key over.
  await page.getByText("The admin key is known in this tab.").waitFor();
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label") || document.activeElement?.id || document.activeElement?.textContent?.trim() || "");
  const tabTo = async (wanted) => {
    for (let presses = 0; presses < 40; presses += 1) {
      if ((await focused()) === wanted) return;
      await page.keyboard.press("Tab");
    }
    assert.fail(`Tab does not reach "${wanted}"`);
  };
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "Skip to content");
  await tabTo("name");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("Rucker");
  await page.keyboard.press("Enter");
  // The approval of this very tab takes the focus by itself.
  await page.waitForFunction(() => document.activeElement?.getAttribute("aria-label") === "Approve Rucker");
  await page.keyboard.press("Enter");
  await online(page);
  await connected(page, "Bowie");
  await tabTo("Write to Bowie");
  await page.keyboard.press("Enter");
  await page.keyboard.type("Written without a mouse");
  await page.keyboard.press("Enter");
  await heard(other, "Written without a mouse");
});
