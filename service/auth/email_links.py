from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from piccolo.querystring import QueryString

from service.audit.actions import Action
from service.audit.queries import record
from service.auth.queries import delete_tokens
from service.auth.secrets import digest, is_well_formed, new_token
from service.auth.tables import EmailToken
from service.callers import Caller
from service.database.engine import DB
from service.database.prepared import NOW, Param, Prepared
from service.errors import NotFound, Violation
from service.identifiers import uuid7
from service.mail.outbox import may_send, queue_message
from service.mail.worker import Recipient
from service.users.credentials import confirm_password, refused_password
from service.users.passwords import check_password, hash_password
from service.users.schemas import account_key
from service.users.scopes import is_active
from service.users.tables import EMAIL_LENGTH, User

Purpose = Literal["verification", "reset"]

LIFETIMES: dict[Purpose, timedelta] = {"verification": timedelta(hours=24), "reset": timedelta(minutes=30)}
ENDED = EmailToken.expires_at < NOW

_GONE = "This link was used already, is too old, or was replaced by a newer one."
_NEEDS_PROOF = "Verifying an address needs the current password of the account, or a session of it."

# The account that a link is for. Unless it is sent again, a second request within a minute makes no new one.
_RECIPIENT = Prepared(
    lambda: QueryString(
        "SELECT id, email, username FROM users WHERE email_key = {}"
        " AND status = 'active' AND ({} = 'reset' OR email_verified_at IS NULL)"
        ' AND ({} OR NOT EXISTS (SELECT FROM email_tokens AS old WHERE old."user" = users.id AND old.purpose = {}'
        " AND old.email_key = users.email_key AND old.created_at > now() - interval '1 minute'))",
        Param("email_key"),
        Param("purpose"),
        Param("again"),
        Param("purpose"),
    )
)
# One live token for each purpose
_MINT = Prepared(
    lambda: QueryString(
        'INSERT INTO email_tokens (id, "user", purpose, digest, email_key, expires_at, created_at)'
        " SELECT {}::uuid, id, {}, {}::bytea, email_key, now() + {}::interval, now() FROM users WHERE id = {}"
        ' ON CONFLICT ("user", purpose) DO UPDATE SET digest = EXCLUDED.digest, email_key = EXCLUDED.email_key,'
        " expires_at = EXCLUDED.expires_at, created_at = now()",
        Param("id"),
        Param("purpose"),
        Param("digest"),
        Param("lifetime"),
        Param("user"),
    )
)
_FIND = Prepared(
    lambda: EmailToken.select(
        EmailToken.user.id.as_alias("user"),
        EmailToken.user.email.as_alias("email"),
        EmailToken.user.username.as_alias("username"),
        EmailToken.user.display_name.as_alias("display_name"),
        EmailToken.user.password_hash.as_alias("password_hash"),
        EmailToken.email_key,
    ).where(
        EmailToken.digest == Param("digest"),
        EmailToken.purpose == Param("purpose"),
        EmailToken.expires_at > NOW,
        is_active(EmailToken.user),
        EmailToken.user.email_key == EmailToken.email_key,
    )
)


async def request_link(purpose: Purpose, email: str) -> None:
    """Queues the message without looking up the account, so the response and its time do not show whether it exists."""
    if len(key := account_key(email)) <= EMAIL_LENGTH:
        await queue_message(purpose, key)


async def may_mint(kind: Purpose, address: str) -> bool:
    """Whether ``mint_token`` would find an account, and none of its messages within the last minute."""
    return await _RECIPIENT.one(email_key=address, purpose=kind, again=False) is not None


async def mint_token(kind: Purpose, address: str, *, again: bool) -> Recipient | None:
    """A new token for the account with this address; it replaces an older one.

    None when there is no such account, when its address is verified already, or, unless it is sent ``again``, when one
    went out within the last minute or the recipient got too many.
    """
    account = await _RECIPIENT.one(email_key=address, purpose=kind, again=again)
    if account is None or not (again or await may_send(kind, address)):
        return None
    token = new_token("mail")
    await _MINT.one(id=uuid7(), user=account["id"], purpose=kind, digest=digest(token), lifetime=LIFETIMES[kind])
    return Recipient(account["email"], account["username"], token)


async def verify_email(caller: Caller, token: str, password: str | None) -> None:
    """Verifies the address of the token's account, and at the first verification ends all its sessions and API keys.

    The link proves that its reader gets the address's e-mail, but somebody else may have signed up with the address. So
    it also needs the account's password, or a session of the account as ``caller``.

    Raises NotFound for an invalid, used or expired token. Raises Forbidden, and keeps the token, if there is no such
    session and the password is missing or wrong, or changes meanwhile.
    """
    account = await _find_account("verification", token)
    if caller.id != account["user"]:
        if password is None:
            raise refused_password(_NEEDS_PROOF, "Is required without a session of the account.")
        await confirm_password(Caller(id=account["user"]), account["password_hash"], password)
    async with DB.transaction():
        locked = await _consume_link("verification", token, account)
        if locked["password_hash"] != account["password_hash"]:
            raise refused_password()
        if await _mark_verified(account["user"]):
            await delete_tokens(Caller(id=account["user"]))
        await record(Action.VERIFY_EMAIL, "user", account["user"], member=account["user"])


async def reset_password(token: str, password: str) -> None:
    """Ends all sessions and API keys. The link proves that the user reads the address, so it becomes verified.

    Raises NotFound for an invalid, used or expired token. Raises Unprocessable for a bad password and keeps the token.
    """
    account = await _find_account("reset", token)
    own_words = {account["email"], account["username"], account["display_name"]}
    await check_password(password, own_words, "/password")
    password_hash = await hash_password(password)
    async with DB.transaction():
        await _consume_link("reset", token, account)
        await User.update({User.password_hash: password_hash}).where(User.id == account["user"])
        await _mark_verified(account["user"])
        await delete_tokens(Caller(id=account["user"]))
        await record(Action.CHANGE_PASSWORD, "user", account["user"], member=account["user"], by="email_link")
        await queue_message("password_changed", account["email"], account["username"])


async def _find_account(purpose: Purpose, token: str) -> Any:
    if is_well_formed(token) and (account := await _FIND.one(digest=digest(token), purpose=purpose)):
        return account
    raise _gone()


def _gone() -> NotFound:
    return NotFound(
        _GONE, errors=[Violation("Was used, has expired, was replaced, or never existed.", pointer="/token")]
    )


async def _consume_link(purpose: Purpose, token: str, account: Any) -> Any:
    """Deletes the token and locks the account, and returns its password hash. Raises NotFound when a concurrent request
    has used the token or changed the address."""
    same = (User.id == account["user"]) & (User.email_key == account["email_key"]) & (User.status == "active")
    locked = await User.select(User.password_hash).where(same).lock_rows("NO KEY UPDATE").first()
    if locked is None:
        raise _gone()
    used = EmailToken.delete().where(EmailToken.digest == digest(token), EmailToken.purpose == purpose)
    if not await used.returning(EmailToken.id):
        raise _gone()
    return locked


async def _mark_verified(user_id: UUID) -> bool:
    """Returns whether the address was not verified before."""
    verified: dict[Any, Any] = {
        User.email_verified_at: NOW,
        User.email_changed_at: None,
        User.must_verify: False,
        User.updated_at: NOW,
    }
    unverified = (User.id == user_id) & User.email_verified_at.is_null()
    change = User.update(verified | {User.version: User.version + 1}).where(unverified)
    return bool(await change.returning(User.id))
