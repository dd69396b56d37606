"""Signing in by an OpenID Connect provider: authorization code with PKCE (RFC 7636), state and nonce.

Nothing of an ID token is believed before its signature by one of the provider's published keys, with an algorithm of the
configured list and of the key's own kind, and its issuer, audience, times and nonce were checked. A subject signs in to the
account that an administrator linked; none is ever made by a token.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import sqlalchemy as sa

from attunement.config import AccessSettings
from attunement.errors import AccessError, ConfigError, ServiceError
from attunement.security.clock import Clock, utc_now
from attunement.storage.sql import Store, metadata

FLOW_SECONDS = 600.0
LEEWAY_SECONDS = 60
FRESH_SECONDS = 3600.0
"""How long the provider's description and keys are used before they are asked for again."""
TIMEOUT_SECONDS = 10.0
MOST_BYTES = 1_000_000
REFUSED = "the sign-in at the provider did not hold: start again"

_flows = sa.Table(
    "oidc_flows",
    metadata,
    sa.Column("state", sa.String(64), primary_key=True),
    sa.Column("nonce", sa.String(64), nullable=False),
    sa.Column("verifier", sa.String(64), nullable=False),
    sa.Column("created", sa.Double, nullable=False),
)


@dataclass(frozen=True)
class Identity:
    """Who a provider says it is. `second_factor`: it says that one was shown there."""

    issuer: str
    subject: str
    second_factor: bool


class OpenIdConnect:
    """One provider. `redirect` is our callback's address, as it is known there."""

    def __init__(self, store: Store, settings: AccessSettings, redirect: str, clock: Clock = utc_now) -> None:
        self._store, self._settings, self._redirect, self._clock = store, settings, redirect, clock
        self._described: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, Any] | None = None
        self._lock = threading.Lock()
        if not settings.oidc_client_id:
            raise ConfigError("access.oidc_issuer needs access.oidc_client_id")
        _safe(settings.oidc_issuer, "access.oidc_issuer")

    def start(self) -> tuple[str, str]:
        """The provider's address to send the browser to, and the state, which the browser must bring back in a cookie."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        now = self._clock().timestamp()
        with self._store.begin() as connection:
            connection.execute(_flows.delete().where(_flows.c.created < now - FLOW_SECONDS))
            connection.execute(_flows.insert().values(state=_hash(state), nonce=nonce, verifier=verifier, created=now))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code", "scope": "openid", "client_id": self._settings.oidc_client_id,
            "redirect_uri": self._redirect, "state": state, "nonce": nonce, "code_challenge": challenge,
            "code_challenge_method": "S256",
        }  # fmt: skip
        address = self._endpoint("authorization_endpoint")
        return f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}", state

    def finish(self, state: str, code: str) -> Identity:
        """Who came back with `code`. A state is good once. Raises `AccessError`, or `ServiceError` without the provider."""
        now, mine = self._clock().timestamp(), _flows.c.state == _hash(state)
        with self._store.begin() as connection:
            flow = connection.execute(sa.select(_flows).where(mine)).first()
            gone = connection.execute(_flows.delete().where(mine)).rowcount
        if flow is None or not gone or now - flow.created > FLOW_SECONDS:
            raise AccessError("credentials", REFUSED)
        token = self._exchange(code, flow.verifier).get("id_token")
        if not isinstance(token, str):
            raise AccessError("credentials", REFUSED)
        claims = self._claims(token, flow.nonce)
        amr = claims.get("amr")
        confirmed = isinstance(amr, list) and bool(
            {a for a in amr if isinstance(a, str)} & set(self._settings.oidc_second_factor)
        )
        return Identity(self._settings.oidc_issuer, claims["sub"], confirmed)

    # --- the token ------------------------------------------------------------------------------------------

    def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        from joserfc import jws, jwt
        from joserfc.errors import JoseError

        allowed, audience = list(self._settings.oidc_algorithms), self._settings.oidc_client_id
        try:
            try:
                decoded = jwt.decode(token, self._key_set(), algorithms=allowed, registry=jws.JWSRegistry(algorithms=allowed))
            except JoseError:  # the provider may have new keys; asked at most once a minute
                decoded = jwt.decode(token, self._key_set(60.0), algorithms=allowed, registry=jws.JWSRegistry(algorithms=allowed))
            registry = jwt.JWTClaimsRegistry(
                now=int(self._clock().timestamp()), leeway=LEEWAY_SECONDS,
                iss={"essential": True, "value": self._settings.oidc_issuer}, aud={"essential": True, "value": audience},
                sub={"essential": True}, exp={"essential": True}, iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            )  # fmt: skip
            registry.validate(decoded.claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise AccessError("credentials", REFUSED) from error
        claims = dict(decoded.claims)
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if ((several or "azp" in claims) and claims.get("azp") != audience) or not (
            0 < len(claims["sub"]) <= 255 and claims["sub"].isprintable()
        ):
            raise AccessError("credentials", REFUSED)
        return claims

    def _key_set(self, most_age_seconds: float = FRESH_SECONDS) -> Any:
        """The provider's keys for signatures: public ones alone, so that none can be taken for a shared secret."""
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        with self._lock:
            if self._keys is None or time.monotonic() - self._keys[0] > most_age_seconds:
                found = self._ask("GET", self._endpoint("jwks_uri")).get("keys")
                keys = [
                    k for k in found if isinstance(k, dict) and k.get("kty") in ("RSA", "EC", "OKP") and k.get("use", "sig") == "sig"
                ] if isinstance(found, list) else []  # fmt: skip
                try:
                    self._keys = (time.monotonic(), KeySet.import_key_set({"keys": keys}))
                except (JoseError, ValueError, TypeError, KeyError) as error:
                    raise ServiceError("the OpenID Connect provider's keys cannot be read") from error
            return self._keys[1]

    # --- the provider ---------------------------------------------------------------------------------------

    def _exchange(self, code: str, verifier: str) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self._redirect, "code_verifier": verifier,
            "client_id": self._settings.oidc_client_id,
        }  # fmt: skip
        secret = os.environ.get(self._settings.oidc_secret_variable, "")
        return self._ask(
            "POST", self._endpoint("token_endpoint"), form, (self._settings.oidc_client_id, secret) if secret else None
        )

    def _endpoint(self, name: str) -> str:
        described = self._described
        if described is None or time.monotonic() - described[0] > FRESH_SECONDS:
            issuer = self._settings.oidc_issuer
            found = self._ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if found.get("issuer") != issuer:
                raise ServiceError("the OpenID Connect provider calls itself by another name than access.oidc_issuer")
            self._described = described = (time.monotonic(), dict(found))
        address = described[1].get(name)
        if not isinstance(address, str):
            raise ServiceError(f"the OpenID Connect provider names no {name}")
        return _safe(address, f"the provider's {name}")

    def _ask(self, method: str, address: str, form: Mapping[str, str] | None = None, auth: Any = None) -> Mapping[str, Any]:
        """A small JSON object, without following anybody elsewhere."""
        import httpx

        try:
            with httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=not _is_local(address)) as client:
                with client.stream(method, address, data=form, auth=auth, headers={"Accept": "application/json"}) as answer:
                    body = b""
                    for piece in answer.iter_bytes():
                        body += piece
                        if len(body) > MOST_BYTES:
                            raise ServiceError("the OpenID Connect provider's answer is too long")
            if form is not None and 400 <= answer.status_code < 500:
                raise AccessError("credentials", REFUSED)
            found = httpx.Response(answer.raise_for_status().status_code, content=body).json()
        except (httpx.HTTPError, ValueError) as error:
            raise ServiceError(f"the OpenID Connect provider cannot be reached ({type(error).__name__})") from error
        if not isinstance(found, dict):
            raise ServiceError("the OpenID Connect provider's answer is no JSON object")
        return found


def _safe(address: str, what: str) -> str:
    """`address` when it is https, or on this machine. Raises `ConfigError`: codes and secrets go there."""
    if urlsplit(address).scheme != "https" and not _is_local(address):
        raise ConfigError(f"{what} must begin with https://")
    return address


def _is_local(address: str) -> bool:
    parts = urlsplit(address)
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def _hash(state: str) -> str:
    return hashlib.sha256(state.encode("utf-8", "replace")).hexdigest()
