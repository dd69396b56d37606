"""The clients whom a caller may see, to choose one from. What is known of one stands in `progress_routes`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.concurrency import run_in_threadpool

from attunement.progress.journey import ClientSummary
from attunement.records import to_dict
from attunement.security.codes import ID
from attunement.security.permissions import Reach, allowed
from attunement.serving.exchange import Exchanges
from attunement.serving.guard import needs
from attunement.serving.problems import NO_STORE, no_store, responses

MOST = 500
After = Annotated[
    str, Query(max_length=64, pattern=f"^({ID.pattern})?$", description="The last id of the page before; empty: the first page.")
]
_TOLD = {
    **NO_STORE,
    422: "The request is not as described",
    500: "A fault of the service; its log says where",
    503: "The store does not answer now",
}


def add_routes(app: FastAPI, exchanges: Exchanges) -> None:
    @app.get("/api/v1/clients", response_model=list[ClientSummary], responses=responses(_TOLD), tags=["progress"])
    @needs("client:list")
    async def clients(
        request: Request, after: After = "", limit: Annotated[int, Query(ge=1, le=MOST, description="Most rows.")] = 100
    ) -> Any:
        """Clients by id: a clinician's own; a key's, all who have sessions in the journal."""
        if exchanges.progress is None:
            raise no_store()
        principal = request.state.caller.principal
        own = None if allowed(principal, "client:list").reach is Reach.ALL else principal.clients
        journal = exchanges.progress.by(request.state.caller.act)
        return to_dict(await run_in_threadpool(journal.clients, own, after=after, limit=limit))
