"""Content security policies of the HTML pages. Everything is loaded from this service; an inline script or style is
allowed only by its hash."""

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256

NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def page_policy(*, style: str) -> str:
    """The policy of a page without scripts. ``style`` is the content of its <style>."""
    return f"{NOTHING}; style-src {_hash(style)}; img-src data:"


def form_policy(*, style: str) -> str:
    """The policy of such a page with a form."""
    return page_policy(style=style).replace("form-action 'none'", "form-action 'self'")


def application_policy(
    *, script: str = "", style: str = "", styles: Iterable[str] = (), shows_downloads: bool = False
) -> str:
    """The policy of a page that sends requests to the service. ``script`` and ``style`` are the contents of its
    <script> and <style>; ``styles`` are the SHA-256 of the styles that its scripts add. A page that
    ``shows_downloads`` can show a picture that its script has downloaded."""
    scripts = " ".join(["'self'", *([_hash(script)] if script else [])])
    all_styles = " ".join(["'self'", *([_hash(style)] if style else []), *(f"'sha256-{each}'" for each in styles)])
    images = "'self' data: blob:" if shows_downloads else "'self' data:"
    return f"{NOTHING}; script-src {scripts}; style-src {all_styles}; img-src {images}; connect-src 'self'"


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
