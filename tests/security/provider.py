"""A small OpenID Connect provider on 127.0.0.1 with keys of its own; it can be told to misbehave."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

CLIENT, SECRET = "attunement-test", "a-shared-secret-of-some-length-0123456789"


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


class Provider:
    """Its behaviour: `claims` and `header` change the next ID tokens, `sign` makes them, `keys` are published."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.rsa, self.ec = RSAKey.generate_key(2048, {"kid": "r1"}), ECKey.generate_key("P-256", {"kid": "e1"})
        self.keys: list[dict[str, Any]] = [self.rsa.as_dict(private=False), self.ec.as_dict(private=False)]
        self.claims: dict[str, Any] = {}
        self.describe: dict[str, Any] = {}
        self.sign = self.by_rsa
        self.codes: dict[str, dict[str, str]] = {}
        self.asked: list[dict[str, str]] = []

    def by_rsa(self, claims: dict[str, Any]) -> str:
        return jwt.encode({"alg": "RS256", "kid": "r1"}, claims, self.rsa)

    def by_ec(self, claims: dict[str, Any]) -> str:
        return jwt.encode({"alg": "ES256", "kid": "e1"}, claims, self.ec)

    def by_a_stranger(self, claims: dict[str, Any]) -> str:
        return jwt.encode({"alg": "RS256", "kid": "r1"}, claims, RSAKey.generate_key(2048))

    def by_nobody(self, claims: dict[str, Any]) -> str:
        return f"{_part(json.dumps({'alg': 'none'}).encode())}.{_part(json.dumps(claims).encode())}."

    def by_the_public_key(self, claims: dict[str, Any]) -> str:
        """Key confusion: the published key as the secret of an HMAC; by hand, because joserfc does not lend itself to it."""
        signed = f"{_part(json.dumps({'alg': 'HS256', 'kid': 'r1'}).encode())}.{_part(json.dumps(claims).encode())}"
        return f"{signed}.{_part(hmac.digest(self.rsa.as_pem(private=False), signed.encode(), 'sha256'))}"

    def by_the_client_secret(self, claims: dict[str, Any]) -> str:
        return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))

    def with_its_own_key_inside(self, claims: dict[str, Any]) -> str:
        key = RSAKey.generate_key(2048)
        return jwt.encode({"alg": "RS256", "jwk": key.as_dict(private=False)}, claims, key)

    def sign_in(self, address: str, subject: str) -> tuple[str, str]:
        """What the person does in the browser: the state and code that they come back with."""
        asked = {k: v[0] for k, v in parse_qs(urlsplit(address).query).items()}
        assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256" and asked["client_id"] == CLIENT
        code = f"code-{len(self.codes)}"
        self.codes[code] = {**asked, "sub": subject}
        return asked["state"], code

    def token(self, form: dict[str, str]) -> dict[str, Any] | None:
        self.asked.append(form)
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None or form["redirect_uri"] != asked["redirect_uri"]:
            return None
        challenge = _part(hashlib.sha256(form["code_verifier"].encode()).digest())
        if challenge != asked["code_challenge"]:
            return None
        now = int(time.time())
        claims = {
            "iss": self.issuer, "sub": asked["sub"], "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"],
        } | self.claims  # fmt: skip
        return {"id_token": self.sign({k: v for k, v in claims.items() if v is not None}), "token_type": "Bearer"}


@contextmanager
def provider() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/.well-known/openid-configuration":
                ends = {n: f"{made.issuer}/{n}" for n in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
                self._answer(200, {"issuer": made.issuer, **ends, **made.describe})
            else:
                self._answer(200, {"keys": made.keys})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {k: v[0] for k, v in parse_qs(body).items()} | {"authorization": self.headers.get("Authorization", "")}
            found = made.token(form)
            self._answer(200 if found else 400, found or {"error": "invalid_grant"})

        def _answer(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Provider(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
