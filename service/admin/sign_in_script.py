"""A script that tells an operator why a sign-in was refused, and how long to wait before the next one. Piccolo Admin
only says that there was a problem."""

from typing import Any

from service.admin.additions import add_script

_SCRIPT = r"""
function tell(text) {
  document.querySelector("[data-wait]")?.remove();
  if (!text) return;
  const told = document.createElement("p");
  told.dataset.wait = "";
  told.role = "alert";
  told.textContent = text;
  document.querySelector("#login form")?.after(told);
}

function read(request) {
  if (/"Login failed"/.test(request.responseText)) return "The username or the password is not right.";
  if (request.status !== 429) return "";
  return JSON.parse(request.responseText).detail ?? "Too many attempts. Wait for 5 minutes.";  // Piccolo's own has none
}

const send = XMLHttpRequest.prototype.send;
XMLHttpRequest.prototype.send = function (...body) {
  this.addEventListener("load", () => {
    if (new URL(this.responseURL).pathname.endsWith("/public/login/")) tell(read(this));
  });
  return send.apply(this, body);
};
"""
SCRIPT = '<script type="module" src="./sign-in.js"></script>'
STYLE = "[data-wait] { margin-top: 1rem; overflow-wrap: anywhere }\n"


def add_sign_in_script(site: Any) -> None:
    add_script(site, "sign-in.js", _SCRIPT)
