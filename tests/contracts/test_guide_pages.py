"""The pages of docs/ that the service shows: complete, with links that work there and in the repository."""

import re
from html.parser import HTMLParser

import httpx
import pytest

from service.web import guide_pages
from tests.contracts.test_docs import anchors
from tests.support.servers import ROOT

PAGES = ["guide", "api"]


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.tags.append(tag)
        if href := given.get("href"):
            self.links.append(href)
        if identifier := given.get("id"):
            self.ids.add(identifier)


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_shows_its_document(stranger: httpx.AsyncClient, name: str) -> None:
    answer = await stranger.get(f"/docs/{name}")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "public, max-age=60"
    page, document = _Page(answer.text), (ROOT / f"docs/{name}.md").read_text()
    assert page.ids == anchors(document), "the anchors are those of the repository's web view"
    rows = re.findall(r"^\|(?! ---)", re.sub(r"```.*?```", "", document, flags=re.DOTALL), re.MULTILINE)
    assert page.tags.count("tr") == len(rows)
    assert page.tags.count("pre") == len(re.findall("^```.+", document, re.MULTILINE))
    assert not {"script", "img", "iframe", "style"} & {*page.tags[page.tags.index("body") :]}


@pytest.mark.parametrize("path", ["/docs/guide", "/docs/api", "/problems/", "/problems/conflict"])
async def test_links_of_pages_lead_somewhere(stranger: httpx.AsyncClient, path: str) -> None:
    page = _Page((await stranger.get(path)).text)
    for link in page.links:
        if link.startswith("data:"):
            continue
        target, _, fragment = link.partition("#")
        assert "://" not in target, "a page links to no other host"
        answer = await stranger.get(target or path)
        assert answer.status_code == 200, link
        assert not fragment or fragment in _Page(answer.text).ids, link


async def test_the_pages_are_found_from_the_operations(stranger: httpx.AsyncClient) -> None:
    description = (await stranger.get("/openapi.json")).json()["info"]["description"]
    links = [link for link in re.findall(r"\]\(([^)]+)\)", description) if not link.startswith("#")]
    assert {"/docs/guide", "/docs/api", "/problems/"} <= {*links}
    assert "/docs/guide#cards" in links, "the table of containers and dialects"
    for link in links:
        answer = await stranger.get(link)
        assert answer.status_code == 200, link
        assert link.partition("#")[2] in {"", *_Page(answer.text).ids}, link


async def test_links_of_the_guide_to_operations_name_one_that_exists(stranger: httpx.AsyncClient) -> None:
    document = (await stranger.get("/openapi.json")).json()
    known = {
        f"#/{tag.replace(' ', '%20')}/{operation['operationId']}"
        for operations in document["paths"].values()
        for operation in operations.values()
        if isinstance(operation, dict)
        for tag in operation["tags"]
    }
    assert {*re.findall(r"\]\((#[^)]+)\)", document["info"]["description"])} <= known


@pytest.mark.parametrize("path", ["/docs", *(f"/docs/{name}" for name in PAGES), "/problems/", "/problems/conflict"])
async def test_every_page_leads_to_the_others(stranger: httpx.AsyncClient, path: str) -> None:
    """The navigation is the same everywhere, and marks the page that is shown."""
    found = re.search('<nav class="pages".*?</nav>', (await stranger.get(path)).text)
    assert found is not None
    links = _Page(found[0]).links
    assert links == ["/docs", "/docs/guide", "/docs/api", "/problems/"]
    (current,) = re.findall('href="([^"]+)" aria-current="page"', found[0])
    assert current == (path if path in links else "/problems/")


@pytest.mark.parametrize("name", PAGES)
async def test_the_contents_of_a_page_can_be_folded(stranger: httpx.AsyncClient, name: str) -> None:
    text = (await stranger.get(f"/docs/{name}")).text
    found = re.search('<details class="contents">.*?</details>', text)
    assert found is not None
    sections = re.findall('<h2 id="(.*?)">', text)
    assert _Page(found[0]).links == [f"#{section}" for section in sections]


async def test_a_link_to_another_file_is_its_text(stranger: httpx.AsyncClient) -> None:
    text = (await stranger.get("/docs/api")).text
    assert "tour of the README" in text
    assert "README.md" not in text


@pytest.mark.parametrize("name", ["nothing", "decisions", "guide.md", "..%2fREADME"])
async def test_other_files_are_not_shown(stranger: httpx.AsyncClient, name: str) -> None:
    assert (await stranger.get(f"/docs/{name}")).status_code == 404


async def test_an_installation_without_the_documents_has_no_pages(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide_pages._rendered.cache_clear()
    monkeypatch.setattr(guide_pages, "_DOCUMENTS", ROOT / "none")
    assert (await stranger.get("/docs/guide")).status_code == 404
