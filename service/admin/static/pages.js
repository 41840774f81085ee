// Completes the pages of Piccolo Admin. Forms get long texts, choices, hints, and values of the row that they were opened
// from. Rows get links to the forms about them. Lists show times to the second.

const forms = __FORMS__;  // by table: the address, the name and the field for the id of each form about a row
const schemas = new Map();
const asking = "confirm field - ";
const isTime = /^\s*(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z?\s*$/;  // Piccolo's own table has no time zones

function place() {
  const [path, query] = location.hash.slice(1).split("?");
  return { parts: path.split("/").filter(Boolean), query: new URLSearchParams(query) };
}

async function read(path) {
  const response = await fetch(`./api/${path}`);
  return response.ok ? response.json() : null;
}

function schema(slug) {
  if (!schemas.has(slug)) schemas.set(slug, read(`forms/${slug}/schema/`));
  return schemas.get(slug);
}

function text(value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.join("\n");
  return String(value);
}

function pretty(value) {
  try { return JSON.stringify(JSON.parse(value), null, 2); } catch { return value; }
}

function set(field, value) {
  field.value = /^(attributes|attribute_schema)$/.test(field.name) ? pretty(text(value)) : text(value);
  field.dispatchEvent(new Event("input"));
}

async function fill(form, table, row, key, onlyKey) {
  const values = onlyKey ? {} : await read(`tables/${table}/${row}/`);
  if (!values) return;
  if (table === "templates" && form.querySelector("[name=attribute_schema]")) {
    const newest = `template=${row}&number=${values.newest_version}`;
    const { rows: [version] } = await read(`tables/template_versions/?${newest}`) ?? { rows: [] };
    for (const name of ["attribute_schema", "prompt"]) values[name] = version?.[name];
  }
  for (const field of form.querySelectorAll("[name]")) {
    if (field.name === key && !(key in values)) set(field, row);
    else if (field.name in values) set(field, values[field.name]);
  }
}

function replace(input, name) {
  const other = document.createElement(name);
  other.name = input.name;
  input.removeAttribute("name");
  input.hidden = true;
  input.after(other);
  return other;
}

function completeField(input, property) {
  let field = input;
  if (property.enum) {
    field = replace(input, "select");
    const words = (choice) => field.name === "type" ? choice.replaceAll("_", " ") : choice;
    for (const choice of property.enum) field.add(new Option(words(choice) || "none", choice));
    field.value = property.default ?? property.enum[0];
  } else if (property.widget === "text-area") {
    field = replace(input, "textarea");
    field.rows = /attribute|schema|description|prompt|card/.test(field.name) ? 8 : 3;
  }
  field.dataset.completed = "";
  if (!property.description) return;
  const hint = document.createElement("small");
  hint.textContent = property.description;
  field.after(hint);
}

async function complete(form) {
  const hash = location.hash;
  const { parts: [, slug], query } = place();
  const { properties, fill_only_id: onlyKey } = await schema(slug) ?? {};
  if (!properties || location.hash !== hash) return;
  for (const input of form.querySelectorAll("[name]:not([data-completed])")) {
    if (properties[input.name]) completeField(input, properties[input.name]);
  }
  const names = Object.keys(properties);
  if (form.dataset.filledFrom === hash || !names.every((name) => form.querySelector(`[name=${name}]`))) return;
  form.dataset.filledFrom = hash;
  const confirm = form.querySelector("[name=confirm]");
  if (confirm) confirm.value = "false";  // Piccolo Admin keeps what was chosen in the form before
  const [table, row] = [query.get("table"), query.get("row")];
  const about = (forms[table] ?? []).find((each) => each.slug === slug);
  if (about && row) await fill(form, table, row, about.key, onlyKey);
}

async function fillFromId({ target }) {
  const { parts: [first, slug] } = place();
  if (first !== "forms") return;
  const { fill: filled } = await schema(slug) ?? {};
  const [id] = target.value.match(/[0-9a-f-]{36}/i) ?? [];
  if (filled && target.name === filled.key && id) await fill(target.form, filled.table, id, filled.key);
}

async function link() {
  const { parts: [table, row] } = place();
  const heading = document.querySelector(".header:has(> h1)");
  const shown = document.querySelector("[data-forms]");
  const wanted = row && row !== "add" && forms[table] && heading ? `${table}/${row}` : "";
  if (shown && shown.dataset.forms === wanted && shown.previousElementSibling === heading) return;
  shown?.remove();
  if (!wanted) return;
  const list = document.createElement("p");
  list.dataset.forms = wanted;
  heading.after(list);
  const offered = new Set(await read(`forms/of/${wanted}/`));  // to the operator's role, in the state of the row
  for (const { slug, name } of forms[table]) {
    if (!offered.has(slug)) continue;
    const anchor = document.createElement("a");
    anchor.href = `#/forms/${slug}/?table=${table}&row=${encodeURIComponent(row)}`;
    anchor.textContent = name;
    list.append(anchor, " ");
  }
}

function shortenTimes() {
  for (const cell of document.querySelectorAll("td")) {
    const nodes = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (nodes.nextNode()) {
      const [, day, time] = nodes.currentNode.data.match(isTime) ?? [];
      if (time) nodes.currentNode.data = `${day} ${time} UTC`;
    }
  }
}

// Piccolo Admin shows the JSON of a refusal.
function showRefusal() {
  for (const fault of document.querySelectorAll(".errors li")) {
    const [, detail] = fault.textContent.match(/^\{"detail":(".*")\}$/) ?? [];
    if (!detail) continue;
    fault.textContent = JSON.parse(detail);
    fault.dataset.refusal = "";
  }
}

// The faults are above the form, and the button is below it.
function showFaults() {
  for (const faults of document.querySelectorAll(".errors:not([data-stale], [data-seen])")) {
    faults.dataset.seen = "";
    faults.scrollIntoView({ block: "center" });
  }
}

// After any fault, the next submission shows again what it would do.
document.addEventListener("answer", ({ detail: { path, status } }) => {
  const confirm = document.querySelector("form [name=confirm]");
  if (confirm && status >= 400 && /\/api\/forms\/[a-z-]+\/$/.test(path)) confirm.value = "false";
});

// A form that asks for confirmation answers with an error, so that its fields stay filled.
function showQuestion() {
  for (const fault of document.querySelectorAll(".errors li")) {
    if (!fault.textContent.startsWith(asking)) continue;
    fault.textContent = fault.textContent.slice(asking.length);
    fault.dataset.question = "";
  }
  const popup = document.querySelector("#message_popup.error a");  // which would cover the button
  if (document.querySelector(".errors:not([data-stale]) li")) popup?.click();
}

// Of the answer of a form: its last words are the address of the row's page
function linkAnswer() {
  const answer = document.querySelector("#success_message:not(:has(a))");
  const [words, address] = answer?.textContent.match(/ Page: (#\/[a-z_]+\/[0-9a-f-]+\/)$/) ?? [];
  if (!address) return;
  const anchor = document.createElement("a");
  anchor.href = address;
  anchor.textContent = "Open its page";
  answer.textContent = `${answer.textContent.slice(0, -words.length)} `;
  answer.append(anchor);
}

function update() {
  link();
  linkAnswer();
  shortenTimes();
  showRefusal();
  showQuestion();
  showFaults();
  if (place().parts[0] !== "forms") return;
  for (const form of document.querySelectorAll("form")) {
    if (form.querySelector("[data-uitest=submit_custom_form_button]")) complete(form);
  }
}

new MutationObserver(update).observe(document, { childList: true, subtree: true, characterData: true });
addEventListener("hashchange", ({ oldURL, newURL }) => {
  if (/#\/forms\//.test(oldURL) && !/#\/forms\//.test(newURL)) location.reload();  // the row was kept as it was
  scrollTo(0, 0);
  for (const faults of document.querySelectorAll(".errors")) faults.dataset.stale = "";  // of the form before
  document.querySelector("#success_message:not(:empty) + ul a")?.click();  // else the next form would stay hidden
  update();
});
document.addEventListener("change", fillFromId);
document.addEventListener("submit", () => {
  for (const { dataset } of document.querySelectorAll(".errors")) {
    delete dataset.stale;
    delete dataset.seen;
  }
}, true);
