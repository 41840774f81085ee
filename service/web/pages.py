"""The frame of the HTML pages without scripts: in the colours of the system, and as wide as the screen."""

from litestar import Response
from litestar.enums import MediaType

from service.web.csp import page_policy

NAVIGATION_STYLE = (  # in the colours of the system also on a page that has colours of its own
    "nav.pages { color-scheme: light dark; color: CanvasText; background: Canvas; font: 16px/1.5 system-ui; "
    "display: flex; flex-wrap: wrap; gap: 0 1.2em; padding: .5em 1em; border-bottom: 1px solid GrayText } "
    "nav.pages a { color: LinkText } nav.pages a[aria-current] { color: CanvasText; font-weight: bold } "
)
_STYLE = NAVIGATION_STYLE + (
    ":root { color-scheme: light dark } body { margin: 0; font-family: system-ui; line-height: 1.5; "
    "overflow-wrap: break-word } main { max-width: 56em; margin: 0 auto; padding: 0 1em 2em } a { color: LinkText } "
    ".contents ul { padding: 0; list-style: none } .contents summary { padding: .5em 0; cursor: pointer } "
    # Folded on a phone. On a wide screen they are open, in browsers that can open them by style
    "@supports selector(::details-content) { @media (min-width: 40em) { .contents summary { display: none } "
    ".contents::details-content { content-visibility: visible; block-size: auto } "
    ".contents ul { display: flex; flex-wrap: wrap; gap: 0 1.2em } } } "
    "pre, table { overflow-x: auto } pre { padding: 1em; border: 1px solid; border-radius: 4px } "
    "table { display: block; border-collapse: collapse } "
    "td, th { padding: .3em .8em .3em 0; text-align: left; vertical-align: top } "
    "tr { border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent) } td { min-width: 6em } "
    # Long names wrap instead of taking the width of the texts beside them
    "@media (max-width: 40em) { td, th { padding-right: .6em } td { min-width: 3em } "
    "td code { overflow-wrap: anywhere } td:first-child:nth-last-child(2) { width: 30% } }"
)


_PAGES = {"/docs": "Reference", "/docs/guide": "Guide", "/docs/api": "API", "/problems/": "Problems"}


def navigation(current: str) -> str:
    """The bar that leads from each page to the others. ``current`` is the path of the page or of the one above."""
    marked = {path: ' aria-current="page"' if path == current else "" for path in _PAGES}
    links = "".join(f'<a href="{path}"{marked[path]}>{title}</a>' for path, title in _PAGES.items())
    return f'<nav class="pages" aria-label="Documentation">{links}</nav>'


def page(title: str, body: str, current: str) -> Response[str]:
    """``title`` and ``body`` are HTML; ``current`` is as for ``navigation``."""
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><link rel="icon" href="data:,">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>'
        f"<body>{navigation(current)}<main>{body}</main></body></html>"
    )
    headers = {"Content-Security-Policy": page_policy(style=_STYLE), "Cache-Control": "public, max-age=60"}
    return Response(html, media_type=MediaType.HTML, headers=headers)
