// Shows counts, the state of the service and the last actions on the first page.

function element(name, content, href) {
  const made = document.createElement(name);
  made.append(content);
  if (href) made.href = href;
  return made;
}

function named({ name, link, state }) {
  if (!link) return name;
  const made = element("a", name, link);
  if (state) made.dataset.state = state;
  return made;
}

function list(items) {
  const made = document.createElement("ul");
  made.append(...items.map((parts) => {
    const item = document.createElement("li");
    item.append(...parts);
    return item;
  }));
  return made;
}

async function show(welcome) {
  welcome.dataset.home = "";
  const response = await fetch("./api/home");
  if (!response.ok) return;
  const { counts, state, entries } = await response.json();
  const home = document.createElement("div");
  home.dataset.shown = "";
  home.append(element("h2", "Counts"));
  home.append(list(counts.map(({ name, count, link }) => [element("a", `${name}: ${count}`, link)])));
  home.append(element("h2", "State"));
  home.append(list(state.map(({ name, state }) => [`${name}: ${state}`])));
  home.append(element("h2", "Last actions"));
  home.append(list(entries.map(({ at, who, action, row, reason }) => [
    `${at} UTC: `, named(who), " ", named(action), ...row ? [": ", named(row)] : [], reason ? ` (${reason})` : "",
  ])));
  home.append(element("a", "All entries of the audit log", "#/audit_log/"));
  welcome.append(home);
}

function update() {
  const welcome = document.querySelector(".welcome:not([data-home])");
  if (welcome) show(welcome);
}

new MutationObserver(update).observe(document, { childList: true, subtree: true });
