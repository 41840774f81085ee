"""The frame of the HTML pages without scripts: in the colours of the system, and as wide as the screen."""

from litestar import Response
from litestar.enums import MediaType

from service.web.csp import page_policy

_STYLE = (
    ":root { color-scheme: light dark } body { font-family: system-ui; line-height: 1.5; max-width: 56em; "
    "margin: 2em auto; padding: 0 1em; overflow-wrap: break-word } a { color: LinkText } "
    "pre, table { overflow-x: auto } pre { padding: 1em; border: 1px solid; border-radius: 4px } "
    "table { display: block } td, th { padding: .2em 1em .2em 0; text-align: left; vertical-align: top } "
    "td { min-width: 6em }"
)


_PAGES = {"/docs": "Reference", "/docs/guide": "Guide", "/docs/api": "API", "/problems/": "Problems"}
_NAVIGATION = " · ".join(f'<a href="{path}">{title}</a>' for path, title in _PAGES.items())


def page(title: str, body: str) -> Response[str]:
    """``title`` and ``body`` are HTML."""
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><link rel="icon" href="data:,">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>'
        f"<body><nav>{_NAVIGATION}</nav>{body}</body></html>"
    )
    headers = {"Content-Security-Policy": page_policy(style=_STYLE), "Cache-Control": "public, max-age=60"}
    return Response(html, media_type=MediaType.HTML, headers=headers)
