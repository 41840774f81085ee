"""Content security policies of the pages for people: all comes from here, and of what stands in a page only the script
and the style run that are named by their hash."""

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256

NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def page_policy(*, style: str) -> str:
    """For a page without scripts; ``style`` is what stands in its <style>."""
    return f"{NOTHING}; style-src {_hash(style)}; img-src data:"


def application_policy(*, script: str = "", style: str = "", styles: Iterable[str] = ()) -> str:
    """For a page that asks the service; ``script`` and ``style`` are what stands in its <script> and <style>, and
    ``styles`` the SHA-256 of those that its scripts add."""
    scripts = " ".join(["'self'", *([_hash(script)] if script else [])])
    all_styles = " ".join(["'self'", *([_hash(style)] if style else []), *(f"'sha256-{each}'" for each in styles)])
    return f"{NOTHING}; script-src {scripts}; style-src {all_styles}; img-src 'self' data:; connect-src 'self'"


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
