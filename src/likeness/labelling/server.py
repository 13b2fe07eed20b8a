"""The page over HTTP: a few routes that check what comes in, ask the desk and answer after its commit."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict
from starlette.middleware.trustedhost import TrustedHostMiddleware

from likeness.core.errors import LikenessError
from likeness.labelling.ballots import Ballots, Choice, OfferConflictError, UnknownOfferError, clean_name, shown
from likeness.labelling.desk import Desk
from likeness.labelling.export import FILE, write_votes

_STATUS: dict[type[Exception], int] = {UnknownOfferError: 404, OfferConflictError: 409}
_NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Who(_Body):
    """Who asks for a pair."""

    annotator: Annotated[str, AfterValidator(clean_name)]


class Ballot(_Body):
    """What was chosen, as the browser knows it: by side."""

    choice: Choice


@dataclass(frozen=True)
class Office:
    """What the routes share: the desk, where the votes go, and what they are about."""

    desk: Desk
    folder: Path
    kind: str
    exporting: asyncio.Lock

    async def export(self) -> int:
        """Write the votes that stand; returns how many."""
        async with self.exporting:
            rows = await asyncio.wrap_future(self.desk.ask(lambda ballots: ballots.rows(self.kind)))
            await asyncio.to_thread(write_votes, self.folder, rows)
            return len(rows)


def make_app(desk: Desk, folder: Path, kind: str, hosts: list[str]) -> FastAPI:
    """The application; ``hosts``: names under which it answers, so that no other site's name can be led to it."""
    office = Office(desk, folder, kind, asyncio.Lock())
    app = FastAPI(openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    app.add_exception_handler(LikenessError, _refusal)
    app.add_exception_handler(RequestValidationError, _refusal)
    app.add_exception_handler(sqlite3.Error, _refusal)
    page = _page()
    app.add_api_route("/", page, methods=["GET"])
    for path, method, route in _routes(office):
        app.add_api_route(path, route, methods=[method])
    return app


def _routes(office: Office) -> list[tuple[str, str, Callable[..., Awaitable[Any]]]]:
    async def offer(who: Who) -> JSONResponse:
        return _json(await asyncio.wrap_future(office.desk.ask(lambda ballots: _offered(ballots, who.annotator))))

    async def vote(offer_id: str, ballot: Ballot) -> JSONResponse:
        await asyncio.wrap_future(office.desk.ask(lambda ballots: ballots.decide(offer_id, ballot.choice)))
        return _json({"offer": offer_id, "choice": ballot.choice})

    async def undo(offer_id: str) -> JSONResponse:
        await asyncio.wrap_future(office.desk.ask(lambda ballots: ballots.withdraw(offer_id)))
        return _json({"offer": offer_id, "choice": None})

    async def picture(offer_id: str, side: Literal["left", "right"]) -> Response:
        found = office.desk.ballots.find(offer_id)
        asked = office.desk.ballots.questions[found.question]
        file = asked.image_a if shown(found, side) == "a" else asked.image_b
        data = await asyncio.to_thread((office.folder / file).read_bytes)
        headers = {**_NO_STORE, "Cache-Control": "private, max-age=3600"}
        return Response(data, media_type="image/png", headers=headers)

    async def export() -> JSONResponse:
        return _json({"votes": await office.export(), "file": FILE})

    return [
        ("/api/offers", "POST", offer),
        ("/api/offers/{offer_id}/vote", "PUT", vote),
        ("/api/offers/{offer_id}/vote", "DELETE", undo),
        ("/api/offers/{offer_id}/{side}", "GET", picture),
        ("/api/export", "POST", export),
    ]


def _offered(ballots: Ballots, annotator: str) -> dict[str, Any]:
    offer = ballots.next_offer(annotator)
    progress, last = ballots.progress(annotator), ballots.last(annotator)
    if offer is None:
        return {"state": "waiting" if progress["left"] else "done", "last": last, "progress": progress}
    prompt = ballots.questions[offer.question].prompt
    return {"state": "pair", "offer": offer.id, "prompt": prompt, "last": last, "progress": progress}


def _json(content: dict[str, Any], status: int = 200) -> JSONResponse:
    return JSONResponse(content, status, headers=_NO_STORE)


def _refusal(request: Request, error: Exception) -> JSONResponse:
    """What was wrong, as JSON; the page asks again after a 503."""
    if isinstance(error, RequestValidationError):
        problems = [f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in error.errors()]
        return _json({"detail": "; ".join(problems), "remedy": "correct the request"}, 422)
    if isinstance(error, LikenessError):
        return _json({"detail": error.problem, "remedy": error.remedy}, _STATUS.get(type(error), 503))
    return _json({"detail": f"nothing was stored: {error}", "remedy": "free some space, then vote again"}, 503)


def _page() -> Callable[[], Awaitable[HTMLResponse]]:
    """The static page. Its policy names its one script by digest: text that gets into the page runs nothing."""
    html = files("likeness.labelling").joinpath("page.html").read_text("utf-8")
    script = html.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {**_NO_STORE, "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}

    async def page() -> HTMLResponse:
        return HTMLResponse(html, headers=headers)

    return page
