// Small helpers for the two pages: elements, lists that keep the focus, dialogs, announcements.
// Text always goes in as text, never as markup: names and messages are written by others.

/** An element. Properties that start with "on" are listeners; `data` sets data attributes; `false`, null and undefined are left out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const $ = (id) => document.getElementById(id);

/** Sets a text only when it differs, so that nothing is announced or repainted for nothing. */
export function setText(element, text) {
  const value = String(text ?? "");
  if (element.textContent !== value) element.textContent = value;
}

/**
 * Brings the children of `parent` in line with `items`. Elements are kept by key: a live update must not take the focus from the button that
 * somebody is about to press.
 */
export function reconcile(parent, items, { key, create, update }) {
  const have = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const focused = document.activeElement;
  let before = parent.firstElementChild;
  for (const item of items) {
    const k = String(key(item));
    let element = have.get(k);
    if (element) have.delete(k);
    else {
      element = create(item);
      element.dataset.key = k;
    }
    update?.(element, item);
    if (element === before) before = before.nextElementSibling;
    else parent.insertBefore(element, before);
  }
  for (const element of have.values()) element.remove();
  if (focused && focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}

const STATUS_KIND = {
  approved: "good", online: "good", open: "good", connected: "good", current: "good",
  pending_approval: "wait", connecting: "wait", waiting: "wait", new: "wait", disconnected: "wait", completed: "good",
  revoked: "bad", rejected: "bad", failed: "bad", stopped: "bad", expired: "bad", unreachable: "bad",
};

const STATUS_WORD = { pending_approval: "waiting for approval", none: "no connection" };

/** A state as a word with a coloured dot. The word says it all; the colour only helps. */
export function pill(status, word = STATUS_WORD[status] ?? status) {
  return setPill(h("span", {}), status, word);
}

export function setPill(element, status, word = STATUS_WORD[status] ?? status) {
  element.className = `pill pill-${STATUS_KIND[status] ?? "idle"}`;
  element.dataset.status = status;
  setText(element, word);
  return element;
}

// -- time ---------------------------------------------------------------------------------------------------------------

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });

function ago(seconds) {
  const d = seconds - Date.now() / 1000;
  const a = Math.abs(d);
  if (a < 5) return "just now";
  if (a < 60) return relative.format(Math.round(d), "second");
  if (a < 3600) return relative.format(Math.round(d / 60), "minute");
  if (a < 86400) return relative.format(Math.round(d / 3600), "hour");
  return relative.format(Math.round(d / 86400), "day");
}

/** A moment (Unix seconds) as "3 min. ago", exact in the title. */
export function when(seconds) {
  const element = h("time", {});
  setWhen(element, seconds);
  return element;
}

export function setWhen(element, seconds) {
  if (typeof seconds !== "number") {
    setText(element, "–");
    return;
  }
  const date = new Date(seconds * 1000);
  element.dateTime = date.toISOString();
  element.title = date.toLocaleString();
  element.dataset.at = seconds;
  setText(element, ago(seconds));
}

setInterval(() => {
  if (document.hidden) return;
  for (const element of document.querySelectorAll("time[data-at]")) setText(element, ago(Number(element.dataset.at)));
}, 10_000);

export function clock(date = new Date()) {
  return date.toLocaleTimeString("en-GB", { hour12: false });
}

export function plural(n, one, many = `${one}s`) {
  return `${n} ${n === 1 ? one : many}`;
}

// -- announcements ------------------------------------------------------------------------------------------------------

/** A short note at the edge of the page, read out politely; errors are read out at once and stay until closed. */
export function notify(message, { error = false, ms = 6_000 } = {}) {
  const region = $(error ? "alerts" : "notices");
  const note = h(
    "div",
    { class: error ? "note note-error" : "note" },
    h("p", { text: message }),
    h("button", { type: "button", class: "quiet icon", "aria-label": "Close this message", onclick: () => note.remove() }, "×"),
  );
  region.append(note);
  while (region.children.length > 4) region.firstElementChild.remove();
  if (!error) setTimeout(() => note.remove(), ms);
  return note;
}

/** Runs the work of a button: no second click meanwhile, and a readable error at the end. Returns undefined after an error. */
export async function busy(button, work) {
  if (button.getAttribute("aria-disabled") === "true") return undefined;
  // aria-disabled instead of disabled: a disabled button would throw the keyboard focus away.
  button.setAttribute("aria-disabled", "true");
  button.classList.add("busy");
  try {
    return await work();
  } catch (error) {
    if (error?.name !== "AbortError") notify(error.message ?? String(error), { error: true });
    return undefined;
  } finally {
    button.removeAttribute("aria-disabled");
    button.classList.remove("busy");
  }
}

/** Asks before something that cannot be taken back. Resolves true or false; the focus returns to where it was. */
export function confirmDialog({ title, text, action, danger = true }) {
  return new Promise((resolve) => {
    const opener = document.activeElement;
    const dialog = h(
      "dialog",
      { "aria-labelledby": "confirm-title", "aria-describedby": "confirm-text" },
      h("h2", { id: "confirm-title", text: title }),
      h("p", { id: "confirm-text", text }),
      h(
        "form",
        { method: "dialog", class: "row end" },
        h("button", { value: "no", class: "quiet", autofocus: true }, "Cancel"),
        h("button", { value: "yes", class: danger ? "danger" : "primary" }, action),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (opener?.isConnected) opener.focus();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Shows something in a dialog until it is closed. */
export function showDialog({ title, body, close = "Done" }) {
  const opener = document.activeElement;
  const dialog = h(
    "dialog",
    { "aria-labelledby": "dialog-title" },
    h("h2", { id: "dialog-title", text: title }),
    body,
    h("form", { method: "dialog", class: "row end" }, h("button", { class: "primary", autofocus: true }, close)),
  );
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (opener?.isConnected) opener.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** A secret with a button that copies it. */
export function secretField(value, label) {
  const button = h("button", { type: "button", class: "secondary", "aria-label": `Copy ${label}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(value);
      setText(button, "Copied");
    } catch {
      // Pages that are not served over https or from this machine may not write to the clipboard.
      getSelection().selectAllChildren(output);
      setText(button, "Selected");
    }
    setTimeout(() => setText(button, "Copy"), 2_000);
  });
  const output = h("output", { class: "secret", "aria-label": label, text: value });
  return h("div", { class: "row secret-row" }, output, button);
}

/** Runs `work` soon, once for all calls that come meanwhile, and never twice at the same time. */
export function coalesce(work, ms = 150) {
  let timer = null;
  let running = false;
  let again = false;
  const run = async () => {
    timer = null;
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      await work();
    } finally {
      running = false;
      if (again) {
        again = false;
        timer = setTimeout(run, ms);
      }
    }
  };
  return () => {
    timer ??= setTimeout(run, ms);
  };
}
