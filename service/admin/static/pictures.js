// Shows a picture wherever the site shows the name of its file.

const isName = /^[0-9a-f]{64}$/;

function show(parent, name) {
  const before = parent.querySelector(":scope > img[data-file]");
  if (before?.dataset.file === name) return;
  before?.remove();
  if (!isName.test(name)) return;
  const picture = document.createElement("img");
  picture.dataset.file = name;
  picture.alt = "";
  picture.addEventListener("error", () => { picture.hidden = true; });
  picture.src = `./api/pictures/${name}`;
  parent.append(picture);
}

function showAll() {
  for (const link of document.querySelectorAll('td a[href*="/files/"]')) show(link, link.textContent.trim());
  for (const field of document.querySelectorAll("form input")) show(field.parentElement, field.value);
}

new MutationObserver(showAll).observe(document, { childList: true, subtree: true, characterData: true });
