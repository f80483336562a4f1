// How the files of web/ are served: where, as what, and under which policy.

import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { Server } from "./support.mjs";

const web = new URL("../../web/", import.meta.url);
const TYPES = { html: /^text\/html\b/, js: /^(text|application)\/javascript\b/, css: /^text\/css\b/, svg: /^image\/svg\+xml\b/, ts: /./ };

let server;

before(async () => {
  server = await Server.start();
});
after(() => server?.stop());

async function same(path, file) {
  const response = await fetch(server.url + path);
  assert.equal(response.status, 200, path);
  assert.match(response.headers.get("content-type") ?? "", TYPES[file.split(".").pop()], path);
  assert.equal(await response.text(), await readFile(new URL(file, web), "utf8"), `${path} is web/${file}`);
  return response;
}

test("each file is at its address, with its type", async () => {
  await same("/", "index.html");
  await same("/console", "console.html");
  await same("/rooms", "rooms.html");
  await same("/client.js", "client.js");
  await same("/client.d.ts", "client.d.ts");
  for (const file of await readdir(web)) {
    if (/\.(js|css|svg)$/.test(file)) await same(`/assets/${file}`, file);
  }
  const missing = await fetch(`${server.url}/assets/no-such-file.js`);
  assert.equal(missing.status, 404);
});

test("the pages are under a policy that allows nothing but their own files, and cannot be framed", async () => {
  for (const path of ["/", "/console", "/rooms"]) {
    const response = await fetch(server.url + path);
    const policy = response.headers.get("content-security-policy") ?? "";
    for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]) {
      assert.ok(policy.includes(part), `${path}: ${part} in "${policy}"`);
    }
    assert.doesNotMatch(policy, /unsafe|\*|https?:/, path);
    assert.equal(response.headers.get("x-content-type-options"), "nosniff", path);
  }
});

test("the files keep to it: no inline script or style, nothing from elsewhere", async () => {
  for (const file of await readdir(web)) {
    const text = await readFile(new URL(file, web), "utf8");
    if (file.endsWith(".html")) {
      assert.doesNotMatch(text, /<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=/i, file);
      for (const [, address] of text.matchAll(/(?:src|href)="([^"]*)"/g)) assert.match(address, /^(\/|#)/, `${file}: ${address}`);
    }
    if (/\.(js|css)$/.test(file)) {
      assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|@import|url\(/, file);
      for (const [, address] of text.matchAll(/\bfrom "([^"]+)"/g)) assert.match(address, /^\/(client\.js|assets\/[a-z]+\.js)$/, `${file}: ${address}`);
    }
  }
});
