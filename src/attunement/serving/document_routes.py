"""`/api/v1/clients/{client_id}/documents`: letters, forms and pictures of a client's record. What decides stands in `storage.transcripts`."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi import Path as InPath
from fastapi.responses import Response
from pydantic import ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from attunement.errors import DocumentError
from attunement.security.codes import ID
from attunement.serving.exchange import Exchanges
from attunement.serving.frame import Room, takes
from attunement.serving.guard import needs
from attunement.serving.problems import no_store, responses
from attunement.serving.progress_bodies import Body
from attunement.serving.progress_routes import START, Client
from attunement.storage.transcripts.documents import MEDIA_TYPES, MOST_TITLE_CHARACTERS, Document
from attunement.storage.transcripts.filing import Documents

Which = Annotated[str, InPath(max_length=64, pattern=f"^{ID.pattern}$", description="The document's id.")]
SANDBOX = "default-src 'none'; sandbox"
"""Of a document: opened in a browser it can run nothing, load nothing, and is of no origin."""
PIECE = 1 << 18
"""Characters of base64 that are decoded at once; a multiple of four."""
BESIDE_BYTES = 65_536
"""Of a request, beside the content: the title and JSON's own characters."""
_CHECKED = {
    400: "The body cannot be read",
    409: "This service keeps nothing",
    422: "The request is not as described; the content is no base64, is empty or not of the media type; the client's data were deleted",
    500: "A fault of the service; its log says where",
    503: "The store does not answer now",
}
_TOO_MUCH = {413: "Longer than `stores.document_bytes`", 415: "A media type that is not taken"}
_UNKNOWN = {404: "The client has no such document"}
_CONTENT = {
    "description": "The document, to be saved",
    "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES},
}


class DocumentIn(Body):
    """A document."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"title": "Referral of 2 March", "media_type": "text/plain", "content": "RGVhciBjb2xsZWFndWU="}]
        }
    )
    title: Annotated[str, StringConstraints(min_length=1, max_length=MOST_TITLE_CHARACTERS)] = Field(
        description="What it is, in one line."
    )
    media_type: Annotated[str, StringConstraints(max_length=100)] = Field(description=f"One of {', '.join(MEDIA_TYPES)}.")
    content: str = Field(description="Its bytes in base64 (RFC 4648), without line breaks.")


def add_routes(app: FastAPI, exchanges: Exchanges, most_bytes: int) -> None:
    room = Room(4 * (most_bytes + 2) // 3 + BESIDE_BYTES, f"the document is longer than {most_bytes:,} bytes: send it in parts")
    options: dict[str, Any] = {"tags": ["documents"]}

    @app.post(
        f"{START}/documents", status_code=201, response_model=Document, responses=responses({**_CHECKED, **_TOO_MUCH}), **options
    )
    @takes(room)
    @needs("client:write")
    async def add_document(client_id: Client, body: DocumentIn, request: Request) -> Any:
        """Add a document to a client's record, encrypted for the client. The same again gives what stands."""
        return await run_in_threadpool(_added, _documents(exchanges), client_id, body, request)

    @app.get(f"{START}/documents", response_model=list[Document], responses=responses(_CHECKED), **options)
    @needs("client:read")
    async def documents(client_id: Client, request: Request) -> Any:
        """A client's documents without their contents, in the order in which they were added."""
        return await run_in_threadpool(_documents(exchanges).of, client_id, request.state.caller.act)

    @app.get(
        f"{START}/documents/{{document_id}}",
        response_class=Response,
        responses={200: _CONTENT, **responses({**_CHECKED, **_UNKNOWN})},
        **options,
    )
    @needs("client:read")
    async def document(client_id: Client, document_id: Which, request: Request) -> Response:
        """A document's bytes, as a file to be saved."""
        found, content = await run_in_threadpool(_documents(exchanges).get, client_id, document_id, request.state.caller.act)
        headers = {"Content-Disposition": f'attachment; filename="{found.file}"', "Content-Security-Policy": SANDBOX}
        return Response(content, media_type=found.media_type, headers=headers)


def _documents(exchanges: Exchanges) -> Documents:
    if exchanges.stores is None:
        raise no_store()
    return exchanges.stores.documents


def _added(documents: Documents, client: str, body: DocumentIn, request: Request) -> Document:
    return documents.add(client, body.title, body.media_type, _decoded(body.content), request.state.caller.act)


def _decoded(text: str) -> bytes:
    """In pieces: Python decodes 10 MiB in 50 ms, and no other thread runs meanwhile."""
    try:
        if "=" in text[:-2]:
            raise ValueError("padding in the middle")
        return b"".join(base64.b64decode(text[at : at + PIECE], validate=True) for at in range(0, len(text), PIECE))
    except ValueError:
        raise DocumentError("content", "content is no base64: send the bytes as RFC 4648 has them, without line breaks") from None
