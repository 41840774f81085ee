// Keeps what a link asks of a list while operators filter it, and says why a list or a row is not shown.

const ofTable = /\/api\/tables\/([a-z_]+)\/(count\/)?$/;
const ofRow = /\/api\/tables\/([a-z_]+)\/([0-9a-f-]+)\/$/;
const { alert } = window;
const exact = __EXACT__;  // by table: the columns that are equal to their filter, or do not match
let note = "";  // why the list is not shown
let isRefused = false;  // then the rows are those of the list before
let gone = "";  // the table of a row that does not exist

function conditions() {
  return new URLSearchParams(location.hash.split("?")[1] ?? "");
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

// Piccolo Admin sends only what its form has. A condition holds unless the form has another one for its column.
document.addEventListener("submit", ({ target }) => {
  if (!target.closest(".filter_wrapper")) return;
  for (const kept of target.querySelectorAll("[data-kept]")) kept.remove();
  const given = new FormData(target);
  for (const [name, value] of conditions()) {
    const entered = given.get(name.replace(/__(operator|match)$/, ""));
    if (name.startsWith("__") || (entered && entered !== "all")) continue;
    const kept = document.createElement("input");
    Object.assign(kept, { type: "hidden", name, value });
    kept.dataset.kept = "";
    target.append(kept);
  }
}, true);

document.addEventListener("click", ({ target }) => {
  const clear = target.closest(".filter_wrapper > button");
  if (clear && conditions().size) location.hash = location.hash.split("?")[0];
});

new MutationObserver(() => {
  showNote();
  hideMatches();
}).observe(document, { childList: true, subtree: true });
