"""Forms of operators for the accounts of members."""

from contextlib import aclosing, suppress
from io import BytesIO
from typing import Annotated, Any, Protocol
from uuid import UUID

from piccolo_admin.endpoints import FileResponse, FormConfig
from pydantic import Field

from service.admin.forms import Confirm, Line, OperatorForm, Preview, Reason, operator_form, refused
from service.audit.actions import Action
from service.audit.queries import record
from service.auth.email_links import may_mint, request_link
from service.auth.queries import ALIVE
from service.auth.suspensions import close_account, end_access, reactivate_user, suspend_user
from service.auth.tables import Token
from service.callers import Caller
from service.characters.tables import Character
from service.errors import NotFound
from service.exports.queries import export_account
from service.users.schemas import account_key
from service.users.tables import User

MAX_EXPORT = 64 * 1024 * 1024  # bytes, which are in memory until they are sent
MemberName = Annotated[Line, Field(description="A username, an e-mail address or an id.")]


class About(Protocol):
    """A form about a member."""

    member: str


class MemberForm(OperatorForm):
    member: MemberName
    reason: Reason
    confirm: Confirm = False


async def _find(data: About) -> Any:
    """The row of an account that is not deleted, or of a deleted one."""
    user_id = None
    with suppress(ValueError):
        user_id = UUID(data.member)
    key = account_key(data.member)
    columns = (User.id, User.username, User.display_name, User.email, User.email_key)
    found = (
        await User.select(*columns, User.email_verified_at, User.status, User.deleted_at, User.created_at)
        .where((User.username == key) | (User.email_key == key) | (User.id == user_id))
        .first()
    )
    if found is None:
        raise refused("member", "There is no such member.")
    return found


async def find_open(data: About) -> Any:
    found = await _find(data)
    if found["deleted_at"] is not None:
        raise refused("member", f"{found['username']} has deleted the account, or an operator has.")
    return found


async def _summary(row: Any) -> str:
    count = await Character.count().where(Character.owner == row["id"], Character.deleted_at.is_null())
    known = ", ".join(filter(None, [row["display_name"], row["email"]])) or "no name and no address"
    since = row["created_at"].date().isoformat()
    return f"{row['username']} ({known}) is {row['status']}, a member since {since}. Characters: {count}."


async def _to_suspend(data: MemberForm) -> Preview:
    row = await find_open(data)
    if row["status"] == "suspended":
        raise refused("member", f"{row['username']} is suspended already.")
    hidden = "They will be signed out and hidden from others with what they own; their data stays."
    return Preview(row, f"{await _summary(row)} {hidden}")


async def _suspend(row: Any, data: MemberForm) -> str:
    await suspend_user(row["id"])
    return f"{row['username']} is suspended."


async def _to_reactivate(data: MemberForm) -> Preview:
    row = await find_open(data)
    if row["status"] == "active":
        raise refused("member", f"{row['username']} is active already.")
    return Preview(row, f"{await _summary(row)} They will be able to sign in again and be shown again.")


async def _reactivate(row: Any, data: MemberForm) -> str:
    await reactivate_user(row["id"])
    return f"{row['username']} is active."


async def _to_sign_out(data: MemberForm) -> Preview:
    row = await find_open(data)
    tokens: Any = await Token.select(Token.kind).where(Token.user == row["id"], ALIVE)
    kinds = [token["kind"] for token in tokens]
    ends = f"{_count(kinds, 'session')} and {_count(kinds, 'key', 'API key')}"
    return Preview(row, f"{await _summary(row)} All their sessions and API keys will end: {ends}.")


def _count(kinds: list[str], kind: str, name: str = "session") -> str:
    count = kinds.count(kind)
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


async def _sign_out(row: Any, data: MemberForm) -> str:
    await end_access(row["id"])
    return f"The sessions and API keys of {row['username']} have ended."


async def _to_verify(data: MemberForm) -> Preview:
    row = await find_open(data)
    if row["status"] == "suspended":
        raise refused("member", f"{row['username']} is suspended.")
    if row["email"] is None:
        raise refused("member", f"{row['username']} has no e-mail address.")
    if row["email_verified_at"] is not None:
        raise refused("member", f"The address of {row['username']} is verified already.")
    if not await may_mint("verification", row["email_key"]):
        raise refused("member", "An e-mail went to the address within the last minute. Wait a minute.")
    return Preview(row, f"{await _summary(row)} The address will get a new link, and an older one ends.")


async def _verify(row: Any, data: MemberForm) -> str:
    await request_link("verification", row["email_key"])
    await record(Action.SEND_VERIFICATION, "user", row["id"])
    return f"A verification e-mail to {row['email']} is on its way. An address gets at most one a minute."


async def _to_delete(data: MemberForm) -> Preview:
    row = await find_open(data)
    effect = "The account will be closed at once, for good. Its characters and other data are purged after 30 days."
    return Preview(row, f"{await _summary(row)} {effect}")


async def _delete(row: Any, data: MemberForm) -> str:
    try:
        await close_account(row["id"])
    except NotFound:
        raise refused("member", f"{row['username']} has deleted the account meanwhile.") from None
    return (
        f"The account of {row['username']} is closed for good. Its characters and other data are purged after 30 days."
    )


async def _to_export(data: MemberForm) -> Preview:
    """Reads the export, too, once it is confirmed: that must not wait in a transaction."""
    row = await find_open(data)
    content = await _read_export(row) if data.confirm else None
    return Preview(row | {"content": content}, f"{await _summary(row)} You will get all their data as a file.")


async def _read_export(row: Any) -> BytesIO:
    content = BytesIO()
    async with aclosing(await export_account(Caller(id=row["id"], username=row["username"]))) as chunks:
        async for chunk in chunks:
            content.write(chunk)
            if content.tell() > MAX_EXPORT:
                most = f"{MAX_EXPORT // 1024**2} MiB"
                raise refused("member", f"The export is larger than {most}: {row['username']} can download it.")
    return content


async def _export(row: Any, data: MemberForm) -> FileResponse:
    await record(Action.EXPORT_USER, "user", row["id"])
    return FileResponse(row["content"], f"{row['username']}.ndjson", "application/x-ndjson")


_GROUP = "Members"
FORMS: list[FormConfig] = [
    operator_form(
        "Suspend a member",
        _GROUP,
        "The member is signed out and hidden from others; their data stays.",
        MemberForm,
        _to_suspend,
        _suspend,
    ),
    operator_form(
        "Reactivate a member",
        _GROUP,
        "A suspended member can sign in again and is shown again.",
        MemberForm,
        _to_reactivate,
        _reactivate,
    ),
    operator_form(
        "End sessions and keys",
        _GROUP,
        "The member has to sign in again. Their API keys end, too.",
        MemberForm,
        _to_sign_out,
        _sign_out,
    ),
    operator_form(
        "Resend verification",
        _GROUP,
        "Sends the e-mail with which the member verifies their address.",
        MemberForm,
        _to_verify,
        _verify,
    ),
    operator_form(
        "Delete an account",
        _GROUP,
        "Closes the account at once, for good. Its characters and other data are purged after 30 days.",
        MemberForm,
        _to_delete,
        _delete,
    ),
    operator_form(
        "Export an account",
        _GROUP,
        "Downloads what the member's own export has, as NDJSON.",
        MemberForm,
        _to_export,
        _export,
    ),
]
