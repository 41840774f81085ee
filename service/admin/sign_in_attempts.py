"""Attempts of operators to sign in or to enter their own password: their number is bounded."""

from typing import Any

from starlette.exceptions import HTTPException

from service.audit.queries import has_signed_in
from service.errors import TooManyRequests
from service.limits.backoff import SignIn
from service.log import REQUEST

_WITH_SESSION = "/admin/api/"  # the site serves what is below to signed-in operators only


async def begin(username: str, operator_id: int | None) -> SignIn:
    """An attempt of this request. Members' failures count for the network, too."""
    scope = REQUEST.get()
    address = scope["client"][0] if scope and scope.get("client") else "-"
    attempt = SignIn(f"operator {username}", address)
    try:
        await attempt.begin(known=await has_signed_in(operator_id, address))
    except TooManyRequests as error:
        raise HTTPException(error.status, error.detail, dict(error.headers)) from None
    return attempt


def has_session() -> bool:
    """Whether a session says who enters the password, as on the pages of one's own account."""
    scope = REQUEST.get()
    return bool(scope and scope["path"].startswith(_WITH_SESSION))


def is_text(value: Any, max_length: int | None) -> bool:
    return isinstance(value, str) and "\0" not in value and len(value) <= (max_length or 0)
