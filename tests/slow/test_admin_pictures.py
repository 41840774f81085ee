"""The pictures of docs/admin.md: each page is shown without a fault, wide and narrow, light and dark.

``UPDATE_SNAPSHOT=1`` writes the pictures. Look at each of them afterwards.
"""

import os

import pytest
from PIL import Image, ImageDraw

from tests.slow import test_browser as pages
from tests.slow.test_browser import OPERATOR, ROOT, SCREENSHOTS, Browser, sign_in, signed_up, wait_until
from tests.support.pictures import saved

programs, url, browser = pages.programs, pages.url, pages.browser

pytestmark = pytest.mark.slow

PICTURES = ROOT / "docs" / "images"
DOCUMENT = ROOT / "docs" / "admin.md"
SIZES = {1280: 900, 390: 844}
COLOURS = ("light", "dark")
PAGES = ("home", "list", "row", "form", "revision")
NAMES = {f"admin-{page}-{width}-{colours}.png" for page in PAGES for width in SIZES for colours in COLOURS}


@pytest.fixture(scope="module")
def mira(url: str) -> str:
    """The id of the character that the pictures show."""
    with signed_up(url, "petra") as petra:
        given = {
            "name": "Mira Halloran",
            "description": "A harbour pilot who talks to the fog.",
            "tags": ["harbour", "fog"],
            "visibility": "public",
            "attributes": {"strength": 3, "home": {"town": "Saltmere", "street": "Quay 4"}},
        }
        mira, odo, tam = (
            petra.post("/characters", json=given | {"name": name}).json()["id"]
            for name in ("Mira Halloran", "Odo Brack", "Tam Orre")
        )
        png = {"Content-Type": "image/png"}
        assert petra.put(f"/characters/{mira}/portrait", content=portrait(), headers=png).status_code == 200
        for source, target, kind in ((mira, odo, "friend_of"), (tam, mira, "mentor_of")):
            tie = {"target": target, "type": kind}
            assert petra.post(f"/characters/{source}/relationships", json=tie).status_code == 201
        change = {
            "description": "A harbour pilot who talks to the fog. Lately it answers.",
            "tags": ["harbour", "fog", "night"],
            "attributes": {"strength": 5, "home": {"street": "Fog Lane 1"}},
        }
        assert petra.patch(f"/characters/{mira}", json=change).status_code == 200
        assert petra.delete(f"/characters/{tam}").status_code == 204
    return str(mira)


def portrait() -> bytes:
    """A sea at night, with a moon."""
    picture = Image.new("RGB", (512, 512), "#1d3557")
    drawing = ImageDraw.Draw(picture)
    drawing.ellipse((300, 60, 420, 180), fill="#f1faee")
    drawing.rectangle((0, 340, 512, 512), fill="#457b9d")
    drawing.polygon([(120, 400), (280, 400), (250, 450), (150, 450)], fill="#e63946")
    drawing.polygon([(200, 220), (200, 390), (300, 390)], fill="#f1faee")
    return saved(picture, "PNG")


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("colours", COLOURS)
def test_pages_are_shown_as_in_the_documentation(browser: Browser, mira: str, width: int, colours: str) -> None:
    sign_in(browser, OPERATOR)
    if colours == "dark":
        browser.driver.find_element("id", "user").click()
        browser.driver.find_element("link text", "Dark Mode").click()
        browser.wait_for(".dark_mode")
    size = {"width": width, "height": SIZES[width], "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    browser.open("/admin/#/")
    browser.driver.refresh()
    browser.wait_for(".welcome [data-shown]")
    keep(browser, f"admin-home-{width}-{colours}")

    browser.open("/admin/#/characters/")
    wait_until(lambda: "in the trash" in [each.get_attribute("data-state") for each in browser.all("td a[data-state]")])
    wait_until(lambda: browser.driver.execute_script(LOADED))
    keep(browser, f"admin-list-{width}-{colours}")

    browser.open(f"/admin/#/characters/{mira}/")
    browser.wait_for("[data-details] td a[data-state]")
    wait_until(lambda: browser.driver.execute_script(LOADED))
    keep(browser, f"admin-row-{width}-{colours}")

    browser.wait_for("[data-details] a[href*='/revisions/']").click()
    browser.wait_for("[data-details] td")
    wait_until(lambda: "attributes / home / street" in browser.texts("[data-details] td"))
    keep(browser, f"admin-revision-{width}-{colours}")

    browser.open("/admin/#/audit_log/")
    wait_until(lambda: {"petra", "Tam Orre"} <= {*browser.texts("td[data-named] a")})
    keep(browser, f"admin-audit-{width}-{colours}")

    browser.open(f"/admin/#/forms/edit-a-character/?table=characters&row={mira}")
    wait_until(lambda: browser.wait_for("form [name=version]").get_property("value") == "3")
    for field, text in {"description": "A harbour pilot, retired", "reason": "Its owner asked for it."}.items():
        entered = browser.wait_for(f"form [name={field}]")
        entered.clear()
        entered.send_keys(text)
    browser.wait_for("[data-uitest=submit_custom_form_button]").click()
    browser.wait_for(".errors [data-question]")
    keep(browser, f"admin-form-{width}-{colours}", but="422")


LOADED = "return [...document.querySelectorAll('img')].every(each => each.complete)"


def keep(browser: Browser, name: str, but: str | None = None) -> None:
    browser.look(name)
    assert browser.complaints(but) == []
    assert browser.driver.execute_script("return document.documentElement.scrollWidth <= innerWidth"), name
    if os.environ.get("UPDATE_SNAPSHOT") and f"{name}.png" in NAMES:
        with Image.open(SCREENSHOTS / f"{name}.png") as picture:
            few = picture.convert("RGB").quantize(64, dither=Image.Dither.NONE)
            few.save(PICTURES / f"{name}.png", optimize=True)


def test_the_documentation_shows_each_picture() -> None:
    assert {each.name for each in PICTURES.glob("admin-*.png")} == NAMES
    document = DOCUMENT.read_text("utf-8")
    assert [name for name in NAMES if f"images/{name}" not in document] == []
    assert sum(each.stat().st_size for each in PICTURES.glob("admin-*.png")) < 600_000
