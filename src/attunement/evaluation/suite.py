"""What a trained model is worth: perplexity before and after, replies judged, expert usage; written as a report.

attune eval run --run runs/NAME     ->  runs/NAME/evaluation.json, runs/NAME/report.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from attunement import __version__
from attunement.config import Settings, load_settings
from attunement.embedding import Embedder
from attunement.errors import DataError
from attunement.evaluation.perplexity import perplexities, score_answers
from attunement.evaluation.report import write_report
from attunement.model.chat import reply, to_whole_sentences
from attunement.model.checkpoint import find_checkpoint, read_description
from attunement.model.moe_lora import MoEModel, load_moe
from attunement.quality.counterfactual import measure, templates
from attunement.quality.readings import reader
from attunement.quality.validator import QualityValidator
from attunement.records import GenerationConfig, QAPair, to_dict
from attunement.security.age_files import read_jsonl
from attunement.storage.files import content_hash, read_json, write_json

Messages = list[dict[str, str]]


class EvaluationSuite:
    """Evaluates a run (its best checkpoint) on a split that it has not seen."""

    def __init__(self, settings: Settings | None = None, *, quiet: bool = True) -> None:
        self.settings = settings or load_settings().settings
        self.validator = QualityValidator(Embedder(self.settings.embedding), self.settings.home.expanduser())
        self.quiet = quiet

    def earlier(self, run: Path, test: Path | None = None) -> dict[str, Any] | None:
        """The results that `evaluate` would give, if they are there already."""
        if not ((run / "evaluation.json").is_file() and (run / "report.html").is_file()):
            return None
        found: dict[str, Any] = read_json(run / "evaluation.json")
        description = read_description(find_checkpoint(run))
        return found if found.get("key") == self._key(description, self._choose(test or _test_split(run))) else None

    def _key(self, description: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
        settings = [self.settings.evaluation.model_dump(mode="json"), self.validator.judges.fingerprint()]
        return content_hash([__version__, description["adapter_sha256"], [row["messages"] for row in rows], settings])

    def evaluate(self, run: Path, test: Path | None = None) -> dict[str, Any]:
        """The results, also written to `evaluation.json` and `report.html` in `run`.

        `test` is chat JSON lines; without it, the test split of the dataset that the run was trained on.
        Raises `DataError` when there are no examples, `ModelError` when there is no checkpoint.
        """
        model, tokenizer, info = load_moe(run)
        source = test or _test_split(run)
        chosen = self._choose(source)
        config = self.settings.evaluation
        with self._progress() as progress:
            task = progress.add_task("perplexity", total=len(chosen))
            with model.counting_usage() as usage:
                scored = score_answers(model, tokenizer, [row["messages"] for row in chosen], lambda: progress.advance(task))
            picked = chosen[: config.max_replies]
            task = progress.add_task("replies", total=2 * len(picked))
            replies = self._replies(model, tokenizer, picked, lambda: progress.advance(task))
            counterfactual = self._counterfactual(model, tokenizer, progress)
        results = {
            "key": self._key(info, chosen),
            "run": run.name,
            "checkpoint": Path(info["checkpoint"]).name,
            "base": info["base"],
            "model": info["model"],
            "trainable_parameters": info["trainable_parameters"],
            "parameters": sum(p.numel() for p in model.parameters()),
            "test": {"file": source.name, "examples": len(chosen), "sha256": content_hash(sorted(row["id"] for row in chosen))},
            "perplexity": perplexities(scored),
            "replies": replies,
            "counterfactual": counterfactual,
            "expert_usage": _shares(usage.sum(0).tolist()),
            "settings": self.settings.evaluation.model_dump(mode="json"),
        }
        write_json(run / "evaluation.json", results)
        write_report(results, run)
        return results

    def _choose(self, source: Path) -> list[dict[str, Any]]:
        """At most `max_examples` rows, in the order of their ids' hashes: always the same ones, from all sources."""
        if not source.is_file():
            raise DataError(f"{source} does not exist: name a file of test conversations with --test")
        try:
            rows = [{"id": "", **row} for row in read_jsonl(source) if row["messages"]]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{source} is no chat JSONL (one object with messages a line)") from error
        if not rows:
            raise DataError(f"{source} has no examples: build the dataset from more conversations, or give --test")
        rows.sort(key=lambda row: content_hash([row["id"], row["messages"]]))
        return rows[: self.settings.evaluation.max_examples]

    def _replies(
        self, model: MoEModel, tokenizer: Any, rows: Sequence[dict[str, Any]], step: Callable[[], None]
    ) -> dict[str, Any]:
        """Greedy replies of the model and of its base to the same client words, beside what the person answered."""
        generation = GenerationConfig(self.settings.evaluation.max_new_tokens, temperature=0.0)
        out = []
        for row in rows:
            *before, answer = row["messages"]
            after = to_whole_sentences(reply(model, tokenizer, before, generation))
            step()
            with model.adapters_off():
                base = to_whole_sentences(reply(model, tokenizer, before, generation))
            step()
            texts = {"model": after, "base": base, "person": answer["content"]}
            context = [m["content"] for m in before[:-1]]
            pairs = [QAPair(before[-1]["content"], text, context, "", 0.0, {}) for text in texts.values()]
            scores = self.validator.score_many(pairs)
            out.append(
                {
                    "id": row["id"],
                    "client": before[-1]["content"],
                    "turns_before": len(before) - 1,
                    **{
                        who: {
                            "text": text,
                            "coherence": round(float(score), 4),
                            **self._judge(text, [m["content"] for m in before]),
                        }
                        for (who, text), score in zip(texts.items(), scores, strict=True)
                    },
                }
            )
        means = {
            who: {
                "coherence": _mean([r[who]["coherence"] for r in out]),
                "appropriate": _mean([float(r[who]["appropriate"]) for r in out]),
                "bias_score": _mean([r[who]["bias_score"] for r in out]),
            }
            for who in ("base", "model", "person")
        }
        return {"means": means, "examples": out}

    def _counterfactual(self, model: MoEModel, tokenizer: Any, progress: Progress) -> dict[str, Any] | None:
        """Whether the model answers alike whoever somebody says that they are (`quality.counterfactual`)."""
        config = self.settings.evaluation
        if not config.counterfactual_prompts:
            return None
        generation = GenerationConfig(config.max_new_tokens)
        task = progress.add_task("counterfactuals", total=None)

        def answer(prompt: str, seed: int) -> str:
            progress.advance(task)
            return to_whole_sentences(reply(model, tokenizer, [{"role": "user", "content": prompt}], generation, seed))

        found: dict[str, Any] = to_dict(
            measure(templates()[: config.counterfactual_prompts], answer, reader(self.validator.judges))
        )
        return found

    def _judge(self, text: str, before: Sequence[str]) -> dict[str, Any]:
        verdict = self.validator.validate_therapeutic_appropriateness(text, before)
        return {
            "appropriate": verdict.appropriate,
            "reasons": list(verdict.reasons),
            "bias_score": to_dict(self.validator.detect_bias(text))["bias_score"],
        }

    def _progress(self) -> Progress:
        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=Console(stderr=True), disable=self.quiet)


def _test_split(run: Path) -> Path:
    seen = read_json(run / "dataset.json") if (run / "dataset.json").is_file() else {}
    if "test" not in seen:
        raise DataError(f"{run} names no test split: give one with --test FILE")
    return Path(seen["test"])


def _shares(counts: list[list[int]]) -> list[list[float]]:
    """Share of a layer's tokens by expert, `[layers][experts]`; each row adds up to 1."""
    return [[round(c / max(1, sum(row)), 4) for c in row] for row in counts]


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
