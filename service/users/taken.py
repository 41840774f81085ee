"""The answer when an e-mail address or a username is in use."""

from piccolo.querystring import QueryString

from service.database.prepared import Param, Prepared
from service.errors import Conflict, Violation

_EMAIL_TAKEN = Violation("This e-mail address has an account already.", pointer="/email")
_USERNAME_TAKEN = Violation("This username is taken.", pointer="/username")
TAKEN = {
    "one_account_per_email": Conflict(_EMAIL_TAKEN.detail, errors=[_EMAIL_TAKEN]),
    "one_account_per_username": Conflict(_USERNAME_TAKEN.detail, errors=[_USERNAME_TAKEN]),
}
_ARE_TAKEN = Prepared(
    lambda: QueryString(
        "SELECT EXISTS (SELECT FROM users WHERE email_key = {}) AS email,"
        " EXISTS (SELECT FROM users WHERE username = {})"
        " OR EXISTS (SELECT FROM reserved_usernames WHERE username = {} AND until > now()) AS username",
        Param("email_key"),
        Param("username"),
        Param("username"),
    )
)


async def all_taken(conflict: Conflict, email_key: str, username: str) -> Conflict:
    """The database reports one taken field of a new account. This adds the other one if it is taken, too."""
    taken = await _ARE_TAKEN.one(email_key=email_key, username=username)
    if taken["email"] and taken["username"]:
        return Conflict("The e-mail address and the username are taken.", errors=[_EMAIL_TAKEN, _USERNAME_TAKEN])
    return conflict
