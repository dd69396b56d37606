"""From a name and the settings to a provider that is ready."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from attunement.config import ProviderSettings
from attunement.errors import ConfigError
from attunement.providers import Provider
from attunement.providers.cache import CompletionCache, Forgetful
from attunement.providers.guarded import Guarded, only_logged
from attunement.providers.metered import Limits, Metered, Price
from attunement.providers.sdks import AnthropicProvider, OllamaProvider, OpenAIProvider
from attunement.security.agreements import is_outside

OFFLINE = "offline"
ANSWERS = ".answers"
"""Below the folder of what is made: every answer, so that none is paid for twice."""
OLLAMA_ADDRESS = "http://127.0.0.1:11434"
KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
ADDRESSES = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}
PAID = tuple(KEYS)
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def open_provider(
    wanted: str,
    settings: ProviderSettings,
    cache: Path | None,
    *,
    budget_usd: float | None = None,
    in_force: Callable[[str], bool] = lambda host: False,
    blocked: Callable[[str], str] = only_logged,
) -> Metered:
    """The provider `wanted` (openai, anthropic, ollama or an address of an OpenAI-compatible server), its answers kept in `cache`.

    With None nothing is kept: answers about a person must not lie on disk in the clear.

    `in_force` says whether a Business Associate Agreement with the provider at a host is (`attunement.security.agreements`): without
    one no text with personal data goes to a provider outside of this machine, and `blocked` is told (`Guarded`).

    Raises `ConfigError` when something is missing, `MissingExtraError` when its SDK is.
    """
    if not settings.model:
        raise ConfigError(f"the provider '{wanted}' needs the name of a model: give --model, or set providers.model")
    price = Price(settings.prompt_usd_per_million, settings.completion_usd_per_million)
    if budget_usd is not None and wanted in PAID and price == Price():
        raise ConfigError(
            "a budget needs prices, which change and are not built in: set providers.prompt_usd_per_million and"
            " providers.completion_usd_per_million from your provider's list"
        )
    inner, address = _inner(wanted, settings)
    limits = Limits(settings.concurrency, settings.max_retries, budget_usd, price)
    host = urlsplit(address).hostname or ""
    if is_outside(host):
        inner = Guarded(inner, host, in_force, blocked)
    kept = Forgetful() if cache is None else CompletionCache(cache, inner.name, address)
    return Metered(inner, kept, limits)


def _inner(wanted: str, settings: ProviderSettings) -> tuple[Provider, str]:
    url = wanted if "://" in wanted else ""
    if not url and wanted not in (*PAID, "ollama"):
        raise ConfigError(
            f"there is no provider '{wanted}': they are offline, openai, anthropic, ollama, or an address (http...)"
        )
    address = url or settings.base_url or ADDRESSES.get(wanted, OLLAMA_ADDRESS)
    parts = checked(address)
    key = _key(wanted if not url else "", settings)
    if key and parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ConfigError(f"a key is not sent to {parts.hostname} in the clear: use https")
    how = (settings.model, address, key, settings.timeout_seconds)
    if wanted == "anthropic":
        return AnthropicProvider(*how), address
    if wanted == "ollama":
        return OllamaProvider(*how), address
    return OpenAIProvider(*how, name=f"openai-compatible({parts.netloc})" if url else ""), address


def checked(address: str) -> SplitResult:
    """The parts of a provider's address. Raises `ConfigError` for what is none."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise ConfigError(
            f"'{address}' is no address of a provider: give one such as http://127.0.0.1:8000/v1, without a key in it"
        )
    return parts


def key_of(variable: str) -> str:
    """A provider's key, from the environment. Raises `ConfigError` where the variable is not set."""
    if not (key := os.environ.get(variable, "").strip()):
        raise ConfigError(f"the environment variable {variable} with the provider's key is not set")
    return key


def _key(wanted: str, settings: ProviderSettings) -> str | None:
    """The key, from the environment alone. A variable that was named, or that the provider needs, must be there."""
    variable = settings.key_variable or KEYS.get(wanted, "")
    return key_of(variable) if variable else None
