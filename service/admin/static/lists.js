// Keeps what a link asks of a list while operators filter it, and says why a list or a row is not shown.

const ofTable = /\/api\/tables\/([a-z_]+)\/(count\/)?$/;
const ofRow = /\/api\/tables\/([a-z_]+)\/([0-9a-f-]+)\/$/;
const { alert } = window;
const exact = __EXACT__;  // by table: the columns that are equal to their filter, or do not match
const states = { is_null: "Is empty", not_null: "Is set" };  // operators of links that the filters lack
let note = "";  // why the list is not shown
let isRefused = false;  // then the rows are those of the list before
let gone = "";  // the table of a row that does not exist

let chosen = null;  // what the filters ask for since they were used; before, it is what the link asks for

function conditions() {
  return chosen ?? new URLSearchParams(location.hash.split("?")[1] ?? "");
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

document.addEventListener("answer", ({ detail: { path, status, refusal } }) => {
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
  showNote();
});

// Piccolo Admin offers a part of the text
function hideMatches() {
  const [, table] = location.hash.split(/[/?]/);
  for (const column of exact[table] ?? []) {
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
  const asked = `${location.hash} ${chosen ?? ""}`;
  const others = [];
  for (const [name, value] of conditions()) {
    const field = form.elements[name];
    if (!field && !name.startsWith("__")) others.push(`${columnOf(name)}: ${(states[value] ?? value).toLowerCase()}`);
    if (!field || field.dataset.asked === asked) continue;
    field.dataset.asked = asked;
    fill(field, value);
  }
  let kept = form.querySelector("[data-others]");
  const text = others.length ? `Also: ${others.join(", ")}` : "";
  if ((kept?.textContent ?? "") === text) return;
  kept?.remove();
  if (!text) return;
  kept = document.createElement("p");
  kept.dataset.others = "";
  kept.textContent = text;
  form.prepend(kept);
}

// Piccolo Admin sends only what its form has. What the form cannot show stays, unless it asks for the column otherwise.
document.addEventListener("submit", ({ target }) => {
  if (!target.closest(".filter_wrapper")) return;
  for (const kept of target.querySelectorAll("[data-kept]")) kept.remove();
  const given = new FormData(target);
  for (const [name, value] of conditions()) {
    if (name.startsWith("__") || target.elements[name] || given.get(columnOf(name))) continue;
    const kept = document.createElement("input");
    Object.assign(kept, { type: "hidden", name, value });
    kept.dataset.kept = "";
    target.append(kept);
  }
  chosen = new URLSearchParams([...new FormData(target)].filter(([, value]) => value && value !== "all"));
}, true);

document.addEventListener("click", ({ target }) => {
  if (!target.closest(".filter_wrapper > button")) return;
  const { size } = conditions();
  chosen = null;
  if (size && location.hash.includes("?")) location.hash = location.hash.split("?")[0];
});

addEventListener("hashchange", () => { chosen = null; });

new MutationObserver(() => {
  showNote();
  hideMatches();
  showConditions();
}).observe(document, { childList: true, subtree: true });
