from service.schemas import Input
from service.users.schemas import Email, Password


class LetterRequest(Input, kw_only=True):
    """Whom to write to. Whether anybody has an account with this address is not told."""

    email: Email


class PasswordReset(Input, kw_only=True):
    password: Password
