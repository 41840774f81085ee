"""The roles of operators, and what each may do in the admin site."""

from typing import Any, Literal, get_args

from piccolo.columns import UUID, Integer, Varchar
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from service.admin.operators import SET_UP, OperatorSession
from service.auth.secrets import digest
from service.database.engine import DB
from service.errors import Forbidden, Unauthorized
from service.identifiers import uuid7
from service.schemas import constrained

Role = Literal["reader", "moderator", "administrator"]
ROLES: tuple[Role, ...] = get_args(Role)

_FORMS = "/admin/api/forms/"
_OWN_ACCOUNT = ("/admin/public/login/", "/admin/public/logout/", "/admin/api/change-password/", SET_UP)
# The forms of moderators; all others are for administrators
MODERATION = frozenset((
    "suspend-a-member", "reactivate-a-member", "end-sessions-and-keys", "resend-verification", "hide-a-character",
    "restore-a-character", "hide-a-template",
))  # fmt: skip


class OperatorRole(
    Table, db=DB, tablename="operator_roles", help_text="Roles of operators who are not administrators."
):
    id = UUID(primary_key=True, default=None, null=False)
    user_id = Integer(default=None, null=False, help_text="The operator; one without a row is an administrator.")
    role = Varchar(length=16, default=None, null=False)

    one_role_per_operator = Unique([user_id])
    known_role = Check(constrained("role", Role))


async def get_role(operator_id: int) -> Role:
    found: Any = await OperatorRole.select(OperatorRole.role).where(OperatorRole.user_id == operator_id).first()
    role: Role = found["role"] if found else "administrator"
    return role


async def store_role(operator_id: int, role: Role) -> None:
    await OperatorRole.delete().where(OperatorRole.user_id == operator_id)
    await OperatorRole.insert(OperatorRole(id=uuid7(), user_id=operator_id, role=role))


def may_use(role: Role, form: str) -> bool:
    """``form`` is the last part of the address of a form."""
    return role == "administrator" or (role == "moderator" and form in MODERATION)


async def check_form(operator_id: int, form: str) -> None:
    """Raises Forbidden when the operator may not use the form. ``form`` is the last part of its address."""
    role = await get_role(operator_id)
    if not may_use(role, form):
        raise Forbidden(f"Your role is {role}, which does not allow this.")


async def check_role(token: str | None, path: str) -> None:
    """Raises Forbidden when the operator of this session may not write to ``path``, and Unauthorized without a session.
    Whether the session is alive is checked by the site. Each form checks the role again, for the operator that the site
    finds."""
    if path in _OWN_ACCOUNT:
        return
    of_token = OperatorSession.digest == digest(token or "")
    session: Any = await OperatorSession.select(OperatorSession.user_id).where(of_token).first()
    if session is None:
        raise Unauthorized("Sign in first.")
    await check_form(session["user_id"], path.removeprefix(_FORMS).removesuffix("/") if path.startswith(_FORMS) else "")
