// Keeps what a link asks of a list while operators filter it, and says why a list or a row is not shown.

const ofTable = /\/api\/tables\/([a-z_]+)\/(count\/)?$/;
const ofRow = /\/api\/tables\/([a-z_]+)\/([0-9a-f-]+)\/$/;
const { alert } = window;
const exact = __EXACT__;  // by table: the columns that are equal to their filter, or do not match
const states = { is_null: "Is empty", not_null: "Is set" };  // operators of links that the filters lack
const usual = { match: "contains", operator: "e" };  // comparisons
let note = "";  // why the list is not shown
let isRefused = false;  // then the rows are those of the list before
let isApplying = false;  // from "Apply" on, until the rows arrive
let gone = "";  // the table of a row that does not exist

let applied = { table: "", query: "" };  // what the list was asked for last
let kept = { hash: "", conditions: [] };  // what no filter can show, once the filters of a link were used

function tableOfPage() {
  return location.hash.split(/[/?]/)[1];
}

function conditions() {
  const query = applied.table === tableOfPage() ? applied.query : location.hash.split("?")[1];
  return [...new URLSearchParams(query)].filter(([name]) => !name.startsWith("__"));
}

function showNote() {
  const shown = document.querySelector("[data-note]");
  const list = document.querySelector(".table_wrapper");
  if (shown && shown.textContent === note && shown.nextElementSibling === list) return;
  shown?.remove();
  if (!note || !list) return;
  const made = document.createElement("p");
  made.dataset.note = isRefused ? "refused" : "";
  made.setAttribute("role", "alert");
  made.textContent = note;
  list.before(made);
}

document.addEventListener("answer", ({ detail: { path, query, status, refusal } }) => {
  const [, table, count] = path.match(ofTable) ?? [];
  const [, tableOfRow] = path.match(ofRow) ?? [];
  if (status === 404 && tableOfRow) {
    gone = tableOfRow;
  } else if (table && status >= 400) {
    note = refusal || "The list cannot be shown. Change the filter, or try it again.";
    isRefused = true;
  } else if (count) {
    note = gone === table ? "This row does not exist any more." : "";
    gone = "";
    isRefused = false;
  }
  if (count) applied = { table, query };
  if (isApplying && table && !count) {
    isApplying = false;
    if (!isRefused) keepInAddress();
  }
  showNote();
});

// Back, a reload and a copied address ask for the same. A comparison is left out if it is the usual one.
function keepInAddress() {
  const [path, query] = location.hash.split("?");
  const settings = [...new URLSearchParams(query)].filter(([name]) => name.startsWith("__"));
  const own = conditions().filter(([name, value]) => value !== usual[name.match(/__(operator|match)$/)?.[1]]);
  const asked = new URLSearchParams([...own, ...settings]).toString();
  const address = asked ? `${path}?${asked}` : path;
  if (kept.hash === location.hash) kept.hash = address;
  history.replaceState({ ...history.state, current: address.slice(1) }, "", address);  // as the router keeps it
}

// Piccolo Admin says so also when it gets no rows
function hideSuccess() {
  const popup = document.querySelector("#message_popup:not(.error, .neutral)");
  if (isRefused && /Successfully (applied|cleared) filter/.test(popup?.textContent)) popup.querySelector("a")?.click();
}

// Piccolo Admin offers a part of the text
function hideMatches() {
  for (const column of exact[tableOfPage()] ?? []) {
    const match = document.querySelector(`.filter_wrapper select[name="${column}__match"]:not([hidden])`);
    if (match) match.hidden = true;
  }
}

// Piccolo Admin says "Page not found" and opens its Home
window.alert = (message) => {
  if (!gone) alert(message);
  else setTimeout(() => location.replace(`#/${gone}/`));
};

function columnOf(name) {
  return name.replace(/__(operator|match)$/, "");
}

async function nameRow(shown, id) {
  const response = await fetch(`./api/names?ids=${encodeURIComponent(id)}`);
  shown.value = (response.ok ? (await response.json())[id]?.name : "") ?? id;
}

function fill(field, value) {
  if (field.localName === "select" && ![...field.options].some((option) => option.value === value)) {
    if (!(value in states)) return;  // a choice that is refused
    field.add(new Option(states[value], value));
  }
  field.value = value;
  for (const event of ["input", "change"]) field.dispatchEvent(new Event(event, { bubbles: true }));
  const row = field.closest(".key_search")?.querySelector("input[type=text]");
  if (row) nameRow(row, value);
}

// Piccolo Admin shows its filters empty, also when a link or the filters themselves have set them
function showConditions() {
  const form = document.querySelector(".filter_wrapper form:has([name])");
  if (!form) return;
  const asked = `${location.hash} ${applied.query}`;
  const others = [];
  for (const [name, value] of conditions()) {
    const field = form.elements[name];
    if (!field) others.push(`${columnOf(name)}: ${(states[value] ?? value).toLowerCase()}`);
    if (!field || field.dataset.asked === asked) continue;
    field.dataset.asked = asked;
    fill(field, value);
  }
  let shown = form.querySelector("[data-others]");
  const text = others.length ? `Also: ${others.join(", ")}` : "";
  if ((shown?.textContent ?? "") === text) return;
  shown?.remove();
  if (!text) return;
  shown = document.createElement("p");
  shown.dataset.others = "";
  shown.textContent = text;
  form.prepend(shown);
}

// Piccolo Admin sends only what its form has. What the form cannot show stays, unless it asks for the column otherwise.
document.addEventListener("submit", ({ target }) => {
  if (!target.closest(".filter_wrapper")) return;
  isApplying = true;
  const others = conditions().filter(([name]) => !target.elements[name]);
  if (others.length) kept = { hash: location.hash, conditions: others };
}, true);

const { open } = XMLHttpRequest.prototype;
XMLHttpRequest.prototype.open = function (method, address, ...given) {
  const asked = new URL(address, document.baseURI);
  if (kept.hash === location.hash && ofTable.test(asked.pathname)) {
    const others = kept.conditions.filter(([name]) => !asked.searchParams.get(columnOf(name)));
    for (const [name, value] of others) asked.searchParams.set(name, value);
  }
  return open.call(this, method, asked.href, ...given);
};

document.addEventListener("click", ({ target }) => {
  if (!target.closest(".filter_wrapper > button")) return;
  kept = { hash: "", conditions: [] };
  if (location.hash.includes("?")) location.hash = location.hash.split("?")[0];
}, true);

new MutationObserver(() => {
  showNote();
  hideSuccess();
  hideMatches();
  showConditions();
}).observe(document, { childList: true, subtree: true });
