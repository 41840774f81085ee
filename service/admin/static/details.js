// Marks rows that are deleted, suspended or retired, names the rows of the audit log, and shows the details of a row.

const MOST_IDS = 50;
const isId = /^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{1,9})$/;
const MOST_COUNTED = __MOST_COUNTED__;
const marked = /^#\/(?:users|characters|templates|template_versions|piccolo_user)\/([^/]+)\/$/;
const waiting = new Map(); // by id: the elements that show it
let refusal = ""; // why the last list was refused

document.addEventListener("answer", ({ detail }) => {
  if (detail.status >= 400) ({ refusal } = detail);
});

function element(name, content = "", href = null) {
  const made = document.createElement(name);
  made.append(content);
  if (href) made.href = href;
  return made;
}

function place() {
  return location.hash.slice(1).split("?")[0].split("/").filter(Boolean);
}

function ask(id, shown) {
  if (shown.dataset.asked === id) return;
  shown.dataset.asked = id;
  delete shown.dataset.state;
  if (!waiting.has(id)) waiting.set(id, []);
  waiting.get(id).push(shown);
}

function name(cell, found) {
  cell.querySelector(":scope > a[data-name]")?.remove();
  delete cell.dataset.named;
  if (!found) return;
  const link = element("a", found.name, found.link);
  link.dataset.name = "";
  link.title = cell.dataset.asked;
  if (found.state) link.dataset.state = found.state;
  cell.dataset.named = "";
  cell.append(link);
}

async function answer() {
  while (waiting.size) {
    const ids = [...waiting.keys()].slice(0, MOST_IDS);
    const shown = new Map(ids.map((id) => [id, waiting.get(id)]));
    for (const id of ids) waiting.delete(id);
    const response = await fetch(`./api/names?ids=${ids.join(",")}`);
    const names = response.ok ? await response.json() : {};
    for (const [id, each] of shown) {
      for (const target of each.filter((one) => one.dataset.asked === id)) {
        if (target.tagName !== "A") name(target, names[id]);
        else if (names[id]?.state) target.dataset.state = names[id].state;
      }
    }
  }
}

// Of the audit log: the columns have ids of rows of any table
function idsOfLog() {
  const names = [...document.querySelectorAll("thead th")].map((head) => head.textContent.trim());
  const columns = ["Row", "Owner", "Member"].map((column) => names.indexOf(column)).filter((index) => index > 0);
  for (const row of document.querySelectorAll("tbody tr")) {
    for (const column of columns) {
      const cell = row.children[column];
      const id = cell?.querySelector(":scope > span")?.textContent.trim() ?? "";
      if (isId.test(id)) ask(id, cell);
      else if (cell?.dataset.asked) name(cell, null);
    }
  }
}

function showBound() {
  const count = document.querySelector("#result_count");
  const [, before, found, after] = count?.textContent.match(/^(.+ )(\d+)( \S+)$/) ?? [];
  if (Number(found) > MOST_COUNTED) count.textContent = `${before}more than ${MOST_COUNTED}${after}`;
}

// Piccolo Admin says only that there was a problem
function showRefusal() {
  const popup = document.querySelector("#message_popup.error");
  if (!popup || !refusal) return;
  const nodes = document.createTreeWalker(popup, NodeFilter.SHOW_TEXT);
  while (nodes.nextNode()) {
    if (nodes.currentNode.data.startsWith("Problem fetching")) nodes.currentNode.data = refusal;
  }
}

function cellOf(content) {
  if (typeof content === "string") return element("td", content);
  const cell = element("td", content.link ? element("a", content.text, content.link) : element("span", content.text));
  if (content.id && isId.test(content.id)) ask(content.id, cell);
  return cell;
}

function tableOf({ head, rows }) {
  const table = element("table");
  if (head) {
    const titles = element("tr");
    titles.append(...head.map((title) => element("th", title)));
    table.append(element("thead", titles));
  }
  const body = element("tbody");
  for (const row of rows) {
    const line = element("tr");
    line.append(...row.map(cellOf));
    body.append(line);
  }
  table.append(body);
  return table;
}

function sectionOf(section) {
  const made = element("section", element("h2", section.title));
  if (section.picture) {
    const picture = element("img");
    picture.src = `./api/pictures/${section.picture}?size=256`;
    picture.alt = "";
    picture.addEventListener("error", () => { made.hidden = true; });
    made.append(picture);
  }
  if (section.text) made.append(element("pre", section.text));
  if (section.rows) made.append(tableOf(section));
  if (section.note) made.append(element("p", section.note));
  if (section.links) {
    const links = element("p");
    for (const { text, link } of section.links) links.append(element("a", text, link), " ");
    made.append(links);
  }
  return made;
}

async function showDetails() {
  const [table, row, more] = place();
  const heading = document.querySelector(".header:has(> h1)");
  const wanted = row && !more && row !== "add" && table !== "forms" && heading ? `${table}/${row}` : "";
  const shown = document.querySelector("[data-details]");
  if (shown?.dataset.details === wanted && shown.parentElement === heading?.parentElement) return;
  shown?.remove();
  if (!wanted) return;
  const details = element("div");
  details.dataset.details = wanted;
  (document.querySelector("[data-forms]") ?? heading).after(details);
  const response = await fetch(`./api/details/${wanted}`);
  if (!response.ok || details.dataset.details !== wanted) return;
  const { sections } = await response.json();
  details.append(...sections.map(sectionOf));
}

function update() {
  showDetails();
  showBound();
  showRefusal();
  if (place()[0] === "audit_log") idsOfLog();
  for (const link of document.querySelectorAll('td a[href^="#/"]:not([data-name])')) {
    const [, id] = link.getAttribute("href").match(marked) ?? [];
    if (id) ask(id, link);
  }
  answer();
}

new MutationObserver(update).observe(document, { childList: true, subtree: true, characterData: true });
