"""Operators' second factors: codes of an authenticator app (TOTP, RFC 6238), and recovery codes."""

import base64
import hmac
import re
import time
from datetime import UTC, datetime
from typing import Any

import pyotp
from loguru import logger
from piccolo.apps.user.tables import BaseUser
from piccolo.columns import UUID, Array, BigInt, Boolean, Integer, Text, Timestamptz, Varchar
from piccolo.columns.combination import WhereRaw
from piccolo.columns.defaults import TimestamptzNow
from piccolo.constraints import Unique
from piccolo.querystring import QueryString
from piccolo.table import Table
from piccolo_api.encryption.providers import EncryptionProvider
from piccolo_api.mfa.recovery_codes import generate_recovery_code

from service.audit.actions import Action
from service.audit.queries import record
from service.database.engine import DB
from service.identifiers import uuid7
from service.settings import settings

STEP = 30  # seconds in which an app shows the same code
_CLOCKS = (0, -1, 1)  # steps by which the clock of a phone may differ
_CODE = re.compile("[0-9]{6}")
_RECOVERY_CODE = re.compile("[0-9a-z]{6}-[0-9a-z]{6}")


class SecondFactor(Table, db=DB, tablename="operator_second_factors", help_text="Second factors of operators."):
    """Replaces piccolo_api's table, whose codes can be used twice at the same time, and whose recovery codes take
    seconds of the event loop."""

    id = UUID(primary_key=True, default=None, null=False)
    user_id = Integer(default=None, null=False, help_text="The operator; the name is Piccolo's.")
    secret = Text(default="", null=False, secret=True, help_text="Shared with the app; encrypted.")
    last_step = BigInt(default=0, null=False, help_text="The 30 seconds of the newest code that was used.")
    recovery_codes = Array(
        Varchar(length=64), default=list, null=False, secret=True, help_text="HMAC-SHA256 of those that are left."
    )
    # True in the database, so that the release before, which knows only active ones, may add its own
    active = Boolean(default=True, null=False, help_text="From the first right code on, signing in needs a code.")
    created_at = Timestamptz(default=TimestamptzNow(), null=False)

    one_second_factor_per_operator = Unique([user_id])

    @classmethod
    async def create_new(
        cls, user_id: int, encryption_provider: EncryptionProvider, recovery_code_count: int
    ) -> tuple["SecondFactor", list[str]]:
        """The new second factor, not yet active, and its recovery codes. It replaces one that is not active. Raises
        UniqueViolationError when the operator has an active one."""
        codes = [generate_recovery_code() for _ in range(recovery_code_count)]
        factor = cls(
            id=uuid7(),
            user_id=user_id,
            secret=encryption_provider.encrypt(pyotp.random_base32()),
            recovery_codes=[_recovery_digest(user_id, code) for code in codes],
            active=False,
            created_at=datetime.now(UTC),
        )
        async with DB.transaction():
            await cls.delete().where(cls.user_id == user_id, cls.active.eq(False))
            await cls.insert(factor)
        return factor, codes

    def get_authentication_setup_uri(
        self, email: str, encryption_provider: EncryptionProvider, issuer_name: str
    ) -> str:
        """The text in the QR code. ``email`` names the account in the app."""
        totp = pyotp.TOTP(encryption_provider.decrypt(self.secret))
        return totp.provisioning_uri(name=email, issuer_name=issuer_name)

    @classmethod
    async def is_user_enrolled(cls, user_id: int) -> bool:
        """Whether the operator has to enter a code."""
        return await cls.exists().where(cls.user_id == user_id, cls.active.eq(True))

    @classmethod
    async def find_state(cls, user_id: int) -> Any:
        """``active`` and ``created_at``; None when the operator has no second factor."""
        return await cls.select(cls.active, cls.created_at).where(cls.user_id == user_id).first()

    @classmethod
    async def activate(cls, user_id: int, code: Any, encryption_provider: EncryptionProvider) -> bool:
        """Whether the code of the app is right. The second factor is active then, and the code is used up."""
        text = _spelt(code)
        return bool(_CODE.fullmatch(text)) and await cls._use_code(user_id, text, encryption_provider, active=False)

    @classmethod
    async def authenticate(
        cls, user_id: int, code: Any, encryption_provider: EncryptionProvider, valid_window: int = 0
    ) -> bool:
        """Whether the code is right. It is used up then. ``valid_window`` is Piccolo's and not used."""
        text = _spelt(code)
        if _CODE.fullmatch(text):
            return await cls._use_code(user_id, text, encryption_provider, active=True)
        return bool(_RECOVERY_CODE.fullmatch(text)) and await cls._use_recovery_code(user_id, text)

    @classmethod
    async def revoke(cls, user_id: int) -> bool:
        """Returns False when the operator has none."""
        return bool(await cls.delete().where(cls.user_id == user_id).returning(cls.id))

    @classmethod
    async def _use_code(cls, user_id: int, code: str, encryption_provider: EncryptionProvider, *, active: bool) -> bool:
        """A right code makes one that is not active so."""
        of_operator = (cls.user_id == user_id) & cls.active.eq(active)
        factor = await cls.select(cls.id, cls.secret).where(of_operator).first()
        if factor is None:
            return False
        try:
            totp = pyotp.TOTP(encryption_provider.decrypt(factor["secret"]))
        except Exception as error:  # of each provider another; the recovery codes have another key, too
            logger.error("SECOND_FACTOR_KEY does not decrypt the second factor of operator {}: {!r}", user_id, error)
            return False
        now = int(time.time()) // STEP
        steps = [now + clock for clock in _CLOCKS if hmac.compare_digest(totp.generate_otp(now + clock), code)]
        if not steps:
            return False
        # In one statement: of two requests with the same code only one succeeds
        unused = (cls.id == factor["id"]) & (cls.last_step < steps[0])
        used: dict[Any, Any] = {cls.last_step: steps[0], cls.active: True}
        return bool(await cls.update(used).where(unused).returning(cls.id))

    @classmethod
    async def _use_recovery_code(cls, user_id: int, code: str) -> bool:
        used = _recovery_digest(user_id, code)
        is_left = (
            (cls.user_id == user_id)
            & cls.active.eq(True)
            & WhereRaw("{}::varchar = ANY ({})", used, cls.recovery_codes)
        )
        rest = QueryString("array_remove({}, {}::varchar)", cls.recovery_codes, used)
        async with DB.transaction():
            if not await cls.update({cls.recovery_codes: rest}).where(is_left).returning(cls.id):
                return False
            operator = await BaseUser.select(BaseUser.username).where(BaseUser.id == user_id).first()
            await record(
                Action.USE_RECOVERY_CODE, "operator", user_id, operator=operator["username"] if operator else None
            )
            return True


def _spelt(code: Any) -> str:
    """Without the spaces and capital letters that an operator may enter."""
    return code.replace(" ", "").strip().lower() if isinstance(code, str) else ""


def encryption_key() -> bytes:
    """The key of the secrets, as Fernet wants it."""
    return base64.urlsafe_b64encode(_derived_key("secrets"))


def _derived_key(use: str) -> bytes:
    return hmac.digest(settings.second_factor_key.encode(), use.encode(), "sha256")


def _recovery_digest(user_id: int, code: str) -> str:
    """A recovery code is random, so it needs no slow hash; without the key, a copy of the table is of no use."""
    return hmac.digest(_derived_key("recovery codes"), f"{user_id} {code}".encode(), "sha256").hex()
