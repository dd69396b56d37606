"""Foundation models: what a name means, and how its weights and tokenizer are loaded.

A name is `attunement-base` (shipped with the package, no network), a folder, or a Hugging Face model. Everything is
resolved to a folder first, and loaded from there: safetensors only, no code from outside.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from attunement.errors import MissingExtraError, ModelError
from attunement.storage.files import content_hash, file_hash

PACKAGED = "attunement-base"
NEEDED_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.txt", "*.model"]
QUIET_BELOW_BYTES = 200_000_000
"""Smaller weights load in under two seconds and need no progress bar."""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] | capitalize }}:{{ ' ' + m['content'] | trim }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For tokenizers that bring none."""


def pick_device(device: str = "auto") -> torch.device:
    """`auto` is CUDA where there is one, else the CPU. Raises `ModelError` for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"the device '{device}' cannot be used here: take 'auto' or 'cpu'") from error


def resolve_base(name: str) -> Path:
    """The folder that holds the model `name`; fetched from the hub when it is neither packaged nor a folder.

    Raises `ModelError` that says what to do when it is nowhere or holds no safetensors weights.
    """
    if name == PACKAGED:
        folder = Path(str(resources.files("attunement"))) / "weights" / PACKAGED
        if not (folder / "config.json").is_file():
            raise ModelError(f"'{PACKAGED}' is not in this installation: install the package again or name another base")
    elif Path(name).is_dir():
        folder = Path(name)
    else:
        folder = _fetch(name)
    if not (folder / "config.json").is_file():
        raise ModelError(f"the folder '{name}' holds no model (config.json is missing): give a Hugging Face model folder")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"the base '{name}' has no .safetensors weights: save it again with save_pretrained, pickles are not read"
        )
    return folder


def _fetch(name: str) -> Path:
    advice = f"give a folder, '{PACKAGED}', or the name of a Hugging Face model while online"
    try:
        return Path(snapshot_download(name, allow_patterns=NEEDED_FILES))
    except HFValidationError as error:
        raise ModelError(f"there is no base model '{name}': {advice}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(f"the base model '{name}' is neither here nor can it be fetched: {advice}") from error


def base_bytes(name: str) -> int:
    """The size of a base's weight files."""
    return sum(path.stat().st_size for path in resolve_base(name).glob("*.safetensors"))


def base_sha256(folder: Path) -> str:
    """The hash that names a base: of its weight files' hashes, in the order of their names."""
    files = tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.safetensors")))
    return _weights_hash(folder, files)


@lru_cache(maxsize=8)
def _weights_hash(folder: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    return content_hash([[name, file_hash(folder / name)] for name, _, _ in files])


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a base, always with a chat template and a padding token. Raises `ModelError`."""
    folder = resolve_base(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the tokenizer of '{name}' cannot be loaded: {_first_line(error)}") from error
    if not tokenizer.chat_template:
        tokenizer.chat_template = CHAT_TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.model_max_length = int(1e30)  # lengths are ours to mind (model.chat); the tokenizer would only warn
    return tokenizer


def load_base(
    name: str,
    device: str = "auto",
    *,
    rope_scaling: Mapping[str, Any] | None = None,
    quantization: str = "",
    placed: bool = True,
) -> tuple[Any, Any]:
    """The causal language model and tokenizer of a base, in eval mode: float32 on the CPU, bfloat16 on CUDA.

    `rope_scaling` is `base_config`'s; `quantization` ('8bit', '4bit') holds the frozen weights so (QLoRA, Dettmers 2023).
    Without `placed` the weights stay in main memory: for a device that cannot hold them all.
    Raises `ModelError` when the base is missing or its files cannot be loaded, `MissingExtraError` without bitsandbytes.
    """
    folder, place = resolve_base(name), pick_device(device)
    tokenizer = load_tokenizer(name)
    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    held = {"quantization_config": _quantization(quantization), "device_map": {"": place}} if quantization else {}
    try:
        with _loading_bar(folder):
            config = base_config(folder, rope_scaling)
            model = AutoModelForCausalLM.from_pretrained(
                folder, config=config, dtype=dtype, use_safetensors=True, trust_remote_code=False, **held
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"the base '{name}' cannot be loaded: {_first_line(error)}") from error
    return (model.to(place) if placed and not quantization else model).eval(), tokenizer


def base_config(folder: Path, rope_scaling: Mapping[str, Any] | None = None) -> Any:
    """A base's configuration; `rope_scaling` (`rope_type` and `factor`, as Transformers names them) lengthens its context.

    Raises `ModelError` for a scaling without either.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if rope_scaling:
        if not {"rope_type", "factor"} <= set(rope_scaling):
            raise ModelError('model.rope_scaling needs rope_type and factor, such as {rope_type = "yarn", factor = 4.0}')
        before = config.max_position_embeddings
        own = {"original_max_position_embeddings": before, **(config.rope_parameters or {}), **rope_scaling}
        if own["rope_type"] in ("linear", "dynamic"):
            own.pop("original_max_position_embeddings")
        config.rope_parameters = own
        config.max_position_embeddings = int(before * float(rope_scaling["factor"]))
    return config


def import_bitsandbytes() -> bool:
    """Whether bitsandbytes is installed; if so it is imported, before PEFT or TRL do it.

    On import it fetches native code from a model hub, and runs it, where `kernels` is installed: here it finds none.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells every product that is cast, and that it fetched nothing
    try:
        with _absent("kernels"):
            import bitsandbytes  # noqa: F401
    except ImportError:
        return False
    return True


def _quantization(kind: str) -> Any:
    if not import_bitsandbytes():
        raise MissingExtraError("holding the base in 8 or 4 bits", "qlora")
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
    )


@contextlib.contextmanager
def _absent(module: str) -> Iterator[None]:
    """Inside the block `module` cannot be imported."""
    before = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
        if before is not None:
            sys.modules[module] = before


@contextlib.contextmanager
def _loading_bar(folder: Path) -> Iterator[None]:
    quiet = sum(path.stat().st_size for path in folder.glob("*.safetensors")) < QUIET_BELOW_BYTES
    before = transformers_logging.is_progress_bar_enabled()
    if quiet:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if quiet and before:
            transformers_logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
