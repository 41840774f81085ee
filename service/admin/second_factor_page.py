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
_FORM = """<p>{text}</p>
{error}<form method="post">
<input type="hidden" name="action" value="{action}">
<input type="hidden" name="csrftoken" value="{token}">
<label for="password">Your password</label>
<input id="password" name="password" type="password" required autocomplete="current-password">
{code}<button>{button}</button>
</form>"""
_CODE = """<label for="code">A code of the app, or a recovery code</label>
<input id="code" name="code" required autocomplete="one-time-code">
"""
_ADDED = """<p>Scan this picture with an authenticator app. From now on, you sign in with your password and a code of
the app.</p>
<img src="data:image/png;base64,{picture}" alt="QR code">
<p>Without a camera, enter this key in the app: <code>{key}</code></p>
<p>Keep these recovery codes in a safe place. Each one replaces a code of the app once. They are not shown again.</p>
<pre>{codes}</pre>"""


class Provider(AuthenticatorProvider):
    """Piccolo Admin asks it for the code when an operator signs in."""

    def __init__(self, name: str) -> None:
        super().__init__(FernetProvider(encryption_key()), secret_table=SecondFactor, issuer_name=name)  # type: ignore[arg-type] # it has the methods that are called

    async def authenticate_user(self, user: BaseUser, code: Any) -> bool:
        return await operators.use_code(user.id, user.username, code, self.encryption_provider)

    async def send_code(self, *_: Any, **__: Any) -> bool:
        await operators.await_code()
        return False

    async def add(self, user: BaseUser, token: str) -> str:
        """The page with the QR code and the recovery codes. Ends the sessions of the operator but that of ``token``.
        Raises UniqueViolationError for a second one."""
        async with DB.transaction():
            # Other sessions were opened without it. A sign-in waits for the lock, and then needs a code
            await Operator.select(Operator.id).where(Operator.id == user.id).lock_rows("UPDATE")
            others = OperatorSession.digest != digest(token)
            await OperatorSession.delete().where(OperatorSession.user_id == user.id, others)
            factor, codes = await SecondFactor.create_new(user.id, self.encryption_provider, self.recovery_code_count)
            await record("add_second_factor", "operator", user.id, operator=user.username)
        address = factor.get_authentication_setup_uri(user.username, self.encryption_provider, self.issuer_name)
        picture = await asyncio.to_thread(get_b64encoded_qr_image, address)
        key = self.encryption_provider.decrypt(factor.secret)
        return _ADDED.format(picture=picture, key=key, codes="\n".join(codes))

    async def delete_registration(self, user: BaseUser) -> None:
        async with DB.transaction():
            if await SecondFactor.revoke(user.id):
                await record("remove_second_factor", "operator", user.id, operator=user.username)


def add_second_factor_page(site: Any, provider: Provider) -> None:
    """Adds the page in front of Piccolo's."""

    async def show(request: Request) -> Response:
        user = request.user.user
        return _form(request, has_one=await provider.is_user_enrolled(user))

    async def submit(request: Request) -> Response:
        user, form = request.user.user, request.scope.get("form") or await request.form()
        has_one = await provider.is_user_enrolled(user)
        if form.get("action") != ("remove" if has_one else "add"):
            return _form(request, has_one=has_one)
        if not await Operator.login(username=user.username, password=form.get("password")):
            return _form(request, has_one=has_one, error="The password is not right.")
        if not has_one:
            try:
                return _page(await provider.add(user, request.cookies["id"]))
            except asyncpg.UniqueViolationError:  # another tab was faster
                return _form(request, has_one=True)
        if not await provider.authenticate_user(user, form.get("code")):
            return _form(request, has_one=True, error="The code is not right.")
        await provider.delete_registration(user)
        return _form(request, has_one=False, text="Your second factor is removed.")

    path = SET_UP.removeprefix("/admin/api")
    api_of(site).router.routes[:0] = [Route(path, show, methods=["GET"]), Route(path, submit, methods=["POST"])]


def _form(request: Request, *, has_one: bool, error: str = "", text: str = "") -> Response:
    if not text and has_one:
        text = "You sign in with a code of an authenticator app. You can remove this second factor."
    elif not text:
        text = "An authenticator app on your phone shows codes that you enter after your password when you sign in."
    form = _FORM.format(
        text=text,
        error=f'<p class="error">{error}</p>\n' if error else "",
        action="remove" if has_one else "add",
        token=escape(request.scope.get("csrftoken") or ""),
        code=_CODE if has_one else "",
        button="Remove" if has_one else "Set up",
    )
    return _page(form, status=401 if error else 200)


def _page(content: str, *, status: int = 200) -> Response:
    page = _PAGE.format(style=_STYLE, content=content)
    return HTMLResponse(page, status, {"Content-Security-Policy": _POLICY})
