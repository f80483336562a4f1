// Accessibility basics, by the browser's own accessibility tree: names, landmarks, headings, contrast. Both pages, light and dark, wide and narrow.

import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { Server, Tabs, connected, enrol, launchBrowser } from "./support.mjs";

let browser;
let server;

before(async () => {
  browser = await launchBrowser();
  server = await Server.start();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const CONTROLS = new Set(["button", "link", "textbox", "searchbox", "combobox", "listbox", "spinbutton", "checkbox", "radio", "switch", "tab", "menuitem", "slider", "image", "img", "dialog", "table", "DisclosureTriangle"]);

async function tree(page) {
  const session = await page.context().newCDPSession(page);
  const { nodes } = await session.send("Accessibility.getFullAXTree");
  await session.detach();
  return nodes.filter((node) => !node.ignored).map((node) => ({ role: node.role?.value, name: (node.name?.value ?? "").trim(), level: node.properties?.find((p) => p.name === "level")?.value?.value }));
}

/** Texts whose contrast with what is behind them is below 4.5 to 1 (3 to 1 for large ones). */
function poorContrast(page) {
  return page.evaluate(() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    // Painting a colour is the one way to read every notation of it.
    const rgba = (colour) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
    const ground = (element) => {
      const layers = [];
      for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
      return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
    };
    const luminance = ([r, g, b]) => {
      const f = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
      return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
    };
    const poor = [];
    for (const element of document.querySelectorAll("body *")) {
      if (![...element.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim() !== "")) continue;
      if (!element.checkVisibility() || element.closest("svg, option, noscript")) continue;
      const style = getComputedStyle(element);
      const behind = ground(element);
      const [x, y] = [luminance(over(rgba(style.color), behind)), luminance(behind)];
      const ratio = (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio < (large ? 3 : 4.5)) poor.push(`${element.tagName} "${element.textContent.trim().slice(0, 30)}" ${ratio.toFixed(2)}`);
    }
    return poor;
  });
}

async function check(page, what) {
  const nodes = await tree(page);
  const nameless = nodes.filter((n) => CONTROLS.has(n.role) && n.name === "").map((n) => n.role);
  assert.deepEqual(nameless, [], `${what}: every control has a name`);
  for (const role of ["banner", "main", "navigation"]) assert.ok(nodes.some((n) => n.role === role), `${what}: there is a ${role} landmark`);
  const headings = nodes.filter((n) => n.role === "heading");
  assert.equal(headings.filter((n) => n.level === 1).length, 1, `${what}: one first heading, of ${JSON.stringify(headings)}`);
  const navigations = nodes.filter((n) => n.role === "navigation").map((n) => n.name);
  assert.equal(new Set(navigations).size, navigations.length, `${what}: navigations can be told apart`);
  assert.equal(await page.evaluate(() => document.documentElement.lang), "en");
  const ids = await page.evaluate(() => [...document.querySelectorAll("[id]")].map((e) => e.id));
  assert.equal(new Set(ids).size, ids.length, `${what}: ids are unique`);
  assert.deepEqual(await poorContrast(page), [], `${what}: contrast`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(wide <= 0, `${what}: nothing is wider than the window (${wide} px)`);
}

for (const [colorScheme, width] of [["light", 1280], ["dark", 360]]) {
  test(`names, landmarks, headings and contrast: ${colorScheme}, ${width} px wide`, async () => {
    const tabs = await Tabs.open(browser, server, { colorScheme, viewport: { width, height: 800 }, reducedMotion: "reduce" });
    const page = await tabs.tab();
    await check(page, "start");
    await enrol(page, `Bowie ${width}`, server.key);
    const other = await tabs.tab();
    await enrol(other, `Graham ${width}`, server.key);
    await connected(other, `Bowie ${width}`);
    await check(other, "joined");

    await server.call("POST", "/api/keys", { body: { peer_id: "agent-listed", role: "agent", name: "listed" } });
    const invite = await server.call("POST", "/api/pairing/generate-code", { body: { uses: 2 } });
    await server.call("POST", "/api/pairing/pair", { body: { code: invite.json.code, agent_name: "Waiting one" }, admin: false });
    const admin = await tabs.tab("/console");
    for (const section of ["approvals", "peers", "invites", "keys", "gateways", "audit"]) {
      await admin.evaluate((hash) => (location.hash = hash), section);
      await admin.locator(`#rows-${section} tr`).first().waitFor();
      await check(admin, section);
    }
    await admin.evaluate(() => (location.hash = "invites"));
    await admin.getByRole("button", { name: "Make invite" }).click();
    await admin.getByRole("dialog").waitFor();
    const dialog = await tree(admin);
    assert.deepEqual(dialog.filter((n) => CONTROLS.has(n.role) && n.name === "").map((n) => n.role), []);
    await admin.keyboard.press("Escape");
    await admin.getByRole("button", { name: "Sign out" }).click();
    await admin.getByLabel("Admin key").waitFor();
    await check(admin, "sign-in");

    const rooms = await tabs.tab("/rooms");
    await check(rooms, "rooms");
    await rooms.getByRole("button", { name: "Enter" }).click();
    await rooms.locator("#state[data-status=online]").waitFor();
    await check(rooms, "in a room");

    // With reduced motion asked for, nothing moves by itself.
    const moving = await page.evaluate(() => document.getAnimations().length);
    assert.equal(moving, 0);
    await tabs.close();
  });
}
