"""Addresses of databases: which forms there are, that nobody's data travel in the clear, and how one is told without its password."""

from __future__ import annotations

import ipaddress
from urllib.parse import parse_qs, urlsplit

from attunement.errors import ConfigError

INSECURE = {"tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames", "ssl_check_hostname", "ssl_cert_reqs"}
"""Options of MongoDB's and Redis' addresses that would take any certificate."""


def checked(setting: str, url: str, schemes: tuple[str, ...], *, allow_plain: bool) -> str:
    """`url` when it is an address of one of `schemes` that may be used. Raises `ConfigError`, which never repeats it.

    Between machines an address must ask for TLS with a verified certificate, unless `allow_plain`.
    """
    scheme = url.partition("://")[0].casefold()
    if scheme not in schemes:
        raise ConfigError(f"{setting} is no address: it begins with {' or '.join(f'{one}://' for one in schemes)}")
    options = {name.casefold(): values[-1].casefold() for name, values in parse_qs(urlsplit(url).query).items()}
    if wrong := sorted(INSECURE & set(options)):
        raise ConfigError(f"{setting} has the option {wrong[0]}: certificates are always verified")
    if scheme.startswith("postgresql"):
        secure = options.get("sslmode") == "verify-full"
        how = "add ?sslmode=verify-full&sslrootcert=FILE"
    elif scheme.startswith("mongodb"):
        secure = "true" in {options.get("tls", "true" if scheme == "mongodb+srv" else ""), options.get("ssl")}
        how = "add ?tls=true"
    else:
        secure, how = scheme != "redis", "begin it with rediss://"
    if not (secure or allow_plain or all(map(is_here, hosts(url)))):
        raise ConfigError(f"{setting} is on another machine and not over TLS: {how} (or set stores.allow_plain)")
    return url


def hosts(url: str) -> list[str]:
    """The machines of an address; MongoDB's may name several."""
    places = urlsplit(url).netloc.rpartition("@")[2].split(",")
    query = parse_qs(urlsplit(url).query).get("host", [])  # PostgreSQL's way to name a socket's folder
    return [*query] or [place.rpartition(":")[0].strip("[]") if _has_port(place) else place.strip("[]") for place in places]


def is_here(host: str) -> bool:
    """Whether a host is this machine: its loopback, or a socket in the file system."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in {"", "localhost"} or host.startswith(("/", "%2f", "%2F"))


def told(url: str) -> str:
    """The address without who logs in, for logs and errors."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _has_port(place: str) -> bool:
    return place.rpartition(":")[2].isdigit() and (place.count(":") == 1 or place.startswith("["))
