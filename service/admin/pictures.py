"""Shows pictures in the admin site: a script adds a picture wherever the site shows the name of a file."""

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.admin.additions import add_script, api_of
from service.media.queries import file_name
from service.media.storage import STORAGE, WEBP

_SIZES = ("64", "256")
_NAME = re.compile("[0-9a-f]{64}")
_SCRIPT = """
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
"""
SCRIPT = '<script type="module" src="./pictures.js"></script>'
STYLE = """
img[data-file] { display: block; max-height: 64px; border-radius: 4px }
img[data-file][hidden] { display: none }
a:has(> img[data-file]:not([hidden])) { font-size: 0 }
"""


def add_pictures(site: Any) -> None:
    """Adds a route for the script, and one for pictures below /api, which needs an operator's session."""
    api_of(site).router.routes.insert(0, Route("/pictures/{name}", _get_picture))
    add_script(site, "pictures.js", _SCRIPT)


async def _get_picture(request: Request) -> Response:
    name, size = request.path_params["name"], request.query_params.get("size", "64")
    if not _NAME.fullmatch(name) or size not in _SIZES:
        return Response(status_code=404)
    try:
        content = await STORAGE.get(file_name(name, size))
    except FileNotFoundError:
        return Response(status_code=404)
    return Response(content, media_type=WEBP, headers={"Cache-Control": "private, max-age=3600"})
