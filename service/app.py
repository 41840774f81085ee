"""The contents page: every controller, the v1 router, and what stands in front of them."""

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service.accounts.controller import AccountController
from service.admin.mount import admin
from service.avatars.controller import AvatarController
from service.bodies import StrictRequest
from service.bulk.controller import BulkController
from service.callers import authenticated, current_user, known_parameters
from service.cards.controller import CardController
from service.changes.controller import ChangeController
from service.characters.controller import CharacterController
from service.copies.controller import CopyController
from service.database import pool
from service.docs import ASSETS, ProblemController, get_openapi, get_root
from service.doorway import Doorway, Options
from service.emails.controller import EmailVerificationController, PasswordResetController
from service.emails.courier import courier
from service.errors import answer_problem
from service.graph.controller import GraphController
from service.health import HealthController
from service.imports.controller import ImportController
from service.limits import READS, WRITES, RateLimit
from service.log import access_log, set_up_logging
from service.moving.controller import MovingController
from service.openapi import OPENAPI
from service.overload import Overload, allow_many_connections
from service.pictures.controller import MediaController
from service.portraits.controller import PortraitController
from service.prompts.controller import PromptController
from service.relationships.controller import RelationshipController
from service.revisions.controller import RevisionController
from service.settings import settings
from service.templates.controller import TemplateController
from service.tokens.authentication import Authentication
from service.tokens.controller import ApiKeyController, SessionController
from service.trash.controller import TrashController
from service.users.controller import UserController
from service.validations.controller import ValidationController
from service.valkey import connection as valkey_connection
from service.versions.controller import VersionController
from service.writing import Writing

MAX_BODY = 1024 * 1024
MAX_PARTS = 200  # of a form

v1 = Router(
    "/v1",
    route_handlers=[
        UserController,
        AvatarController,
        AccountController,
        SessionController,
        ApiKeyController,
        EmailVerificationController,
        PasswordResetController,
        TemplateController,
        VersionController,
        CharacterController,
        PortraitController,
        CopyController,
        CardController,
        ImportController,
        PromptController,
        ValidationController,
        BulkController,
        RevisionController,
        TrashController,
        ChangeController,
        MovingController,
        RelationshipController,
        GraphController,
    ],
    guards=[authenticated, known_parameters],
    middleware=[Writing],
)


def create_app() -> Litestar:
    """The whole service, as an ASGI application."""
    set_up_logging(settings)
    allow_many_connections()
    app = Litestar(
        [v1, MediaController, HealthController, ProblemController, get_root, get_openapi, ASSETS, admin],
        dependencies={"user": Provide(current_user)},
        exception_handlers={Exception: answer_problem},
        lifespan=[lambda _: access_log(), lambda _: pool(), lambda _: valkey_connection(), lambda _: courier()],
        logging_config=None,
        openapi_config=OPENAPI,
        request_class=StrictRequest,
        multipart_form_part_limit=MAX_PARTS,
        request_max_body_size=MAX_BODY,
    )
    app.asgi_handler = _in_front_of(app)
    return app


def _in_front_of(app: Litestar) -> ASGIApp:
    limited = RateLimit(RateLimit(Options(app.asgi_handler, app.asgi_router), WRITES), READS)
    doorway: ASGIApp = Doorway(Overload(Authentication(limited), settings.max_requests_in_flight), settings)
    if settings.trusted_proxies:
        # uvicorn and Litestar each have ASGI types of their own
        return ProxyHeadersMiddleware(doorway, list(settings.trusted_proxies))  # type: ignore[arg-type, return-value]
    return doorway


app = create_app()
