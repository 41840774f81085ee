"""Sets how many failed attempts are allowed."""

import pytest

from service.limits import backoff
from service.limits.backoff import Attempts


def allow_failures(monkeypatch: pytest.MonkeyPatch, name: str, free: int) -> None:
    """Replaces the counter ``name`` of ``service.limits.backoff`` by one that has counted nothing and delays attempts
    after ``free`` failures. It sets the number directly, because Attempts multiplies ``free`` by the rate limit factor,
    which is large in tests."""
    attempts = Attempts(free=0, longest=60)
    attempts._free = free
    monkeypatch.setattr(backoff, name, attempts)
