"""Failed sign-ins slow down, but nobody can shut somebody else out.

One address that keeps failing for one account, or for many, waits. An account that many addresses try waits, too, but
not for addresses that have signed in to it. All of it is the same for accounts that do not exist.
"""

from service.errors import TooManyRequests
from service.limits import network_of
from service.users.attempts import Attempts
from service.users.schemas import folded

_by_pair = Attempts(free=5, longest=300)
_by_address = Attempts(free=100, longest=60)
_by_account = Attempts(free=50, longest=60)


class SignIn:
    """One attempt, by ``address``, to sign in to the account with this ``login``."""

    def __init__(self, login: str, address: str) -> None:
        self._account = folded(login)
        self._address = network_of(address)
        self._pair = f"{self._address} {self._account}"

    def begin(self, *, known: bool) -> None:
        """Raises TooManyRequests while it has to wait; ``known`` says that the address has signed in before."""
        waits = [_by_pair.wait(self._pair), _by_address.wait(self._address)]
        if not known:
            waits.append(_by_account.wait(self._account))
        if wait := max(waits):
            raise TooManyRequests(
                "Too many failed sign-ins: wait as long as Retry-After says (in seconds).",
                headers={"Retry-After": str(wait)},
            )
        _by_pair.begin(self._pair)
        _by_address.begin(self._address)
        _by_account.begin(self._account)

    def succeed(self) -> None:
        _by_pair.forget(self._pair)
        _by_address.take_back(self._address)
        _by_account.take_back(self._account)
