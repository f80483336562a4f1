// The admin console. One section is shown at a time, by the address's fragment; what is shown is fetched again whenever the service says that
// something changed.

import { api, checkKey, follow, keyRing, reportSentence, untilEnforced } from "/assets/admin.js";
import { $, busy, coalesce, confirmDialog, h, notify, pill, plural, reconcile, secretField, setPill, setText, setWhen, showDialog, when } from "/assets/ui.js";

const PAGE = 50;
/** A live update fetches again what is shown, up to this many pages; what was paged to beyond that is a look into the past and stays. */
const LIVE_PAGES = 4;

let admin = null;
let stopFollowing = null;

const path = encodeURIComponent;

// -- lists --------------------------------------------------------------------------------------------------------------

/**
 * One paged table. `read` takes the items out of an answer; `row` says how an item is shown.
 */
class List {
  #name;
  #url;
  #read;
  #row;
  #items = [];
  #pages = 1;
  #next = null;

  constructor(name, { url, read, row }) {
    this.#name = name;
    this.#url = url;
    this.#read = read;
    this.#row = row;
    $(`more-${name}`)
      ?.querySelector("button")
      .addEventListener("click", (event) => busy(event.currentTarget, () => this.#more()));
  }

  get items() {
    return this.#items;
  }

  get complete() {
    return this.#next === null;
  }

  async #page(cursor) {
    const query = new URLSearchParams({ limit: PAGE });
    if (cursor !== null) query.set("cursor", cursor);
    const { answer, next } = await admin.page(`${this.#url}?${query}`);
    return { items: this.#read(answer), next: next === null ? null : String(next) };
  }

  async refresh() {
    const items = [];
    let next = null;
    let pages = 0;
    do {
      const page = await this.#page(next);
      items.push(...page.items);
      next = page.next;
      pages += 1;
    } while (next !== null && pages < Math.min(this.#pages, LIVE_PAGES));
    if (this.#pages > LIVE_PAGES && next !== null) {
      const key = this.#row.key;
      const fresh = new Set(items.map(key));
      items.push(...this.#items.filter((item) => !fresh.has(key(item))));
      next = this.#next;
    }
    this.#items = items;
    this.#next = next;
    this.#paint();
  }

  async #more() {
    const before = this.#items.length;
    const page = await this.#page(this.#next);
    const have = new Set(this.#items.map(this.#row.key));
    this.#items.push(...page.items.filter((item) => !have.has(this.#row.key(item))));
    this.#next = page.next;
    this.#pages += 1;
    this.#paint();
    notify(`${plural(this.#items.length - before, "more entry", "more entries")} shown.`);
  }

  #paint() {
    reconcile($(`rows-${this.#name}`), this.#items, this.#row);
    $(`empty-${this.#name}`).hidden = this.#items.length > 0;
    const more = $(`more-${this.#name}`);
    if (more) more.hidden = this.#next === null;
  }
}

/** A row by cells: each cell's content is made anew only when its text changes, and buttons never, so that a live update does not take the focus. */
function cells(...names) {
  return names.map((name) => h(name === "head" ? "th" : "td", { data: { cell: name }, ...(name === "head" ? { scope: "row" } : {}), ...(name === "actions" ? { class: "actions" } : {}), ...(name === "detail" ? { class: "wrap" } : {}) }));
}

function fill(row, name, ...content) {
  const cell = row.querySelector(`[data-cell="${name}"]`);
  const next = h("div", {}, ...content);
  if (cell.dataset.was === next.textContent) {
    const at = next.querySelector("time[data-at]");
    if (at && cell.querySelector("time")) setWhen(cell.querySelector("time"), Number(at.dataset.at));
    return;
  }
  cell.dataset.was = next.textContent;
  cell.replaceChildren(...next.childNodes);
}

const mono = (text) => h("span", { class: "mono", text });
const sub = (...content) => h("span", { class: "sub" }, ...content);
const short = (hash) => (typeof hash === "string" ? hash.slice(0, 12) : "–");

// -- approvals ----------------------------------------------------------------------------------------------------------

const approvals = new List("approvals", {
  url: "/api/pairing/pending",
  read: (answer) => answer,
  row: {
    key: (p) => p.id,
    create: (p) => {
      const row = h("tr", {}, ...cells("head", "mesh", "asked", "from", "actions"));
      row.querySelector('[data-cell="actions"]').append(
        h("button", { type: "button", class: "primary small", "aria-label": `Approve ${p.agent_name}`, onclick: (e) => decide(e.currentTarget, p, "approve") }, "Approve"),
        " ",
        h("button", { type: "button", class: "quiet small", "aria-label": `Reject ${p.agent_name}`, onclick: (e) => decide(e.currentTarget, p, "reject") }, "Reject"),
      );
      return row;
    },
    update: (row, p) => {
      fill(row, "head", p.agent_name, mono(p.peer_id));
      fill(row, "mesh", p.mesh ?? "default");
      fill(row, "asked", when(p.created_at));
      fill(row, "from", p.address ?? "–", p.key_fingerprint ? sub("key ", mono(short(p.key_fingerprint))) : null);
    },
  },
});

async function decide(button, pairing, decision) {
  const row = button.closest("tr");
  const neighbour = row.nextElementSibling ?? row.previousElementSibling;
  await busy(button, async () => {
    await admin.post(`/api/pairing/${path(pairing.id)}/${decision}`, decision === "approve" ? { deliver: "device" } : {});
    notify(decision === "approve" ? `${pairing.agent_name} is approved.` : `${pairing.agent_name} is rejected.`);
    // The row is about to go; the focus goes to the next one, or to the title when the queue is empty.
    (neighbour?.querySelector("button") ?? $("title-approvals")).focus();
  });
  refresh();
}

// -- peers --------------------------------------------------------------------------------------------------------------

const peers = new List("peers", {
  url: "/api/peers",
  read: (answer) => answer.peers,
  row: {
    key: (p) => `${p.mesh}/${p.peer_id}`,
    create: (p) => {
      const row = h("tr", {}, ...cells("head", "status", "mesh", "sessions", "changed", "actions"));
      row.querySelector('[data-cell="actions"]').append(
        h("button", { type: "button", class: "danger quiet small", "aria-label": `Revoke ${p.name || p.peer_id}`, onclick: (e) => revokePeer(e.currentTarget, p) }, "Revoke"),
      );
      return row;
    },
    update: (row, p) => {
      fill(row, "head", p.name || p.peer_id, p.name ? mono(p.peer_id) : null);
      fill(row, "status", pill(p.status));
      fill(row, "mesh", p.mesh ?? "default", sub(p.role, p.origin === "key" ? ", API key" : ", invite"));
      const sessions = p.sessions ?? [];
      fill(
        row,
        "sessions",
        ...(sessions.length === 0 ? ["–"] : sessions.map(sessionLine)),
      );
      fill(row, "changed", when(p.updated_at), sub(`version ${p.version ?? "–"}`));
      row.querySelector('[data-cell="actions"] button').hidden = p.status !== "approved";
    },
  },
});

/** Where a session is and which it is; dialect and age where the service knows them. */
function sessionLine({ gateway, epoch, dialect, since }) {
  const about = [`session ${epoch ?? "?"}`];
  if (dialect) about.push(`, ${dialect}`);
  if (typeof since === "number") about.push(", ", when(since));
  return h("span", {}, mono(gateway), sub(...about));
}

async function revokePeer(button, peer) {
  const name = peer.name || peer.peer_id;
  const sure = await confirmDialog({
    title: `Revoke ${name}?`,
    text: `Nothing is relayed to it or from it any more, on any gateway, and its counterparts are told to close their connections. This cannot be taken back.${
      peer.role === "admin" ? " It is an administrator: its keys open this console no longer, perhaps also yours." : ""
    }`,
    action: "Revoke",
  });
  if (!sure) return;
  await busy(button, async () => {
    const first = await admin.post(`/api/pairing/${path(peer.peer_id)}/revoke?wait=enforced&mesh=${path(peer.mesh)}`);
    const report = await untilEnforced(admin, first, (r) => paintReport(name, r));
    paintReport(name, report);
    $("title-peers").focus();
  });
  refresh();
}

function paintReport(name, report) {
  const fact = (term, value) => h("div", {}, h("dt", { text: term }), h("dd", {}, value));
  const list = (ids) => ((ids ?? []).length === 0 ? "none" : mono(ids.join(", ")));
  $("report").replaceChildren(
    h(
      "div",
      { class: report.enforced === false ? "card report open" : "card report" },
      h("h2", { text: report.enforced === false ? `${name}: waiting for the gateways` : `${name} is revoked` }),
      h("p", { class: "muted", text: reportSentence(report) }),
      h(
        "dl",
        { class: "facts" },
        fact("Acknowledged by", list(report.acknowledged)),
        fact("Lease run out", list(report.expired)),
        fact("Waited", typeof report.waited_ms === "number" ? report.waited_ms < 1 ? "less than 1 ms" : `${Math.round(report.waited_ms)} ms` : "–"),
        fact("Version", String(report.version ?? "–")),
      ),
    ),
  );
}

// -- invites ------------------------------------------------------------------------------------------------------------

const invites = new List("invites", {
  url: "/api/invites",
  read: (answer) => answer.invites,
  row: {
    key: (i) => i.id,
    create: (i) => {
      const row = h("tr", {}, ...cells("head", "status", "uses", "expires", "by", "actions"));
      row.querySelector('[data-cell="actions"]').append(
        h("button", { type: "button", class: "danger quiet small", "aria-label": `Revoke invite ${i.id}`, onclick: (e) => revokeInvite(e.currentTarget, i) }, "Revoke"),
        " ",
        h("button", { type: "button", class: "danger quiet small", "aria-label": `Revoke all who came by ${i.id}`, onclick: (e) => revokeEnrolled(e.currentTarget, i) }, "Revoke all"),
      );
      return row;
    },
    update: (row, i) => {
      fill(row, "head", mono(i.id), sub(i.mesh ?? "default"));
      fill(row, "status", pill(i.status === "open" ? "open" : i.status === "revoked" ? "revoked" : "idle", i.status));
      fill(row, "uses", String(i.uses_left ?? "–"));
      fill(row, "expires", when(i.expires_at));
      fill(row, "by", mono(i.created_by ?? "–"), sub(when(i.created_at)));
      row.querySelector('[data-cell="actions"] button').hidden = i.status !== "open";
    },
  },
});

async function revokeInvite(button, invite) {
  await busy(button, async () => {
    await admin.delete(`/api/invites/${path(invite.id)}`);
    notify("The invite is revoked.");
    $("title-invites").focus();
  });
  refresh();
}

async function revokeEnrolled(button, invite) {
  const sure = await confirmDialog({
    title: "Revoke all who came by this invite?",
    text: `Everybody who enrolled by ${invite.id} loses their right, on every gateway; devices that wait are rejected, and the invite can no longer be used. This cannot be taken back.`,
    action: "Revoke all",
  });
  if (!sure) return;
  await busy(button, async () => {
    const first = await admin.delete(`/api/invites/${path(invite.id)}?enrolled=revoke&wait=enforced`);
    const report = await untilEnforced(admin, first ?? {});
    const { revoked = 0, rejected = 0 } = report.counts ?? {};
    notify(`${plural(revoked, "peer")} revoked, ${plural(rejected, "waiting device")} rejected. ${reportSentence(report)}`);
    $("title-invites").focus();
  });
  refresh();
}

$("invite-form").addEventListener("submit", (event) => {
  event.preventDefault();
  busy(event.submitter, async () => {
    const invite = await admin.post("/api/pairing/generate-code", {
      ttl_seconds: Number($("invite-ttl").value),
      uses: Number($("invite-uses").value),
      format: $("invite-format").value,
      qr: true,
    });
    showDialog({
      title: "Invite code",
      body: h(
        "div",
        {},
        h("p", { text: `Type it on the device, or scan it there. It is good for ${plural(Math.round(invite.expires_in / 60), "minute")} and is not shown again.` }),
        secretField(invite.code, "invite code"),
        // As the source of an image the SVG cannot run or load anything.
        typeof invite.qr_svg === "string" ? h("img", { class: "qr", alt: "QR code of the invite code", src: `data:image/svg+xml,${encodeURIComponent(invite.qr_svg)}` }) : null,
      ),
    });
    refresh();
  });
});

// -- API keys -----------------------------------------------------------------------------------------------------------

const keys = new List("keys", {
  url: "/api/keys",
  read: (answer) => answer.keys,
  row: {
    key: (k) => k.id,
    create: (k) => {
      const row = h("tr", {}, ...cells("head", "status", "peer", "mesh", "made", "actions"));
      row.querySelector('[data-cell="actions"]').append(
        h("button", { type: "button", class: "danger quiet small", "aria-label": `Revoke key ${k.name || k.id}`, onclick: (e) => revokeKey(e.currentTarget, k) }, "Revoke"),
      );
      return row;
    },
    update: (row, k) => {
      fill(row, "head", k.name || k.id, k.name ? mono(k.id) : null);
      fill(row, "status", k.revoked_at ? pill("revoked") : pill("current", "in use"));
      fill(row, "peer", mono(k.peer_id));
      fill(row, "mesh", k.mesh ?? "default", sub(k.role));
      fill(row, "made", when(k.created_at));
      row.querySelector('[data-cell="actions"] button').hidden = Boolean(k.revoked_at);
    },
  },
});

async function revokeKey(button, key) {
  const name = key.name || key.id;
  const sure = await confirmDialog({ title: `Revoke the key ${name}?`, text: `${key.peer_id} can no longer get in with it. This cannot be taken back.`, action: "Revoke key" });
  if (!sure) return;
  await busy(button, async () => {
    const report = await untilEnforced(admin, (await admin.delete(`/api/keys/${path(key.id)}`)) ?? {});
    notify(`The key ${name} is revoked. ${reportSentence(report)}`);
    $("title-keys").focus();
  });
  refresh();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  busy(event.submitter, async () => {
    const made = await admin.post("/api/keys", { peer_id: $("key-peer").value.trim(), role: $("key-role").value, name: $("key-name").value.trim() || undefined });
    event.target.reset();
    showDialog({
      title: "API key",
      body: h("div", {}, h("p", { text: `The key of ${made.peer_id}. Copy it now: only a hash of it is kept, and it is not shown again.` }), secretField(made.key, "API key")),
    });
    refresh();
  });
});

// -- gateways -----------------------------------------------------------------------------------------------------------

const gateways = {
  async refresh() {
    const { gateways: list } = await admin.get("/api/gateways");
    reconcile($("rows-gateways"), list, {
      key: (g) => g.id,
      create: () => h("tr", {}, ...cells("head", "lease", "sessions", "version")),
      update: (row, g) => {
        fill(
          row,
          "head",
          mono(g.id),
          g.self ? h("span", { class: "tag", text: "answers you" }) : null,
          g.draining ? h("span", { class: "tag", text: "draining" }) : null,
        );
        fill(row, "lease", pill(g.lease));
        fill(row, "sessions", String(g.sessions ?? "–"));
        fill(row, "version", mono(String(g.version ?? "–")));
      },
    });
    $("empty-gateways").hidden = list.length > 0;
    paintTiles(list);
  },
};

function paintTiles(list) {
  setText($("tile-gateways"), list.length);
  // A gateway counts its own; what nobody told is not zero.
  const told = list.filter((g) => typeof g.sessions === "number");
  setText($("tile-sessions"), told.length === 0 ? "–" : told.reduce((sum, g) => sum + g.sessions, 0));
}

// -- audit --------------------------------------------------------------------------------------------------------------

const audit = new List("audit", {
  url: "/api/audit",
  read: (answer) => answer.entries,
  row: {
    key: (e) => e.version,
    create: () => h("tr", {}, ...cells("head", "at", "action", "subject", "by", "detail", "hash")),
    update: (row, e) => {
      fill(row, "head", String(e.version));
      fill(row, "at", when(e.at));
      fill(row, "action", e.action);
      fill(row, "subject", mono(e.subject ?? "–"), sub(e.mesh ?? ""));
      fill(row, "by", mono(e.actor ?? "–"));
      fill(row, "detail", detail(e.detail));
      fill(row, "hash", h("span", { class: "mono", title: e.hash ?? "", text: short(e.hash) }), sub("after ", h("span", { class: "mono", title: e.prev_hash ?? "", text: short(e.prev_hash) })));
    },
  },
});

function detail(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value !== "object") return String(value);
  return Object.entries(value)
    .map(([k, v]) => `${k}: ${typeof v === "object" ? JSON.stringify(v) : v}`)
    .join(", ");
}

$("verify").addEventListener("click", (event) =>
  busy(event.currentTarget, async () => {
    setText($("chain"), "Checking…");
    const result = await admin.get("/api/audit/verify").catch((error) => {
      setText($("chain"), "Could not be checked.");
      throw error;
    });
    $("chain").replaceChildren(
      pill(result.ok ? "approved" : "failed", result.ok ? "intact" : "broken"),
      result.ok ? ` All ${plural(result.entries, "entry", "entries")} follow from each other.` : ` The first entry that does not fit is version ${result.first_bad}.`,
    );
  }),
);

// -- sections -----------------------------------------------------------------------------------------------------------

const SECTIONS = { approvals, peers, invites, keys, gateways, audit };
let section = null;

function openSection({ focus }) {
  const wanted = location.hash.slice(1);
  // The skip link's target is not a section.
  if (wanted === "main" && section !== null) return;
  section = Object.hasOwn(SECTIONS, wanted) ? wanted : "approvals";
  for (const name of Object.keys(SECTIONS)) $(`section-${name}`).hidden = name !== section;
  for (const link of document.querySelectorAll(".side a")) {
    if (link.hash === `#${section}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = $(`title-${section}`);
  document.title = `${title.textContent} · Heliograph`;
  if (focus) title.focus();
  refresh();
}

addEventListener("hashchange", () => {
  if (admin) openSection({ focus: true });
});

const refresh = coalesce(async () => {
  const current = admin;
  if (!current) return;
  try {
    await SECTIONS[section].refresh();
    if (section !== "approvals") await approvals.refresh();
    if (section !== "gateways") paintTiles((await current.get("/api/gateways")).gateways);
    const waiting = `${approvals.items.length}${approvals.complete ? "" : "+"}`;
    setText($("tile-waiting"), waiting);
    setText($("count-approvals"), approvals.items.length > 0 ? waiting : "");
    $("console").dataset.section = section;
  } catch (error) {
    if (current !== admin) return;
    if (error.status === 401 || error.status === 403) signOut(error.message);
    else notify(error.message, { error: true });
  }
});

/** For what others do: a thousand joins in a second are looked at once or twice. */
const refreshLive = coalesce(async () => refresh(), 700);

// -- signing in and out -------------------------------------------------------------------------------------------------

function signedIn(key) {
  admin = api(key);
  $("sign-in").hidden = true;
  $("key-error").replaceChildren();
  $("console").hidden = false;
  $("bar-state").hidden = false;
  stopFollowing?.();
  setPill($("live"), "waiting", "connecting");
  stopFollowing = follow(key, ({ event }) => {
    if (event === "refused") signOut("The server does not accept this key any more.");
    else if (event === "closed") setPill($("live"), "waiting", "reconnecting");
    else {
      setPill($("live"), "online", "live");
      if (event === "change" || event === "presence" || event === "open") refreshLive();
    }
  });
  openSection({ focus: true });
}

function signOut(message) {
  admin = null;
  stopFollowing?.();
  stopFollowing = null;
  if (keyRing.key) keyRing.forget();
  $("console").hidden = true;
  $("bar-state").hidden = true;
  $("sign-in").hidden = false;
  document.title = "Console · Heliograph";
  $("key-error").replaceChildren(...(message ? [h("p", { class: "banner", text: message })] : []));
  for (const rows of document.querySelectorAll("tbody")) rows.replaceChildren();
  $("report").replaceChildren();
  $("key").focus();
}

$("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  busy(event.submitter, async () => {
    const key = $("key").value.trim();
    $("key-error").replaceChildren();
    try {
      await checkKey(key);
    } catch (error) {
      $("key-error").replaceChildren(h("p", { class: "banner", text: error.message }));
      $("key").select();
      return;
    }
    $("key").value = "";
    keyRing.keep(key);
  });
});

$("sign-out").addEventListener("click", () => signOut());

keyRing.addEventListener("change", () => {
  if (keyRing.key && admin?.key !== keyRing.key) signedIn(keyRing.key);
  else if (!keyRing.key && admin) signOut();
});

// Another tab may know the key; it answers within moments, and the form is there meanwhile.
if (keyRing.key) signedIn(keyRing.key);
else {
  $("sign-in").hidden = false;
  $("key").focus();
  keyRing.ask();
}
setInterval(() => {
  if (!document.hidden && admin) refresh();
}, 30_000);
