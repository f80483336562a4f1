// Rooms in real tabs, by both dialects: the page of `dev`, and two browsers on two gateways of a cluster.

import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { Cluster } from "../cluster.mjs";
import { BOUND_MS, Server, Tabs, front, heard, launchBrowser, say, until } from "./support.mjs";

const DIALECTS = ["rendezvous", "rtc"];

let browser;
let server;
let cluster;

before(async () => {
  browser = await launchBrowser();
  server = await Server.start();
  cluster = await Cluster.start(2);
});
after(async () => {
  await browser?.close();
  await Promise.all([server?.stop(), cluster?.stop()]);
});

/** Through the form of the page. */
async function enter(page, dialect, room) {
  await front(page);
  await page.getByRole("combobox", { name: "Dialect" }).selectOption(dialect);
  await page.getByRole("textbox", { name: "Room" }).fill(room);
  await page.getByRole("button", { name: "Enter" }).click();
  await page.locator("#state[data-status=online]").waitFor();
  return page.locator("#own-id").innerText();
}

const connectedTo = (page, count) => page.locator("#peers > li[data-status=open]").nth(count - 1).waitFor();

for (const dialect of DIALECTS) {
  test(`three tabs in a room talk over DataChannels: ${dialect}`, async () => {
    const tabs = await Tabs.open(browser, server);
    const [a, b] = [await tabs.tab("/rooms"), await tabs.tab("/rooms")];
    const ids = [await enter(a, dialect, "Wohnzimmer Süd"), await enter(b, dialect, "Wohnzimmer Süd")];
    // A link leads to the same room.
    const c = await tabs.tab(new URL(await a.locator("#second").evaluate((link) => link.href)).pathname + new URL(a.url()).hash);
    assert.equal(await c.getByRole("textbox", { name: "Room" }).inputValue(), "Wohnzimmer Süd");
    ids.push(await enter(c, dialect, "Wohnzimmer Süd"));
    assert.equal(new Set(ids).size, 3, "each has a name of its own");
    for (const page of [a, b, c]) await connectedTo(page, 2);
    const proven = await c.locator("#peers > li").filter({ hasText: "proven to be its own" }).count();
    assert.equal(proven, dialect === "rendezvous" ? 2 : 0);
    const offers = await Promise.all([a, b, c].map((page) => page.evaluate(() => [...globalThis.heliographRoom.peers.values()].filter((peer) => peer.connection.localDescription.type === "offer").length)));
    assert.deepEqual(offers, [0, 1, 2], "who comes later offers");

    await say(a, "Good morning from the ridge");
    for (const page of [b, c]) await heard(page, "Good morning from the ridge");
    await say(c, "Clear sky here");
    for (const page of [a, b]) await heard(page, "Clear sky here");

    await front(b);
    await b.getByRole("button", { name: "Leave" }).click();
    await b.locator("#state[data-status=idle]").waitFor();
    for (const page of [a, c]) await until(async () => (await page.locator("#peers > li").count()) === 1, "one is left");
    await enter(b, dialect, "Wohnzimmer Süd");
    for (const page of [a, b, c]) await connectedTo(page, 2);
    await tabs.close();
  });

  test(`two browsers on two gateways connect: ${dialect}`, async () => {
    const other = await launchBrowser();
    const tabs = [];
    try {
      const pages = [];
      for (const [from, gateway] of [[browser, 0], [other, 1]]) {
        tabs.push(await Tabs.open(from, cluster.gateways[gateway]));
        pages.push(await tabs.at(-1).tab("/console"));
      }
      for (const page of pages) {
        await page.evaluate(async (dialect) => {
          const { joinRoom } = await import("/assets/room.js");
          globalThis.texts = [];
          globalThis.room = await joinRoom({ dialect, room: `across ${dialect}`, name: "across", onText: (_peer, text) => globalThis.texts.push(text) });
        }, dialect);
      }
      for (const [here, there] of [pages, [...pages].reverse()]) {
        await here.waitForFunction(() => [...globalThis.room.peers.values()].filter((peer) => peer.open).length === 1, undefined, { timeout: BOUND_MS });
        const text = `from ${here.url()}`;
        await here.evaluate((line) => globalThis.room.send(line), text);
        await there.waitForFunction((line) => globalThis.texts.includes(line), text, { timeout: BOUND_MS });
      }
    } finally {
      for (const set of tabs) await set.close();
      await other.close();
    }
  });
}

test("a room of one dialect is none of the other", async () => {
  const tabs = await Tabs.open(browser, server);
  const [a, b] = [await tabs.tab("/rooms"), await tabs.tab("/rooms")];
  await enter(a, "rendezvous", "the same name");
  await enter(b, "rtc", "the same name");
  const c = await tabs.tab("/rooms");
  await enter(c, "rendezvous", "the same name");
  await connectedTo(a, 1);
  await connectedTo(c, 1);
  assert.deepEqual(await Promise.all([a, b, c].map((page) => page.locator("#peers > li").count())), [1, 0, 1]);
  await tabs.close();
});

test("a name that is no name is refused in words", async () => {
  const tabs = await Tabs.open(browser, server);
  tabs.expect(/WebSocket connection .* failed/);
  const page = await tabs.tab("/rooms");
  await page.getByRole("textbox", { name: "Room" }).fill('a"b');
  await page.getByRole("button", { name: "Enter" }).click();
  await page.locator("#alerts .note").filter({ hasText: "did not open a socket" }).waitFor();
  await tabs.close();
});
