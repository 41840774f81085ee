"""The page on which operators set up and remove their second factor, and Piccolo's provider of it.

Piccolo's own page loads fonts from another host and runs inline scripts.
"""

import asyncio
from html import escape
from typing import Any

import asyncpg
from piccolo.apps.user.tables import BaseUser
from piccolo_api.encryption.providers import FernetProvider
from piccolo_api.mfa.authenticator.provider import AuthenticatorProvider
from piccolo_api.mfa.authenticator.utils import get_b64encoded_qr_image
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from service.admin import operators
from service.admin.additions import api_of
from service.admin.operators import SET_UP, Operator, OperatorSession
from service.admin.second_factors import SecondFactor, encryption_key
from service.audit.actions import Action
from service.audit.queries import record
from service.auth.secrets import digest
from service.database.engine import DB
from service.web.csp import form_policy

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 3rem auto; padding: 0 1rem; color: #222 }
label, input, button { display: block; width: 100%; box-sizing: border-box; font: inherit }
input, button { margin: 0 0 1rem; padding: .5rem }
.error { color: #b00020 }
img { display: block; margin: auto; max-width: 100% }
pre { font-size: 1.1rem }
code { overflow-wrap: anywhere }
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1b; color: #eee }
  a { color: #8ab4f8 }
  .error { color: #ff8a80 }
}
"""
_POLICY = form_policy(style=_STYLE)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Second factor</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<h1>Second factor</h1>
{content}
<p><a href="/admin/">Back to the admin site</a></p>
</body>
</html>"""
_FORM = """<form method="post">
<input type="hidden" name="action" value="{action}">
<input type="hidden" name="csrftoken" value="{token}">
{fields}<button>{button}</button>
</form>"""
_FIELD_OF_PASSWORD = """<label for="password">Your password</label>
<input id="password" name="password" type="password" required autocomplete="current-password">
"""  # noqa: S105 (no password)
_FIELD_OF_CODE = """<label for="code">{label}</label>
<input id="code" name="code" required autocomplete="one-time-code">
"""
_NONE = """You have no second factor: you sign in with your password alone. An authenticator app on your phone shows
codes that you enter after your password when you sign in."""
_BEGUN = """Your second factor is not active yet: you sign in with your password alone. Its set-up was begun at {time}.
Enter a code of the app to make it active."""
_AGAIN = """The picture, the key and the recovery codes were shown once. If you have not kept the recovery codes, or the
app has no key yet, begin again: the earlier ones do not work then."""
_ACTIVE = "Your second factor is active: you sign in with a code of an authenticator app. You can remove it."
_ADDED = """<p>Scan this picture with an authenticator app.</p>
<img src="data:image/png;base64,{picture}" alt="QR code">
<p>Without a camera, enter this key in the app: <code>{key}</code></p>
<p>Keep these recovery codes in a safe place. Each one replaces a code of the app once. They are not shown again,
also not after a wrong code: keep them before you enter one.</p>
<pre>{codes}</pre>
<p>Then enter a code of the app. Until then, the second factor is not active, and you sign in with your password
alone.</p>"""


class Provider(AuthenticatorProvider):
    """Piccolo Admin asks it for the code when an operator signs in."""

    def __init__(self, name: str) -> None:
        super().__init__(FernetProvider(encryption_key()), secret_table=SecondFactor, issuer_name=name)  # type: ignore[arg-type] # it has the methods that are called

    async def authenticate_user(self, user: BaseUser, code: Any) -> bool:
        return await operators.use_code(user.id, user.username, code, self.encryption_provider)

    async def send_code(self, *_: Any, **__: Any) -> bool:
        await operators.await_code()
        return False

    async def begin(self, user: BaseUser) -> str:
        """The QR code and the recovery codes. Raises UniqueViolationError when there is an active one."""
        factor, codes = await SecondFactor.create_new(user.id, self.encryption_provider, self.recovery_code_count)
        address = factor.get_authentication_setup_uri(user.username, self.encryption_provider, self.issuer_name)
        picture = await asyncio.to_thread(get_b64encoded_qr_image, address)
        key = self.encryption_provider.decrypt(factor.secret)
        return _ADDED.format(picture=picture, key=key, codes="\n".join(codes))

    async def activate(self, user: BaseUser, code: Any, token: str) -> bool:
        """Whether the code is right. Ends the sessions of the operator but that of ``token`` then."""
        async with DB.transaction():
            # Other sessions were opened without it. A sign-in waits for the lock, and then needs a code
            await Operator.select(Operator.id).where(Operator.id == user.id).lock_rows("UPDATE")
            is_right = await SecondFactor.activate(user.id, code, self.encryption_provider)
            if is_right:
                others = OperatorSession.digest != digest(token)
                await OperatorSession.delete().where(OperatorSession.user_id == user.id, others)
            action = Action.ADD_SECOND_FACTOR if is_right else Action.REFUSE_CODE
            await record(action, "operator", user.id, operator=user.username)
        return is_right

    async def delete_registration(self, user: BaseUser) -> None:
        async with DB.transaction():
            if await SecondFactor.revoke(user.id):
                await record(Action.REMOVE_SECOND_FACTOR, "operator", user.id, operator=user.username)


def add_second_factor_page(site: Any, provider: Provider) -> None:
    """Adds the page in front of Piccolo's."""

    async def show(request: Request) -> Response:
        return await _state(request)

    async def submit(request: Request) -> Response:
        user, form = request.user.user, request.scope.get("form") or await request.form()
        action, state = form.get("action"), await SecondFactor.find_state(user.id)
        if action not in _allowed(state):
            return await _state(request)
        if action == "activate":
            is_right = await provider.activate(user, form.get("code"), request.cookies["id"])
            return await _state(request, error="" if is_right else "The code is not right.")
        if not await Operator.login(username=user.username, password=form.get("password")):
            return await _state(request, error="The password is not right.")
        if action == "add":
            try:
                content = await provider.begin(user)
            except asyncpg.UniqueViolationError:  # another tab was faster
                return await _state(request)
            return _page(content + _code_form(request))
        if not await provider.authenticate_user(user, form.get("code")):
            return await _state(request, error="The code is not right.")
        await provider.delete_registration(user)
        return await _state(request, text="Your second factor is removed.")

    path = SET_UP.removeprefix("/admin/api")
    api_of(site).router.routes[:0] = [Route(path, show, methods=["GET"]), Route(path, submit, methods=["POST"])]


def _allowed(state: Any) -> tuple[str, ...]:
    if state is None:
        return ("add",)
    return ("remove",) if state["active"] else ("activate", "add")


async def _state(request: Request, *, error: str = "", text: str = "") -> Response:
    """The page that says in which state the second factor is, with the forms that change it."""
    state = await SecondFactor.find_state(request.user.user.id)
    parts = [f'<p class="error">{error}</p>'] if error else []
    if state is None:
        parts += [f"<p>{text or _NONE}</p>", _form(request, "add", "Set up", _FIELD_OF_PASSWORD)]
    elif state["active"]:
        fields = _FIELD_OF_PASSWORD + _FIELD_OF_CODE.format(label="A code of the app, or a recovery code")
        parts += [f"<p>{_ACTIVE}</p>", _form(request, "remove", "Remove", fields)]
    else:
        begun = _BEGUN.format(time=f"{state['created_at']:%Y-%m-%d %H:%M:%S} UTC")
        parts += [f"<p>{begun}</p>", _code_form(request)]
        parts += [f"<p>{_AGAIN}</p>", _form(request, "add", "Begin again", _FIELD_OF_PASSWORD)]
    return _page("\n".join(parts), status=401 if error else 200)


def _code_form(request: Request) -> str:
    return _form(request, "activate", "Make it active", _FIELD_OF_CODE.format(label="A code of the app"))


def _form(request: Request, action: str, button: str, fields: str) -> str:
    token = escape(request.scope.get("csrftoken") or "")
    return _FORM.format(action=action, token=token, fields=fields, button=button)


def _page(content: str, *, status: int = 200) -> Response:
    page = _PAGE.format(style=_STYLE, content=content)
    return HTMLResponse(page, status, {"Content-Security-Policy": _POLICY})
