"""`/api/v1/deployment`: which model answers, and another in its place without a reply being dropped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from attunement.errors import UserError
from attunement.security.audit import Entry
from attunement.serving.exchange import Exchanges
from attunement.serving.guard import needs
from attunement.serving.problems import responses

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
Model = Annotated[str, StringConstraints(max_length=300, pattern=f"^{NAME}(?:/{NAME}){{0,3}}$")]


class DeploymentIn(BaseModel):
    """Another model."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"model": "first/checkpoints/epoch-003-step-000018"}]}
    )
    model: Model = Field(description="A run or a checkpoint in the folder `serving.models`.")


class DeploymentOut(BaseModel):
    """What answers now."""

    model_version: str = Field(description="Run, checkpoint and the adapter's hash; none without a model.")
    alert: str = Field(description="What operators should know of the last load; empty when it did what it was asked to.")


def add_routes(app: FastAPI, exchanges: Exchanges) -> None:
    service = exchanges.service

    @app.get("/api/v1/deployment", response_model=DeploymentOut, tags=["operation"])
    @needs("model:read")
    async def deployment() -> dict[str, Any]:
        """Which model answers."""
        return {"model_version": service.version, "alert": service.engine.alert}

    @app.post(
        "/api/v1/deployment",
        response_model=DeploymentOut,
        responses=responses(
            {400: "The body cannot be read", 404: "No such model", 409: "No folder is configured", 422: "It cannot be loaded"}
        ),
        tags=["operation"],
    )
    @needs("deployment:change")
    async def swap(body: DeploymentIn, request: Request) -> dict[str, Any]:
        """Have another model answer; replies in the making are ended by the one that began them. What cannot be loaded changes nothing."""
        path = _inside(service.settings.serving.models, body.model)
        try:
            deployed = await run_in_threadpool(service.load_model, path)
        except UserError as error:
            raise HTTPException(422, str(error).replace(str(path.parent), "").strip()) from error
        exchanges.metrics.serves(deployed.model_version)
        access, act = request.app.state.guard.access, request.state.caller.act
        if access is not None:
            await run_in_threadpool(
                _record,
                access.audit,
                Entry(act.actor, "deployment:swap", request=act.request, target=_code(deployed.model_version)),
            )
        return {"model_version": deployed.model_version, "alert": service.engine.alert}


def _inside(folder: Path | None, name: str) -> Path:
    """The path of a model in `folder`. Raises `HTTPException` where there is none; a link that leads out of it is none."""
    if folder is None:
        raise HTTPException(409, "no folder of models is configured: set serving.models")
    root = folder.expanduser().resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root) or not path.is_dir():
        raise HTTPException(404, "there is no such model in serving.models")
    return path


def _record(audit: Any, entry: Entry) -> None:
    with audit.begin() as connection:
        audit.append(connection, entry)


def _code(version: str) -> str:
    return re.sub(r"[^A-Za-z0-9._:-]", "-", version)[:64]
