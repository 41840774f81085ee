"""A character's portrait: putting it up, looking at it, taking it away, and who may."""

import asyncio
from typing import Any

import httpx
import pytest
from loguru import logger

from service.media.schemas import MAX_UPLOAD, SIZES
from service.media.storage import STORAGE, Directory
from tests.conftest import character, faults, public
from tests.support.pictures import draw_picture, give_portrait, opened

Client = httpx.AsyncClient

PNG = {"Content-Type": "image/png"}


async def put(member: Client, row: Any, content: bytes, **headers: str) -> httpx.Response:
    return await member.put(f"/v1/characters/{row['id']}/portrait", content=content, headers=PNG | headers)


async def get(member: Client, row: Any, size: str = "original", **headers: str) -> httpx.Response:
    return await member.get(f"/v1/characters/{row['id']}/portrait", params={"size": size}, headers=headers)


@pytest.mark.parametrize("kind", ["PNG", "AVIF"])
async def test_a_picture_becomes_the_portrait(alice: Client, kind: str) -> None:
    mira = await character(alice)
    answer = await put(alice, mira, draw_picture(kind, 120, 80), **{"Content-Type": "application/octet-stream"})
    assert answer.status_code == 200, answer.text
    portrait = answer.json()["portrait"]
    path, _, version = portrait["url"].partition("?v=")
    assert (path, len(version)) == (f"/v1/characters/{mira['id']}/portrait", 12)
    assert (portrait["width"], portrait["height"]) == (120, 80)
    red, green, blue = bytes.fromhex(portrait["color"].strip("#"))
    assert red > 180
    assert max(green, blue) < 60
    assert answer.json()["version"] == 2
    assert answer.headers["etag"] == f'"{mira["id"]}-2"'
    whole = await alice.get(f"/v1/characters/{mira['id']}")
    assert whole.json() == answer.json()
    assert (await alice.get("/v1/characters")).json()["items"][0]["portrait"] == portrait


async def test_a_portrait_is_served_in_every_size_and_never_enlarged(alice: Client) -> None:
    mira = await character(alice)
    await put(alice, mira, draw_picture("JPEG", 600, 300))
    bounds = {}
    for size in SIZES:
        answer = await get(alice, mira, size)
        assert answer.headers["content-type"] == "image/webp"
        assert int(answer.headers["content-length"]) == len(answer.content)
        picture = opened(answer.content)
        assert picture.format == "WEBP"
        bounds[size] = picture.size
    assert bounds == {"64": (64, 32), "256": (256, 128), "512": (512, 256), "1024": (600, 300), "original": (600, 300)}


async def test_a_portrait_without_a_size_is_the_original(alice: Client) -> None:
    mira = await character(alice)
    await put(alice, mira, draw_picture(width=100))
    plain = await alice.get(f"/v1/characters/{mira['id']}/portrait")
    assert plain.content == (await get(alice, mira, "original")).content
    refused = await get(alice, mira, "65")
    assert faults(refused) == {"size": "Must be one of: 64, 256, 512, 1024, original."}


async def test_a_redirect_to_a_picture_has_no_body(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    mira = await character(alice)
    await give_portrait(mira)
    monkeypatch.setattr(STORAGE, "gives_links", True)
    answer = await get(alice, mira, "64")
    assert (answer.status_code, answer.content, answer.headers.get("content-type")) == (307, b"", None)


async def test_a_text_in_a_form_is_skipped_whatever_its_encoding(alice: Client) -> None:
    path = f"/v1/characters/{(await character(alice))['id']}/portrait"
    headers = b'Content-Disposition: form-data; name="file"\r\nContent-Type: text/plain; charset=%s'
    for charset in (b"punycode", b"utf-7", b"none-such"):
        text = b"a" * 2_000_000  # as punycode, Python takes minutes
        content = b"--x\r\n" + headers % charset + b"\r\n\r\n" + text + b"\r\n--x--\r\n"
        answer = await alice.put(path, content=content, headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert (answer.status_code, faults(answer)) == (422, {"/file": "Must be one file."})


async def test_a_portrait_may_be_sent_as_a_form(alice: Client) -> None:
    mira = await character(alice)
    path = f"/v1/characters/{mira['id']}/portrait"
    assert (await alice.put(path, files={"file": ("../../me.png", draw_picture(width=44))})).json()["portrait"][
        "width"
    ] == 44
    wrong = await alice.put(path, files={"picture": ("me.png", draw_picture())})
    assert faults(wrong) == {"/picture": "Is not a known field.", "/file": "Must be one file."}
    two = await alice.put(path, files=[("file", ("a.png", draw_picture())), ("file", ("b.png", draw_picture()))])
    assert faults(two) == {"/file": "Must be one file."}
    form = '--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n{}\r\n--x--\r\n'
    for text in (form.format("text").encode(), form.format("\xff").encode("latin-1")):
        answer = await alice.put(path, content=text, headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert answer.status_code == 422, answer.text
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for broken in (b"", b"--x", b"--x\r\n\r\n", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc'):
        assert (await alice.put(path, content=broken, headers=headers)).status_code in (400, 422), broken
    without = await alice.put(path, content=b"", headers={"Content-Type": "multipart/form-data"})
    assert without.status_code == 400


async def test_the_type_of_a_picture_is_read_from_its_first_bytes(alice: Client) -> None:
    mira = await character(alice)
    for content in (
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', b"<html></html>", b"%PDF-1.7",
        b"BM" + bytes(60), b"II*\0" + bytes(60), b"\0\0\0\x18ftypmp42" + bytes(60),
    ):  # fmt: skip
        answer = await put(alice, mira, content)
        assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type"), content
    plain = await put(alice, mira, draw_picture(), **{"Content-Type": "text/html"})
    assert plain.status_code == 415
    assert (await alice.get(f"/v1/characters/{mira['id']}")).json() == mira


async def test_damaged_and_too_large_pictures_are_refused(alice: Client) -> None:
    mira = await character(alice)
    cut = await put(alice, mira, draw_picture(width=400, height=400)[:-40])
    assert (cut.status_code, cut.json()["detail"]) == (422, "The picture is damaged: it cannot be decoded completely.")
    large = await put(alice, mira, draw_picture() + bytes(MAX_UPLOAD))
    assert (large.status_code, large.json()["type"]) == (413, "/problems/too-large")
    assert "10 MiB" in large.json()["detail"]
    for content, status in ((draw_picture() + bytes(MAX_UPLOAD), 413), (b"<svg/>", 415), (draw_picture()[:-40], 422)):
        form = await alice.put(f"/v1/characters/{mira['id']}/portrait", files={"file": ("a", content)})
        assert (form.status_code, faults(form)) == (status, {"/file": form.json()["detail"]})
    exactly = await put(alice, mira, draw_picture() + bytes(MAX_UPLOAD - len(draw_picture())))
    assert exactly.status_code == 200
    assert (await alice.patch(f"/v1/characters/{mira['id']}", content=bytes(1024 * 1024 + 1))).status_code == 413


async def test_a_portrait_is_a_change_of_the_character(alice: Client) -> None:
    mira = await character(alice)
    red = await put(alice, mira, draw_picture(width=41), **{"If-Match": f'"{mira["id"]}-1"'})
    stale = await put(alice, mira, draw_picture(width=42), **{"If-Match": f'"{mira["id"]}-1"'})
    assert (red.status_code, stale.status_code) == (200, 412)
    again = await put(alice, mira, draw_picture(width=41))
    assert again.json() == red.json()  # the same picture is no change
    assert (await put(alice, mira, draw_picture(width=43))).json()["version"] == 3
    path = f"/v1/characters/{mira['id']}/revisions"
    assert [each["changed"] for each in (await alice.get(path)).json()["items"]] == [["portrait"], ["portrait"], []]
    widths = [(await alice.get(f"{path}/{number}")).json()["character"]["portrait"] for number in (1, 2, 3)]
    assert [portrait and portrait["width"] for portrait in widths] == [None, 41, 43]
    assert opened((await alice.get(widths[1]["url"])).content).size == (41, 30)
    changes = (await alice.get(f"{path}/3/changes")).json()["differences"]
    assert {"pointer": "/portrait/width", "before": 41, "after": 43} in changes
    assert (await alice.get(f"{path}/2/changes", params={"against": 2})).json()["differences"] == []
    await alice.patch(f"/v1/characters/{mira['id']}", json={"name": "Other"})
    assert (await alice.get(f"{path}/4/changes")).json()["differences"] == [
        {"pointer": "/name", "before": "Mira", "after": "Other"}
    ]
    restored = await alice.post(f"{path}/2/restorations")
    assert (restored.json()["portrait"]["width"], restored.json()["version"]) == (41, 5)
    feed = (await alice.get("/v1/changes")).json()["items"]
    assert feed[0]["character"]["portrait"] == restored.json()["portrait"]


async def test_a_copy_has_the_same_portrait(alice: Client, charlie: Client) -> None:
    mira = await public(alice)
    await put(alice, mira, draw_picture(width=41))
    copy = (await charlie.post(f"/v1/characters/{mira['id']}/copies", json={})).json()
    assert copy["portrait"]["width"] == 41
    await alice.delete(f"/v1/characters/{mira['id']}")
    assert (await get(charlie, copy)).status_code == 200


async def test_a_portrait_can_be_deleted(alice: Client) -> None:
    mira = await character(alice)
    path = f"/v1/characters/{mira['id']}/portrait"
    assert (await alice.delete(path)).status_code == 404
    await put(alice, mira, draw_picture())
    assert (await alice.delete(path, headers={"If-Match": f'"{mira["id"]}-1"'})).status_code == 412
    dry = await alice.delete(path, params={"dry_run": "true"})
    assert (dry.status_code, "etag" in dry.headers) == (204, False)
    deleted = await alice.delete(path)
    assert (deleted.status_code, deleted.headers["etag"]) == (204, f'"{mira["id"]}-3"')
    assert (await alice.get(f"/v1/characters/{mira['id']}")).headers["etag"] == deleted.headers["etag"]
    assert (await get(alice, mira)).status_code == 404
    assert (await alice.get(f"/v1/characters/{mira['id']}")).json()["portrait"] is None


async def test_a_portrait_in_the_trash_is_hidden_until_restored(alice: Client) -> None:
    mira = await character(alice)
    await put(alice, mira, draw_picture())
    await alice.delete(f"/v1/characters/{mira['id']}")
    assert (await get(alice, mira)).status_code == 404
    assert (await alice.get("/v1/trash")).json()["items"][0]["portrait"] is not None
    await alice.post(f"/v1/trash/{mira['id']}/restorations")
    assert (await get(alice, mira)).status_code == 200


async def test_a_private_portrait_is_shown_to_its_owner_only(alice: Client, charlie: Client, stranger: Client) -> None:
    mira = await character(alice)
    await put(alice, mira, draw_picture())
    assert {(await get(each, mira)).status_code for each in (charlie, stranger)} == {404}
    assert (await put(charlie, mira, draw_picture())).status_code == 404
    assert (await put(stranger, mira, draw_picture())).status_code == 401
    mine = await get(alice, mira)
    assert mine.headers["cache-control"] == "private, no-cache"
    assert mine.headers["vary"] == "Accept, Authorization, Accept-Encoding, Origin"


@pytest.mark.parametrize("visibility", ["private", "unlisted", "public"])
async def test_a_listed_thumbnail_is_shown_to_those_whose_list_has_it(
    alice: Client, charlie: Client, stranger: Client, visibility: str
) -> None:
    await put(alice, await character(alice, visibility=visibility), draw_picture(width=200))
    for member in (alice, charlie, stranger):
        for item in (await member.get("/v1/characters")).json()["items"]:
            thumbnail = await member.get(f"{item['portrait']['url']}&size=64")
            assert (thumbnail.status_code, thumbnail.headers["content-type"]) == (200, "image/webp")
    (mine,) = (await alice.get("/v1/characters?owner=me")).json()["items"]
    shown = (await stranger.get(f"{mine['portrait']['url']}&size=64")).status_code
    assert shown == (404 if visibility == "private" else 200)


async def test_the_url_changes_when_the_picture_does_and_only_then(alice: Client) -> None:
    mira = await public(alice)

    async def url(**change: Any) -> Any:
        assert (await alice.patch(f"/v1/characters/{mira['id']}", json=change)).status_code == 200
        return (await alice.get("/v1/characters")).json()["items"][0]["portrait"]["url"]

    await put(alice, mira, draw_picture(width=41))
    first = await url()
    await put(alice, mira, draw_picture(width=41))
    assert await url(name="Other", visibility="unlisted") == first
    await put(alice, mira, draw_picture(width=42))
    assert await url() != first
    await put(alice, mira, draw_picture(width=41))
    assert await url() == first


async def test_caches_keep_a_picture_only_at_the_url_of_its_version(alice: Client, stranger: Client) -> None:
    mira = await public(alice)
    first, second = [
        (await put(alice, mira, draw_picture(width=width))).json()["portrait"]["url"] for width in (41, 42)
    ]
    answers = [await stranger.get(url) for url in (first, second, second.partition("?")[0])]
    assert {opened(answer.content).size for answer in answers} == {(42, 30)}
    caching = [answer.headers["cache-control"] for answer in answers]
    assert caching == ["public, no-cache", "public, max-age=86400", "public, no-cache"]
    small = await stranger.get(f"{second}&size=64")
    assert (small.status_code, small.headers["cache-control"]) == (200, "public, max-age=86400")
    wrong = await stranger.get(f"{second}?size=64")
    assert faults(wrong) == {"v": "Must be 12 hexadecimal digits."}


async def test_a_public_portrait_is_cached_for_a_day(alice: Client, charlie: Client, stranger: Client) -> None:
    mira = await public(alice)
    url = (await put(alice, mira, draw_picture())).json()["portrait"]["url"]
    answer = await stranger.get(f"{url}&size=64")
    assert answer.headers["cache-control"] == "public, max-age=86400"
    assert answer.headers["vary"] == "Accept, Accept-Encoding, Origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers.get_list("cross-origin-resource-policy") == ["cross-origin"]
    again = await stranger.get(f"{url}&size=64", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await get(stranger, mira, "256", **{"If-None-Match": answer.headers["etag"]})
    assert other.status_code == 200
    assert (await put(charlie, mira, draw_picture())).status_code == 403


async def test_an_unlisted_portrait_is_not_cached_by_shared_caches(alice: Client, stranger: Client) -> None:
    mira = await character(alice, visibility="unlisted")
    url = (await put(alice, mira, draw_picture())).json()["portrait"]["url"]
    answer = await stranger.get(f"{url}&size=64")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-cache")


async def test_links_to_a_private_portrait_work_for_a_limited_time(alice: Client, stranger: Client) -> None:
    mira = await character(alice)
    await put(alice, mira, draw_picture(width=100))
    told = await get(alice, mira, Accept="application/json")
    assert told.headers["cache-control"] == "no-store"
    links = told.json()["links"]
    assert list(links) == list(SIZES)
    picture = await stranger.get(links["64"])
    assert opened(picture.content).size == (64, 19)
    assert picture.headers["cache-control"].startswith("private, max-age=")
    assert 590 < int(picture.headers["cache-control"].partition("=")[2]) <= 600
    path, _, query = links["64"].partition("?")
    expires, signature = (part.partition("=")[2] for part in query.split("&"))
    for forged in (
        f"{path}?expires={int(expires) + 1}&signature={signature}",
        f"{path}?expires={expires}&signature={signature[::-1]}",
        f"{path}?expires={expires}",
        f"{path}?expires=²&signature={signature}",
        f"{path}?expires={expires}&signature=é",
        path.replace("-64", "-256") + f"?{query}",
        f"/media/..%2F..%2Fpostgres%2FPG_VERSION?{query}",
        path,
    ):
        assert (await stranger.get(forged)).status_code == 404, forged


async def test_a_link_expires(alice: Client, stranger: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    mira = await character(alice)
    await put(alice, mira, draw_picture())
    monkeypatch.setattr("service.media.transfer.LINK_SECONDS", 2)
    link = (await get(alice, mira, Accept="application/json")).json()["links"]["64"]
    assert (await stranger.get(link)).status_code == 200
    await asyncio.sleep(2.1)
    assert (await stranger.get(link)).status_code == 404


async def test_a_browser_that_accepts_anything_gets_the_picture(alice: Client) -> None:
    mira = await character(alice)
    await put(alice, mira, draw_picture())
    browsers = ("*/*", "image/avif,image/webp,*/*;q=0.8", "text/html,application/xhtml+xml,*/*;q=0.8", "image/png")
    for accept in (*browsers, "application/json, text/plain, */*"):  # the last one is that of axios
        assert (await get(alice, mira, Accept=accept)).headers["content-type"] == "image/webp", accept


async def test_a_dry_run_checks_the_picture_and_stores_nothing(alice: Client) -> None:
    mira = await character(alice)
    path = f"/v1/characters/{mira['id']}/portrait?dry_run=true"
    for body in (
        {"content": draw_picture(width=77), "headers": PNG},
        {"files": {"file": ("a.png", draw_picture(width=77))}},
    ):
        dry = await alice.put(path, **body)
        assert dry.json()["portrait"]["width"] == 77, dry.text
    assert (await alice.put(path, content=b"GIF89a", headers=PNG)).status_code == 422
    assert (await alice.get(f"/v1/characters/{mira['id']}")).json() == mira


async def test_a_lost_file_is_not_found(alice: Client, stranger: Client) -> None:
    """By each URL of the picture, and in a card; a line in the log names the file and who asked."""
    mira = await character(alice)
    url = (await put(alice, mira, draw_picture())).json()["portrait"]["url"]
    path = f"/v1/characters/{mira['id']}/portrait"
    link = (await alice.get(path, headers={"Accept": "application/json"})).json()["links"]["original"]
    again = (await put(alice, mira, draw_picture(width=41))).json()["portrait"]["url"]
    past = (await alice.get(f"/v1/characters/{mira['id']}/revisions/2")).json()["character"]["portrait"]["url"]
    assert isinstance(STORAGE, Directory)
    for version in (each.partition("?v=")[2] for each in (url, again)):
        for file in STORAGE.root.rglob(f"{version}*.webp"):
            file.unlink()
    lines: list[Any] = []
    sink = logger.add(lines.append, level="WARNING")
    try:
        answers = [
            await member.get(each) for member, each in ((alice, url), (alice, path), (stranger, link), (stranger, past))
        ] + [await alice.get(f"/v1/characters/{mira['id']}/card", params={"format": each}) for each in ("png", "charx")]
    finally:
        logger.remove(sink)
    lost = "The file is lost: the storage of the server does not have it."
    assert [(answer.status_code, answer.json()["detail"]) for answer in answers] == [(404, lost)] * len(answers)
    texts = [line.record["message"] for line in lines]
    assert len(texts) == 3, "one for each file"
    assert all(text.startswith("The storage has no file ") for text in texts)
    assert mira["id"] in texts[0]
    assert all(line.record["exception"] is None for line in lines)
    assert (await put(alice, mira, draw_picture())).status_code == 200, "an upload stores it again"
    assert (await alice.get(path)).status_code == 200
