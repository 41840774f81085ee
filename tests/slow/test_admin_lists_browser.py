"""Lists and pages of rows of the admin site in a real browser: their titles, filters and refusals."""

from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest

from tests.slow import test_browser as pages
from tests.slow.test_admin_forms_browser import enter
from tests.slow.test_browser import Browser, SignUp, signed_up, wait_until

pytestmark = pytest.mark.slow

programs, url, browser, operator, sign_up = pages.programs, pages.url, pages.browser, pages.operator, pages.sign_up

NOBODY = "00000000-0000-4000-8000-000000000000"
TRASH = "/admin/#/characters/?deleted_at__operator=not_null&ended=false"


@pytest.fixture(scope="module")
def trashed(url: str) -> str:
    """The id of a character in the trash, whose name no other character has."""
    with signed_up(url, "petra") as petra:
        for name in ("Tam Orre", "Odo Brack"):
            character = petra.post("/characters", json={"name": name}).json()["id"]
            assert petra.delete(f"/characters/{character}").status_code == 204
        petra.post("/characters", json={"name": "Tam Orrestad"}).raise_for_status()
    return str(character)


def headings(browser: Browser) -> list[str]:
    return [text for text in browser.texts("h1") if text != "Character service"]


@pytest.mark.parametrize(
    ("address", "heading", "title"),
    [
        ("/", "", "Character service"),
        ("/characters/", "Characters", "Characters – Character service"),
        (
            "/templates/?owner__operator=is_null",
            "Templates\nThe platform's templates",
            "The platform's templates – Templates – Character service",
        ),
        ("/users/?status=active", "Users\nstatus: active", "status: active – Users – Character service"),
        (
            "/users/?id=019b2f5e-8d3c-7a61-b0c4-2f9e6d1a7b35&id__operator=gte&deleted_at__operator=is_null",
            "Users\ncreated since 2025-12-18 02:51 UTC, deleted_at is empty",
            "created since 2025-12-18 02:51 UTC, deleted_at is empty – Users – Character service",
        ),
        ("/characters/{}/", "View Characters\nOdo Brack", "Odo Brack – View characters – Character service"),
        (f"/revisions/{NOBODY}/", "Revisions", "Revisions – Character service"),
        ("/forms/suspend-a-member/", "Suspend A Member", "Suspend a member – Character service"),
    ],
)
def test_pages_have_titles(operator: Browser, trashed: str, address: str, heading: str, title: str) -> None:
    operator.open(f"/admin/#{address.format(trashed)}")
    wait_until(lambda: operator.driver.title == title)
    if heading:
        wait_until(lambda: heading in headings(operator))


def test_the_title_of_a_row_has_its_state(operator: Browser, trashed: str) -> None:
    operator.open(f"/admin/#/characters/{trashed}/")
    assert operator.wait_for("h1 > [data-state]").get_attribute("data-state") == "in the trash"
    operator.look("admin-row-title")
    assert operator.complaints() == []


def test_a_filter_keeps_what_the_link_asks_for(operator: Browser, trashed: str) -> None:
    operator.open(TRASH)
    wait_until(lambda: {"Tam Orre", "Odo Brack"} <= set(operator.texts("tbody td:nth-child(2)")))
    operator.wait_for("[data-uitest=filter_button]").click()
    assert value_of(operator, "deleted_at__operator") == "not_null"
    assert operator.texts(".filter_wrapper [data-others]") == ["Also: ended: false"]
    operator.wait_for(".filter_wrapper input[name=name]").send_keys("Tam Orre")
    operator.wait_for("[data-uitest=submit_filter_button]").click()
    wait_until(lambda: [text.strip() for text in operator.texts("tbody td:nth-child(2)")] == ["Tam Orre"])
    operator.look("admin-filtered-trash")

    wait_until(lambda: operator.all("#message_popup") == [])  # it covers the button
    (clear,) = operator.all(".filter_wrapper > button")
    clear.click()
    wait_until(lambda: urlsplit(operator.driver.current_url).fragment == "/characters/")
    wait_until(lambda: "Tam Orrestad" in operator.texts("tbody td:nth-child(2)"))
    assert "Characters" in headings(operator)
    assert (value_of(operator, "deleted_at__operator"), value_of(operator, "name")) == ("e", "")
    assert operator.all(".filter_wrapper [data-others]") == []
    assert operator.complaints() == []


def test_applied_filters_stay_in_the_address(operator: Browser, trashed: str) -> None:
    """For the way back from a row, for a reload and for another operator."""
    operator.open(TRASH)
    operator.wait_for("[data-uitest=filter_button]").click()
    operator.wait_for(".filter_wrapper input[name=name]").send_keys("Tam Orre")
    operator.wait_for("[data-uitest=submit_filter_button]").click()
    asked = {"deleted_at__operator": "not_null", "ended": "false", "name": "Tam Orre"}
    wait_until(lambda: dict(parse_qsl(urlsplit(operator.driver.current_url).fragment.partition("?")[2])) == asked)
    wait_until(lambda: shown(operator) == ["Tam Orre"])

    operator.wait_for("tbody td:nth-child(2) a").click()
    wait_until(lambda: "View Characters\nTam Orre" in headings(operator))
    operator.driver.back()
    wait_until(lambda: shown(operator) == ["Tam Orre"])
    operator.driver.refresh()
    wait_until(lambda: shown(operator) == ["Tam Orre"])
    operator.wait_for("[data-uitest=filter_button]").click()
    wait_until(lambda: value_of(operator, "name") == "Tam Orre")
    assert operator.texts(".filter_wrapper [data-others]") == ["Also: ended: false"]
    assert operator.complaints() == []


def shown(browser: Browser) -> list[str]:
    """The names of a list of characters."""
    return [text.strip() for text in browser.texts("tbody td:nth-child(2)")]


def test_a_refused_filter_is_not_applied(operator: Browser) -> None:
    operator.open("/admin/#/audit_log/")
    operator.wait_for("tbody tr")
    operator.wait_for("[data-uitest=filter_button]").click()
    operator.wait_for(".filter_wrapper input[name=row]").send_keys("nonsense")
    operator.wait_for("[data-uitest=submit_filter_button]").click()
    operator.wait_for("[data-note=refused]")
    assert operator.all("#message_popup:not(.error, .neutral)") == []
    assert urlsplit(operator.driver.current_url).fragment == "/audit_log/"


def value_of(browser: Browser, field: str) -> str:
    """Of a field of the filters."""
    return str(browser.driver.find_element("css selector", f".filter_wrapper [name={field}]").get_property("value"))


def asked(browser: Browser, table: str) -> dict[str, str]:
    """What the list is asked for once the filters are applied, without how texts and times are compared."""
    browser.driver.get_log("performance")
    browser.wait_for("[data-uitest=submit_filter_button]").click()
    sent: list[str] = []
    wait_until(lambda: sent.extend(each for each in browser._requests() if f"/{table}/count/" in each) or sent)
    wait_until(lambda: browser.all("#message_popup") == [])
    compared = ("contains", "e")
    return {name: each for name, each in parse_qsl(urlsplit(sent[0]).query) if each not in compared}


@pytest.mark.parametrize(
    ("table", "query", "fields", "others"),
    [
        ("users", {"status": "active", "deleted_at__operator": "is_null"}, {"status", "deleted_at__operator"}, []),
        ("characters", {"owner": "{owner}", "visibility": "public"}, {"owner", "visibility"}, []),
        ("audit_log", {"row": NOBODY, "row__match": "exact"}, {"row"}, []),
        ("audit_log", {"operator__operator": "not_null"}, set(), ["Also: operator: is set"]),
        ("users", {"id": NOBODY, "id__operator": "gte"}, set(), [f"Also: id: {NOBODY}, id: gte"]),
    ],
)
def test_the_filters_show_what_the_link_asks_for(
    operator: Browser, trashed: str, table: str, query: dict[str, str], fields: set[str], others: list[str]
) -> None:
    """Applied as they are, they ask for the same."""
    owner = httpx.get(f"{operator.url}/v1/users/petra").json()["id"]
    query = {name: each.format(owner=owner) for name, each in query.items()}
    operator.open(f"/admin/#/{table}/?{urlencode(query)}")
    operator.wait_for("[data-uitest=filter_button]").click()
    operator.wait_for(".filter_wrapper form")
    wait_until(lambda: all(value_of(operator, field) == query[field] for field in fields))
    assert operator.texts(".filter_wrapper [data-others]") == others
    if "owner" in fields:
        wait_until(lambda: operator.wait_for(".key_search input[type=text]").get_property("value") == "petra")
    assert asked(operator, table) == query

    operator.wait_for("#sidebar-close").click()
    wait_until(lambda: operator.all(".filter_wrapper") == [])
    operator.wait_for("[data-uitest=filter_button]").click()
    wait_until(lambda: all(value_of(operator, field) == query[field] for field in fields))
    assert operator.complaints() == []


def test_the_filters_fill_the_screen_of_a_phone(operator: Browser, trashed: str) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    operator.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    operator.open(TRASH)
    mark = "return getComputedStyle(document.querySelector('td a[data-state]'), '::after')"
    operator.wait_for("td a[data-state]")
    assert operator.driver.execute_script(f"{mark}.marginLeft") == "0px"
    operator.wait_for("[data-uitest=filter_button]").click()
    operator.wait_for(".filter_wrapper form")
    assert operator.all(".left_column") == []
    assert operator.driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    operator.look("admin-filters-390")


def test_a_choice_replaces_what_the_link_asks_for(operator: Browser) -> None:
    operator.open("/admin/#/characters/?visibility=private&ended=false")
    operator.wait_for("[data-uitest=filter_button]").click()
    choice = operator.wait_for(".filter_wrapper select[name=visibility]")
    choice.find_element("css selector", "option[value=public]").click()
    operator.driver.get_log("performance")
    operator.wait_for("[data-uitest=submit_filter_button]").click()
    sent: list[str] = []
    wait_until(lambda: sent.extend(each for each in operator._requests() if "/characters/count/" in each) or sent)
    asked = dict(parse_qsl(urlsplit(sent[0]).query))
    assert (asked["visibility"], asked["ended"]) == ("public", "false")


def test_a_refused_list_says_why(operator: Browser) -> None:
    operator.open("/admin/#/characters/?owner=nonsense")
    assert operator.wait_for("[data-note]").text == "The filter by owner is 'nonsense', but must be an id."
    assert "Characters\nowner: nonsense" in headings(operator)
    assert operator.all(".table_wrapper") == []  # it may show the rows of the list before
    operator.look("admin-refused-list")
    operator.open("/admin/#/characters/")
    operator.wait_for("tbody tr")
    assert operator.all("[data-note]") == []


def test_columns_that_must_be_equal_offer_no_part(operator: Browser) -> None:
    operator.open("/admin/#/audit_log/")
    operator.wait_for("[data-uitest=filter_button]").click()
    operator.wait_for(".filter_wrapper [name=operator]")
    assert operator.all(".filter_wrapper select[name=operator__match], .filter_wrapper select[name=row__match]") == []
    operator.open("/admin/#/users/")
    wait_until(lambda: "Users" in headings(operator))
    operator.wait_for(".filter_wrapper select[name=username__match]")


def test_the_heading_of_a_linked_list_has_the_name_of_the_row(operator: Browser, trashed: str) -> None:
    owner = httpx.get(f"{operator.url}/v1/users/petra").json()["id"]
    operator.open(f"/admin/#/characters/?owner={owner}")
    wait_until(lambda: "Characters\nowner: petra" in headings(operator))
    assert operator.complaints() == []


def test_the_page_of_a_missing_row_leads_to_its_list(operator: Browser) -> None:
    operator.open(f"/admin/#/characters/{NOBODY}/")
    assert operator.wait_for("[data-note]").text == "This row does not exist any more."
    assert urlsplit(operator.driver.current_url).fragment == "/characters/"
    operator.wait_for("tbody tr")
    operator.open("/admin/#/users/")
    wait_until(lambda: "Users" in headings(operator))
    wait_until(lambda: operator.all("[data-note]") == [])


def test_a_form_asks_again_after_a_fault(operator: Browser, trashed: str) -> None:
    operator.open("/admin/#/forms/suspend-a-member/")
    operator.wait_for("form textarea[name=reason]").send_keys("A test of the question.")
    operator.wait_for("form [name=member]").send_keys("nobody_of_this_name")
    enter(operator, "confirm", "true")
    operator.wait_for("[data-uitest=submit_custom_form_button]").click()
    wait_until(lambda: any("There is no such member." in text for text in operator.texts(".errors li")))
    field = operator.wait_for("form [name=member]")
    field.clear()
    field.send_keys("petra")
    operator.wait_for("[data-uitest=submit_custom_form_button]").click()
    wait_until(lambda: any("Choose True to confirm." in text for text in operator.texts(".errors li")))
    assert httpx.get(f"{operator.url}/v1/users/petra").status_code == 200, "nothing is done"
    enter(operator, "confirm", "true")
    assert operator.wait_for("form [name=confirm]").get_property("value") == "true"


def test_the_answer_of_a_form_links_to_the_row(operator: Browser, sign_up: SignUp) -> None:
    member = sign_up("member_of_answer")
    character = member.post("/characters", json={"name": "Mira", "visibility": "public"}).json()["id"]
    operator.open(f"/admin/#/forms/hide-a-character/?table=characters&row={character}")
    wait_until(lambda: operator.wait_for("form [name=character]").get_property("value") == character)
    operator.wait_for("form [name=reason]").send_keys("A test of the link.")
    enter(operator, "confirm", "true")
    operator.wait_for("[data-uitest=submit_custom_form_button]").click()
    operator.wait_for("#success_message a").click()
    wait_until(lambda: "View Characters\nMira" in headings(operator))
    assert urlsplit(operator.driver.current_url).fragment == f"/characters/{character}/"
    assert operator.complaints() == []
