"""Shows the details of rows on their pages, and the names and states of rows in lists, by a script."""

from typing import Any

from starlette.routing import Route

from service.admin.additions import add_script, api_of, read_script
from service.admin.details import get_details
from service.admin.large_lists import MOST_COUNTED
from service.admin.names import get_names

SCRIPT = '<script type="module" src="./details.js"></script>'
STYLE = """
a[data-state]::after {
  content: attr(data-state); margin-left: .5em; padding: .1em .5em; border-radius: 1em; font-size: 12px;
  background: #b3261e; color: #fff; display: inline-block; line-height: 1.4; white-space: nowrap
}
td[data-named] > span { display: none }
[data-details] section { margin-bottom: 1.5rem }
[data-details] h2 { font-size: 1rem; margin: 0 0 .5rem }
[data-details] :is(pre, th, td) { white-space: pre-wrap; overflow-wrap: anywhere; text-align: left }
[data-details] td { vertical-align: top }
[data-details] :is(th, td) { padding: .35rem .5rem; font-size: .9rem }
[data-details] pre { max-height: 24rem; overflow-y: auto; margin: 0; padding: .5rem; font-size: .85rem }
[data-details] table { width: 100%; table-layout: fixed; border-collapse: collapse }
[data-details] p > a { display: inline-block; margin: 0 1rem .5rem 0 }
[data-details] img { max-width: 256px; border-radius: 4px }
"""


def add_details(site: Any) -> None:
    """Adds the script, and two routes for what it shows below /api, which needs an operator's session."""
    api_of(site).router.routes[:0] = [
        Route("/details/{table}/{row}", get_details),
        Route("/names", get_names),
    ]
    add_script(site, "details.js", read_script("details.js").replace("__MOST_COUNTED__", str(MOST_COUNTED)))
