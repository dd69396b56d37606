"""Checks of the ways in: TLS, addresses, authentication, accounts, roles, keys of programs."""

from __future__ import annotations

import ipaddress
import os
import re
from collections import Counter
from urllib.parse import urlsplit

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from attunement.compliance.scene import Finding, Scene, failed, look, not_applicable, not_run, passed
from attunement.errors import ConfigError
from attunement.security.permissions import GRANTS, Role
from attunement.storage.addresses import checked

UNUSED_DAYS = 90
CERTIFICATE_DAYS = 30
KEY_ENDS_DAYS = 14
LEAST_RSA_BITS = 2048
LEAST_ARGON2_KIB, LEAST_ARGON2_PASSES = 19_456, 2
"""OWASP Password Storage Cheat Sheet: 19 MiB and 2 passes at least."""
MOST_IDLE_MINUTES, MOST_HOURS = 60, 24
SHARED = re.compile(
    r"(?:^|[._+-])(admin|administrator|root|shared|team|office|clinic|staff|test|demo|user|guest|temp|info)\d*(?:$|[@._+-])"
)
MAKE_ACCOUNT = "attune accounts create NAME --role administrator"


def is_local(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "")


def tls(scene: Scene) -> Finding:
    serving = scene.settings.serving
    if serving.tls_certificate is None or serving.tls_key is None:
        if is_local(serving.host):
            return not_applicable(
                f"the service listens on {serving.host}, which other machines do not reach, and has no certificate"
            )
        return failed(f"no certificate for {serving.host}", "set serving.tls_certificate and serving.tls_key")
    try:
        certificate = x509.load_pem_x509_certificate(serving.tls_certificate.read_bytes())
        mode = serving.tls_key.stat().st_mode & 0o777
    except (OSError, ValueError) as error:
        return failed(f"the certificate cannot be read ({type(error).__name__})", "set serving.tls_certificate to a PEM file")
    left = (certificate.not_valid_after_utc - scene.now).total_seconds() / 86400
    weak, signed = _weakness(certificate), "self-signed" if certificate.issuer == certificate.subject else "signed by another"
    told = f"TLS 1.2 and later; certificate {signed}, {left:.0f} days left; key file mode {mode:o}"
    if left < 0 or weak or mode & 0o077:
        wrong = weak or ("the certificate has expired" if left < 0 else "others may read the key file")
        return failed(f"{told}; {wrong}", "renew the certificate; close the key with  chmod 600")
    return look(told, "renew the certificate") if left < CERTIFICATE_DAYS else passed(told)


def _weakness(certificate: x509.Certificate) -> str:
    key, digest = certificate.public_key(), certificate.signature_hash_algorithm
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        return f"an RSA key of {key.key_size} bits"
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        return f"a key of the kind {type(key).__name__}"
    return f"signed with {digest.name}" if digest is not None and digest.name in ("md5", "sha1") else ""


def address(scene: Scene) -> Finding:
    serving = scene.settings.serving
    if is_local(serving.host):
        return passed(f"listens on {serving.host}: this machine alone")
    if serving.tls_certificate and serving.tls_key:
        return passed(f"listens on {serving.host} with TLS")
    return look(
        f"listens on {serving.host} without TLS of its own", "set serving.tls_certificate, or let a proxy on this machine add TLS"
    )


_STORES = {
    "mongodb": ("mongodb", "mongodb+srv"),
    "redis": ("redis", "rediss", "unix"),
    "read_replica": ("postgresql", "postgresql+psycopg"),
}


def database(scene: Scene) -> Finding:
    told = []
    for name in ("store", "key_store"):
        if not (text := getattr(scene.settings.security, name)):
            continue
        url = sa.make_url(text)
        mode = str(url.query.get("sslmode", ""))
        local = url.get_backend_name() == "sqlite" or is_local(url.host or "") or (url.host or "").startswith("/")
        if not local and mode != "verify-full":
            return failed(
                f"security.{name} is on another machine with sslmode={mode or 'prefer'}",
                f"add ?sslmode=verify-full&sslrootcert=FILE to security.{name}",
            )
        told.append(f"security.{name}: {'this machine' if local else 'verified TLS'}")
    for name, schemes in _STORES.items():
        if not (text := getattr(scene.settings.stores, name)):
            continue
        try:
            checked(f"stores.{name}", text, schemes, allow_plain=False)
        except ConfigError as error:
            return failed(str(error).partition(": ")[0], str(error).partition(": ")[2])
        told.append(f"stores.{name}: this machine, or verified TLS")
    return passed("; ".join(told)) if told else not_applicable("the stores are files in the home")


def outside(scene: Scene) -> Finding:
    settings = scene.settings
    urls = {
        "providers.base_url": settings.providers.base_url,
        "access.oidc_issuer": settings.access.oidc_issuer,
        "access.public_url": settings.access.public_url,
        "serving.engine_url": settings.serving.engine_url,
        **{f"serving.alert_webhook ({n})": url for n, url in enumerate(settings.serving.alert_addresses, 1)},
    }
    there = {name: urlsplit(url) for name, url in urls.items() if url}
    clear = [name for name, parts in there.items() if parts.scheme != "https" and not is_local(parts.hostname or "")]
    if clear:
        return failed(f"not encrypted: {', '.join(clear)}", "give an https address")
    return passed(f"https or this machine: {', '.join(there)}") if there else not_applicable("no address outside is set")


def authentication(scene: Scene) -> Finding:
    mode, accounts = scene.settings.serving.authentication, len(scene.active_accounts())
    told = f"serving.authentication={mode}, {accounts} active accounts"
    if mode == "none":
        return failed(told, "set serving.authentication to required")
    if not accounts:
        return look(f"{told}: on this machine nobody is asked, and nobody's data is to be had", MAKE_ACCOUNT)
    return passed(told)


def second_factor(scene: Scene) -> Finding:
    access, accounts = scene.access, scene.active_accounts()
    if access is None or not accounts:
        return not_applicable("no account yet")
    without = [a for a in accounts if not access.factors.has(a.id)]
    admins = [a for a in without if Role.ADMINISTRATOR in a.roles]
    told = (
        f"{len(accounts) - len(without)} of {len(accounts)} accounts have a second factor; administrators without: {len(admins)}"
    )
    if admins:
        return failed(told, "let each sign in and enrol (POST /api/v1/auth/totp/enrol): until then they may do nothing else")
    if scene.settings.access.second_factor != "everyone":
        return look(f"{told}; access.second_factor={scene.settings.access.second_factor}", "set access.second_factor to everyone")
    return passed(told) if not without else look(told, "let each sign in and enrol")


def unused(scene: Scene) -> Finding:
    accounts = scene.active_accounts()
    if not accounts:
        return not_applicable("no account yet")
    idle = [a for a in accounts if scene.days_since(a.last_sign_in or a.created) > UNUSED_DAYS]
    told = f"{len(idle)} of {len(accounts)} active accounts without a sign-in for {UNUSED_DAYS} days"
    return failed(f"{told}: {', '.join(a.id for a in idle)}", "attune accounts disable NAME") if idle else passed(told)


def roles(scene: Scene) -> Finding:
    accounts = scene.active_accounts()
    if not accounts:
        return not_applicable("no account yet")
    held = Counter(role for account in accounts for role in account.roles)
    told = ", ".join(f"{count} {role}" for role, count in sorted(held.items()))
    shared = [a.id for a in accounts if SHARED.search(a.name)]
    both = [a.id for a in accounts if Role.ADMINISTRATOR in a.roles and len(a.roles) > 1]
    clients = Counter(a.client for a in accounts if a.client)
    double = sorted(client for client, count in clients.items() if count > 1)
    notes = [
        f"{word}: {', '.join(ids)}"
        for word, ids in (
            ("named like shared ones", shared),
            ("administrators with another role", both),
            ("clients with two accounts", double),
        )
        if ids
    ]
    notes += ["one administrator alone"] if held[Role.ADMINISTRATOR] == 1 else []
    notes += ["no compliance officer"] if not held[Role.COMPLIANCE_OFFICER] else []
    if notes:
        return look(
            f"{told}; {'; '.join(notes)}", "one account a person, the fewest roles: attune accounts roles NAME --role ROLE"
        )
    return passed(told)


def api_keys(scene: Scene) -> Finding:
    keys = [k for k in scene.access.keys.all() if k.status == "live"] if scene.access else []
    if not keys:
        return not_applicable("no live API key")
    ending = [k.prefix for k in keys if -scene.days_since(k.expires) < KEY_ENDS_DAYS]
    idle = [k.prefix for k in keys if scene.days_since(k.last_used or k.created) > UNUSED_DAYS]
    wide = [k.prefix for k in keys if k.scopes == frozenset(GRANTS[Role.SERVICE])]
    told = f"{len(keys)} live keys; ending within {KEY_ENDS_DAYS} days: {len(ending)}, unused for {UNUSED_DAYS} days: {len(idle)}, with every scope: {len(wide)}"
    if idle:
        return failed(f"{told} ({', '.join(idle)})", "attune accounts key revoke PREFIX")
    return (
        look(f"{told} ({', '.join(ending + wide)})", "attune accounts key rotate NAME; give the fewest scopes")
        if ending or wide
        else passed(told)
    )


def passwords(scene: Scene) -> Finding:
    access = scene.settings.access
    told = f"argon2id with {access.argon2_memory_kib // 1024} MiB and {access.argon2_passes} passes; at least {access.min_password_length} characters"
    if access.argon2_memory_kib < LEAST_ARGON2_KIB or access.argon2_passes < LEAST_ARGON2_PASSES:
        return failed(told, "set access.argon2_memory_kib and access.argon2_passes back to their defaults")
    return passed(told) if access.min_password_length >= 15 else look(told, "set access.min_password_length to 15")


def sessions(scene: Scene) -> Finding:
    access = scene.settings.access
    told = (
        f"a session ends after {access.session_idle_minutes:g} minutes without a request and after {access.session_hours:g} hours"
    )
    long = access.session_idle_minutes > MOST_IDLE_MINUTES or access.session_hours > MOST_HOURS
    return look(told, "shorten access.session_idle_minutes and access.session_hours") if long else passed(told)


def logs(scene: Scene) -> Finding:
    """Tries the filter of the logs on made-up identifiers; what a process outside of it writes cannot be seen."""
    import logging

    from attunement.security.phi.logs import Sanitiser

    probe = "Maria Gonzalez of 12 Elm Street, Springfield, called from 415-555-0133; SSN 536-22-8176, maria@example.org"
    record = logging.LogRecord("probe", logging.INFO, "", 0, "%s", (probe,), None)
    Sanitiser().filter(record)
    left = [part for part in ("Gonzalez", "Elm Street", "555-0133", "536-22-8176", "maria@") if part in record.getMessage()]
    told = f"the filter took {5 - len(left)} of 5 made-up identifiers out; the service writes no access log and no bodies"
    if left:
        return failed(told, "report it: this version's log filter misses what it must find")
    return passed(told)


def environment(scene: Scene) -> Finding:
    """Secrets in the settings themselves, and a process that runs as the machine's master."""
    stores = scene.settings.stores
    texts = [scene.settings.security.store, scene.settings.security.key_store, stores.read_replica]
    inside = sum(bool(sa.make_url(text).password) for text in texts if text)
    inside += sum(bool(urlsplit(text).password) for text in (stores.mongodb, stores.redis))
    if inside:
        return look(
            f"{inside} database addresses hold a password",
            "use a .pgpass file or a service of libpq (postgresql+psycopg://?service=...)",
        )
    if not hasattr(os, "geteuid"):
        return not_run("who runs this cannot be seen on this system")
    if os.geteuid() == 0:
        return look("this runs as root", "run attune as a user of its own")
    return passed("no password in a setting; runs as an ordinary user")
