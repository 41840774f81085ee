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
    "api_key_created": "An API key was created for your account",
}
_TEXTS: dict[Kind, str] = {
    "verification": """\
Hello {username},

please confirm your e-mail address by opening this link:

{link}

The link works once, within 24 hours. Sign in before you open it, or enter the password of your account there. The first
confirmation ends all sessions and API keys of the account: sign in again after it. If you did not ask for this,
somebody probably mistyped their own address: do not open the link, and ignore this message.
""",
    "reset": """\
Hello {username},

we received a request for a new password for your account. You can choose one here:

{link}

The link works once, within 30 minutes. Choosing a new password signs you out everywhere and revokes your
API keys. If you did not ask for this, you can ignore this message: nothing has changed.
""",
    "email_changed": """\
Hello {username},

the e-mail address of your account was changed. From now on, we send our messages to the new address. If you did
not change it, somebody knows your password: please contact whoever runs this service.
""",
    "password_changed": """\
Hello {username},

the password of your account was changed, and you were signed out of your other sessions. If you did not change it,
choose a new password with "forgotten password": that signs you out everywhere and revokes your API keys.
""",
    "api_key_created": """\
Hello {username},

an API key was created for your account. Programs can use it in your name. If you did not create it, somebody knows
your password: choose a new one with "forgotten password". That signs you out everywhere and revokes your API keys.
""",
}
LINKED: dict[Kind, str] = {"verification": "verify-email", "reset": "reset-password"}
_ROUTES: dict[Kind, str] = {"verification": "/v1/email-verifications", "reset": "/v1/password-resets"}
_NO_FRONT_END = (
    "{link}\n\n(For developers: LINKS_URL is not set. Send the text after #token= as the token to PUT {route}.)"
)


def compose_message(kind: Kind, recipient: str, username: str, token: str = "") -> EmailMessage:
    """Puts the token in the fragment of the link, which browsers never send. Raises Undeliverable for a bad address."""
    page = LINKED.get(kind, "")
    link = f"{(settings.links_url or settings.own_url).rstrip('/')}/{page}#token={token}"
    if kind in LINKED and not settings.links_url and not settings.in_production:
        link = _NO_FRONT_END.format(link=link, route=_ROUTES[kind])
    return compose(recipient, _SUBJECTS[kind], _TEXTS[kind].format(username=username, link=link))
