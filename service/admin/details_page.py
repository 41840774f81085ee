"""Shows the details of rows on their pages, and the names and states of rows in lists, by a script."""

from typing import Any

from starlette.routing import Route

from service.admin.additions import add_script, api_of
from service.admin.details import get_details
from service.admin.large_lists import MOST_COUNTED
from service.admin.names import get_names


def add_details(site: Any) -> None:
    """Adds the script, and two routes for what it shows below /api, which needs an operator's session."""
    api_of(site).router.routes[:0] = [
        Route("/details/{table}/{row}", get_details),
        Route("/names", get_names),
    ]
    add_script(site, "details.js", MOST_COUNTED=MOST_COUNTED)
