"""The admin site: Piccolo Admin, built once, on import.

Tables are read-only. Each action of an operator is a form, which calls the same queries as the API. ``piccolo service
operator`` manages the operators.
"""

from fnmatch import fnmatchcase
from typing import Any

from piccolo_admin.endpoints import create_admin
from piccolo_admin.translations.data import ENGLISH
from piccolo_api.rate_limiting.middleware import InMemoryLimitProvider

from service.admin import card_forms as cards
from service.admin import character_forms as characters
from service.admin import housekeeping_forms as housekeeping
from service.admin import member_forms as members
from service.admin import relationship_forms as relationships
from service.admin import template_forms as templates
from service.admin import template_version_forms as versions
from service.admin.additions import add_script, read_static
from service.admin.details_page import add_details
from service.admin.home import add_home
from service.admin.large_lists import EXACT_OF_TABLES, bound_lists
from service.admin.lists import LINKS, TABLES, refuse_bad_values
from service.admin.mount import MOST_REFUSED
from service.admin.offered_forms import offer_forms_of_role
from service.admin.operators import MAX_AGE, SET_UP_HEADER, Operator, OperatorSession
from service.admin.pictures import add_pictures
from service.admin.second_factor_page import Provider, add_second_factor_page
from service.settings import settings
from service.web.csp import application_policy

_WITHOUT_SECOND_FACTORS = 'li:has(> a[href$="/mfa-setup/"]) { display: none !important }\n'
_STYLE = read_static("site.css") + ("" if settings.second_factor_key else _WITHOUT_SECOND_FACTORS)
# Hashes of the styles that the script of Piccolo Admin 1.14 adds; tests/slow/test_browser.py finds a new version's
_STYLE_HASHES = (
    "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    "U2kEcnngcrfdto6sFJKrtW80odoJ5yOgdz80DpMDrWA=",
    "36E+CbvABov6CENfak/CBFxx0LsZtt+fKdRCtVFGtkw=",
    "t4I2teZN5ZH+VM+XOiWlaPbsjQHe+k9d6viXPpKpNWA=",
)
POLICY = application_policy(style=_STYLE, styles=_STYLE_HASHES).encode()


class AllowedHosts(tuple[str, ...]):
    """The hosts of the settings for the site's CSRF check: ``*.example.org`` contains every subdomain."""

    def __contains__(self, host: object) -> bool:
        return any(host == name or fnmatchcase(str(host), name) for name in self)


_FORMS = (
    *members.FORMS, *characters.FORMS, *cards.FORMS, relationships.ADD, *relationships.FORMS, *templates.FORMS,
    *versions.FORMS, *housekeeping.FORMS,
)  # fmt: skip

# By table: the forms about one of its rows, and their field for its id
_FORMS_OF_ROWS = {
    "users": ("member", [*members.FORMS, *cards.FORMS]),
    "characters": ("character", [*characters.FORMS, relationships.ADD]),
    "relationships": ("relationship", relationships.FORMS),
    "templates": ("template", [*templates.FORMS[1:], versions.FORMS[0]]),
    "template_versions": ("template", versions.FORMS),
}
_NAME = "Character service"
_provider = Provider(_NAME) if settings.second_factor_key else None
site: Any = create_admin(
    TABLES,
    list(_FORMS),
    auth_table=Operator,
    session_expiry=MAX_AGE,  # of the cookie; OperatorSession decides when the session ends
    session_table=OperatorSession,  # type: ignore[arg-type] # it has the methods that are called
    site_name=_NAME,
    sidebar_links=LINKS,
    mfa_providers=[_provider] if _provider else None,
    production=settings.in_production,
    allowed_hosts=AllowedHosts(settings.allowed_hosts),
    auto_include_related=False,
    default_language_code="en",
    translations=[ENGLISH.model_copy(update={"translations": ENGLISH.translations | {"Edit": "View"}})],
    rate_limit_provider=InMemoryLimitProvider(timespan=300, limit=MOST_REFUSED, block_duration=300),  # per worker
)
_IN_HEAD = f'<link rel="icon" href="data:,"><style>{_STYLE}</style>'
site.template = site.template.replace("</head>", f"{_IN_HEAD}</head>")
add_script(site, "answers.js", first=True, SET_UP_HEADER=SET_UP_HEADER)
add_script(
    site,
    "pages.js",
    FORMS={
        table: [{"slug": form.slug, "name": form.name, "key": key} for form in forms]
        for table, (key, forms) in _FORMS_OF_ROWS.items()
    },
)
add_pictures(site)
add_home(site)
add_details(site)
bound_lists(site, TABLES)
refuse_bad_values(site)
offer_forms_of_role(site)
add_script(site, "sign-in.js")
add_script(site, "lists.js", EXACT=EXACT_OF_TABLES)
add_script(site, "titles.js", SITE=_NAME, LINKS=LINKS)
if _provider is not None:
    add_second_factor_page(site, _provider)
