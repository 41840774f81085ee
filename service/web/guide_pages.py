"""The guide and the API page of docs/ as HTML, for the visitors of /docs."""

import asyncio
import re
from collections.abc import Iterator
from functools import cache
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litestar import Controller, Response
from litestar.enums import MediaType

from service.errors import NotFound
from service.web.pages import page
from service.web.routes import get

if TYPE_CHECKING:
    from markdown_it.token import Token

_DOCUMENTS = Path(__file__).parents[2] / "docs"  # beside the package: the service runs from its checkout
_TITLES = {"guide": "Guide", "api": "API"}


class GuideController(Controller):
    path = "/docs"
    include_in_schema = False

    @get("/guide", media_type=MediaType.HTML)
    async def get_guide(self) -> Response[str]:
        """The guide: characters, templates and all else that the service stores."""
        return await _page("guide")

    @get("/api", media_type=MediaType.HTML)
    async def get_api_rules(self) -> Response[str]:
        """The rules that hold for every route."""
        return await _page("api")


async def _page(name: str) -> Response[str]:
    try:
        return page(_TITLES[name], await asyncio.to_thread(_rendered, name), f"/docs/{name}")
    except FileNotFoundError:  # an installation of the package alone
        raise NotFound from None


@cache
def _rendered(name: str) -> str:
    """Imports its library when the first page is asked for: that takes as long as a tenth of the start."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse((_DOCUMENTS / f"{name}.md").read_text("utf-8"))
    sections = []
    for heading, inline in pairwise(tokens):
        if heading.type == "heading_open":
            heading.attrSet("id", anchor(inline.content))
            if heading.tag == "h2":
                sections.append(f'<li><a href="#{anchor(inline.content)}">{escape(inline.content)}</a></li>')
    for token in tokens:
        if token.children:
            token.children = [*_with_served_links(token.children)]
    body: str = markdown.renderer.render(tokens, markdown.options, {})
    links = f"<ul>{''.join(sections)}</ul>"
    contents = f'</h1><details class="contents"><summary>Contents</summary>{links}</details>'
    return body.replace("</h1>", contents, 1)


def anchor(title: str) -> str:
    """The fragment by which web views of the repository know a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _with_served_links(tokens: "list[Token]") -> "Iterator[Token]":
    """Links between the pages lead to their addresses here. A link to a file that is not served is its text alone."""
    is_dropped = False
    for token in tokens:
        if token.type == "link_open":
            target = _served(token.attrs["href"])
            is_dropped = target is None
            if target is not None:
                token.attrSet("href", target)
        if not (is_dropped and token.type in ("link_open", "link_close")):
            yield token
        is_dropped = is_dropped and token.type != "link_close"


def _served(target: Any) -> str | None:
    path, hash_sign, fragment = str(target).partition("#")
    if "://" in path or not path:
        return str(target)
    name = path.removesuffix(".md")
    return f"/docs/{name}{hash_sign}{fragment}" if name in _TITLES else None
