"""The text of each message."""

from email.message import EmailMessage

from service.mail.outbox import Kind
from service.mail.smtp import compose
from service.settings import settings

_SUBJECTS: dict[Kind, str] = {
    "verification": "Please confirm your e-mail address",
    "reset": "A new password for your account",
    "email_changed": "The e-mail address of your account was changed",
    "password_changed": "The password of your account was changed",
}
_TEXTS: dict[Kind, str] = {
    "verification": """\
Hello {username},

please confirm that this is your e-mail address:

{link}

The link works once, within 24 hours. If you have no account with us, somebody mistyped theirs: just ignore this.
""",
    "reset": """\
Hello {username},

somebody, hopefully you, asked for a new password for your account. Choose one here:

{link}

The link works once, within 30 minutes, and ends all sessions. If it was not you, ignore this: nothing has changed.
""",
    "email_changed": """\
Hello {username},

the e-mail address of your account was changed: from now on, we write to another one. If it was not you, somebody
knows your password; please write to whoever runs this service.
""",
    "password_changed": """\
Hello {username},

the password of your account was changed, and your other sessions ended; API keys go on. If it was not you, choose
another one by "forgotten password", then look through your API keys.
""",
}
LINKED: dict[Kind, str] = {"verification": "verify-email", "reset": "reset-password"}


def letter(kind: Kind, recipient: str, username: str, token: str = "") -> EmailMessage:
    """The token stands behind #, which browsers send to nobody. Raises Undeliverable for a bad address."""
    page = LINKED.get(kind, "")
    link = f"{(settings.links_url or settings.own_url).rstrip('/')}/{page}#token={token}"
    return compose(recipient, _SUBJECTS[kind], _TEXTS[kind].format(username=username, link=link))
