"""The recommender over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from prometheus_client import REGISTRY
from starlette.requests import Request
from starlette.responses import Response

from offers.errors import RequestError
from offers.wording import shown
from serving.process.edge import KINDS, Bodies, Edge, Endpoint, Kinds, label, metrics, strict_json
from serving.process.edge import application as build
from serving.process.telemetry import touch
from serving.protocol.docs import HEADERS, PAGE
from serving.protocol.kserve import ServerNotReady
from serving.ranker.outcomes import PATH as OUTCOMES
from serving.ranker.outcomes import OutcomesTaker
from serving.recommender.decisions import Unavailable
from serving.recommender.events import EventsFull, EventsTaker
from serving.recommender.openapi import EVENTS, RECOMMEND, document
from serving.recommender.service import Recommendations

_KINDS: Kinds = {Unavailable: 503, EventsFull: 503, ServerNotReady: 503, **KINDS}
_INLINE_BYTES = 64 * 1024

Take = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Service:
    """The endpoints of a market.

    Parameters
    ----------
    recommendations : answers by id
    events : takes events; None where nobody keeps them

    Attributes
    ----------
    draining : whether it is stopping, and so not ready
    """

    def __init__(self, recommendations: Recommendations, events: EventsTaker | None) -> None:
        self.recommendations, self.events = recommendations, events
        self.bodies, self.draining = Bodies(), False

    def application(self) -> Edge:
        """Build the application that answers."""
        gets: dict[str, Endpoint] = {
            "/": self.alive,
            "/docs": self.docs,
            "/openapi.json": self.openapi,
            "/metrics": metrics(REGISTRY),
            "/healthz": self.alive,
            "/readyz": self.ready,
            f"{RECOMMEND}/{{user_id:path}}": self.recommend,
        }
        posts = {EVENTS: self._taking(self.events.take)} if self.events else {}
        if self.recommendations.decision_log:
            posts[OUTCOMES] = self._taking(OutcomesTaker(self.recommendations.decision_log).take)
        for path in (*posts, f"{RECOMMEND}/{{user_id:path}}"):
            touch(label(path))
        routes = {("GET", path): endpoint for path, endpoint in gets.items()}
        return build(routes | {("POST", path): endpoint for path, endpoint in posts.items()}, _KINDS)

    async def recommend(self, request: Request) -> Response:
        query = request.query_params
        if len(query) < len(query.multi_items()):
            raise RequestError("the parameters: expected each once")
        question = self.recommendations.question(request.path_params["user_id"], query)
        return Response(await self.recommendations.answer(question), media_type="application/json")

    async def docs(self, request: Request) -> Response:
        return Response(PAGE, headers=HEADERS, media_type="text/html")

    async def openapi(self, request: Request) -> Response:
        return _json(document(self.recommendations, self.events))

    async def alive(self, request: Request) -> Response:
        return _json({"alive": True})

    async def ready(self, request: Request) -> Response:
        if self.draining:
            raise Unavailable("the recommender is stopping")
        away = self.recommendations.users.away
        if away and not self.recommendations.may_fall_back:
            raise Unavailable("the online store does not answer")
        return _json({"ready": True} | ({"degraded": "the online store does not answer"} if away else {}))

    def _taking(self, take: Take) -> Endpoint:
        async def taken(request: Request) -> Response:
            body = await self.bodies.read(request)
            # A large body is read beside the event loop, where it holds up no health check.
            content = strict_json(body) if len(body) <= _INLINE_BYTES else await asyncio.to_thread(strict_json, body)
            if not isinstance(content, dict):
                raise RequestError(f"the body: expected a JSON object, got {shown(content)}")
            return _json(await take(content))

        return taken


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
