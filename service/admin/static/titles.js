// Names the row or the list of a page below its heading, and the page in the title of the tab.

const site = __SITE__;
const links = __LINKS__;  // of the sidebar: the address by its name
const isId = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const states = { is_null: "is empty", not_null: "is set" };
const signs = { gte: " ≥ ", lte: " ≤ ", gt: " > ", lt: " < ", ne: " ≠ " };
const found = new Map();  // by id: the name, the state and the address of a row, once they are known

function rowOf(id) {
  if (!found.has(id)) find(id);
  return found.get(id) ?? {};
}

async function find(id) {
  found.set(id, {});
  const response = await fetch(`./api/names?ids=${encodeURIComponent(id)}`);
  found.set(id, response.ok ? (await response.json())[id] : {});
  update();
}

// An id of version 7 begins with the milliseconds of its time
function timeOf(id) {
  return `${new Date(parseInt(id.replace("-", "").slice(0, 12), 16)).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

function described(column, conditions) {
  const comparison = conditions.get(`${column}__operator`);
  if (comparison in states) return `${column} ${states[comparison]}`;
  const values = conditions.getAll(column);
  if (column === "id" && comparison === "gte" && isId.test(values[0])) return `created since ${timeOf(values[0])}`;
  const shown = values.map((value) => isId.test(value) ? rowOf(value).name ?? value : value);
  return `${column}${signs[comparison] ?? ": "}${shown.join(", ")}`;
}

function titleOf(path, query) {
  const [table, id, more] = path.split("/").filter(Boolean).slice(1);
  if (!table || table === "forms" || id === "add") return {};
  if (id && !more) {
    const row = rowOf(id);
    return row.link === path ? row : {};
  }
  if (!query) return {};
  const [known] = Object.entries(links).find(([, link]) => link === `${path}?${query}`) ?? [];
  const conditions = new URLSearchParams(query);
  const names = [...conditions.keys()].filter((name) => !/^__|__match$/.test(name));
  const columns = new Set(names.map((name) => name.replace(/__operator$/, "")));
  return { name: known ?? [...columns].map((column) => described(column, conditions)).join(", ") };
}

// Piccolo Admin names a table as the database does
function rename() {
  for (const shown of document.querySelectorAll("h1, .sidebar a[href$='/piccolo_user/']")) {
    const nodes = document.createTreeWalker(shown, NodeFilter.SHOW_TEXT);
    while (nodes.nextNode()) {
      const { data } = nodes.currentNode;
      const other = data.replace(/piccolo user/i, "operators");
      if (other !== data) nodes.currentNode.data = other;
    }
  }
}

// Of a heading, without what is shown below it
function textOf(heading) {
  const own = [...heading?.childNodes ?? []].filter((each) => !each.dataset || !("title" in each.dataset));
  return own.map((each) => each.textContent).join("").trim();
}

function update() {
  rename();
  const heading = [...document.querySelectorAll("h1")].find((each) => !["", site].includes(textOf(each)));
  const [path, query] = location.hash.split("?");
  const { name = "", state = null } = heading ? titleOf(path, query) : {};
  let shown = heading?.querySelector(":scope > [data-title]");
  if (shown && shown.textContent !== name) {
    shown.remove();
    shown = null;
  }
  if (name && !shown) {
    shown = document.createElement("a");
    shown.dataset.title = "";
    shown.textContent = name;
    if (state) shown.dataset.state = state;
    heading.append(shown);
  }
  const page = path.length > 2 ? textOf(heading).replace(/^./, (first) => first.toUpperCase()) : "";  // not of Home
  const title = [name, page, site].filter(Boolean).join(" – ");
  if (document.title !== title) document.title = title;
}

new MutationObserver(update).observe(document.documentElement, { childList: true, subtree: true, characterData: true });
addEventListener("hashchange", update);
