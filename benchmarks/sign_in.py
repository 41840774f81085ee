"""Tests whether the time of an answer reveals that an account exists. It sends sign-ins and password resets for an
existing and a missing account in random order, and compares their times by the Mann–Whitney U test.

    RATE_LIMIT_SCALE=1000000 python -m service
    python benchmarks/sign_in.py [http://127.0.0.1:8000] [runs of each]

It signs up an account for itself. A p-value below 0.01 in two runs shows a measurable difference. Without a difference,
the p-value is random between 0 and 1.
"""

import random
import secrets
import sys
import time
from collections.abc import Callable
from math import erfc, sqrt
from statistics import median

import httpx

EXISTING, MISSING = "existing", "missing"


def main(url: str = "http://127.0.0.1:8000", runs: str = "1000") -> None:
    with httpx.Client(base_url=f"{url}/v1", timeout=30) as client:
        names = {kind: secrets.token_hex(12) for kind in (EXISTING, MISSING)}
        account = {
            "email": f"{names[EXISTING]}@example.org",
            "username": names[EXISTING],
            "password": "a sound password",
        }
        client.post("/users", json=account).raise_for_status()
        compare("sign-in with a wrong password", lambda kind: sign_in(client, names[kind]), int(runs))
        compare("sign-in by e-mail", lambda kind: sign_in(client, f"{names[kind]}@example.org"), int(runs))
        compare("password reset", lambda kind: reset(client, f"{names[kind]}@example.org"), int(runs))


def sign_in(client: httpx.Client, login: str) -> None:
    expect(client.post("/sessions", json={"login": login, "password": "a wrong password"}), 401)


def reset(client: httpx.Client, email: str) -> None:
    expect(client.post("/password-resets", json={"email": email}), 202)


def expect(answer: httpx.Response, status: int) -> None:
    if answer.status_code != status:
        sys.exit(f"{answer.request.url}: {answer.status_code} {answer.text}")


def compare(what: str, call: Callable[[str], None], runs: int) -> None:
    order = [EXISTING, MISSING] * runs
    random.shuffle(order)
    for kind in (EXISTING, MISSING) * 10:  # warm-up
        call(kind)
    times: dict[str, list[float]] = {EXISTING: [], MISSING: []}
    for kind in order:
        started = time.perf_counter()
        call(kind)
        times[kind].append((time.perf_counter() - started) * 1000)
    existing, missing = median(times[EXISTING]), median(times[MISSING])
    effect, p = mann_whitney(times[EXISTING], times[MISSING])
    print(
        f"{what}: existing {existing:.3f} ms, missing {missing:.3f} ms (medians of {runs});"
        f" a missing one is slower in {effect:.1%} of pairs, p = {p:.3f}"
    )


def mann_whitney(one: list[float], other: list[float]) -> tuple[float, float]:
    """The share of pairs in which the value of ``other`` is larger, and the two-sided p-value (normal approximation
    without a correction for ties)."""
    ranked = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    ranks = sum(rank for rank, (_, of) in enumerate(ranked, 1) if of)
    u = ranks - len(other) * (len(other) + 1) / 2
    mean = len(one) * len(other) / 2
    deviation = sqrt(mean * (len(one) + len(other) + 1) / 6)
    return u / (2 * mean), erfc(abs(u - mean) / deviation / sqrt(2))


if __name__ == "__main__":
    main(*sys.argv[1:])
