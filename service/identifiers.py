"""UUIDv7 (RFC 9562): ids that sort by the time they were made. Made here, as PostgreSQL before 18 cannot."""

import os
import time
from uuid import UUID


def uuid7() -> UUID:
    """A new id: 48 bits of milliseconds, 12 bits of a millisecond's fraction, 62 random bits."""
    return UUID(int=_uuid7())


def uuid7_text() -> str:
    """A new id, as it is written."""
    digits = f"{_uuid7():032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _uuid7() -> int:
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") & (1 << 62) - 1
    return milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random
