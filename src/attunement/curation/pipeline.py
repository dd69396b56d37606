"""`DataPipeline`: raw conversations in, a validated training set out.

    read -> select (empty, licence, near-duplicates) -> pair (personal data; content type, context, questions; duplicate pairs)
         -> judge (coherence, danger, safety, bias, skill) -> hold for review -> balance and split -> assemble

The steps meet only through shards in `<out>/work`, each kept under the hash of what made it: a build that is killed
at any point goes on where it was, and ends with the same bytes.
"""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from attunement.config import Settings, load_settings
from attunement.curation.assembly import Steps, assemble, available
from attunement.curation.balance import SPLITS, split_of_groups
from attunement.curation.card import write_card
from attunement.curation.dedup import Groups, text_key
from attunement.curation.export import DatasetWriter, example_row, pair_of_row
from attunement.curation.manifest import Manifest, write_manifest
from attunement.curation.mixture import BALANCE_TOLERANCE
from attunement.curation.pairing import PairShard, blocked_personal_data, duplicate_pairs, pair_shard
from attunement.curation.parts import PARTS, Parts, facts_of, in_parts, source_files
from attunement.curation.privacy import Privacy
from attunement.curation.reading import ReadShard, read_shards
from attunement.curation.report import Tally, quality_report, write_report
from attunement.curation.review import HELD, ReviewQueue, read_held, sweep_edits
from attunement.curation.scoring import judge_shards
from attunement.curation.selection import select
from attunement.curation.shards import Workspace
from attunement.embedding import Embedder
from attunement.errors import DataError
from attunement.quality.appropriateness import validate_by_rules
from attunement.quality.panel import Judges
from attunement.readers.files import SourceFile
from attunement.records import SHARES, ProcessedDataset, QAPair, QualityMetrics, QualityReport, VoiceDataExample, from_dict
from attunement.security.recording import as_target, incidents_of
from attunement.storage.files import JsonlSequence, content_hash, write_json
from attunement.storage.sql import Store

log = logging.getLogger("attunement.curation")
T = TypeVar("T")

MIN_SUCCESS_RATE = 0.99
"""The contract's: processing success rate of at least 99 %."""
QUESTION_TOLERANCE = 0.1
"""How far the share of contextual questions may be from the wanted one before the report calls it an issue."""


class DataPipeline:
    """The contract's data pipeline.

    `out` is where the dataset goes (default: a folder below the settings' home, named after the sources);
    `preset='pixelated'` reads the contract's four source folders below each given path; `preset='full'` also what lies in
    `out/sources`, which `parts` fills with what the given sources leave short (`attunement.curation.parts`).
    """

    def __init__(
        self,
        settings: Settings | None = None,
        out: Path | None = None,
        *,
        preset: str | None = None,
        parts: Parts | None = None,
        embedder: Embedder | None = None,
        quiet: bool = True,
    ) -> None:
        self.settings = settings or load_settings().settings
        self.out = out
        self.preset = preset
        self.parts = parts
        self.embedder = embedder or Embedder(self.settings.embedding)
        self.judges = Judges(self.embedder, self.settings.home.expanduser())
        self.quiet = quiet
        self.timing: dict[str, float] = {}

    # --- the contract -----------------------------------------------------------------------------

    def process_datasets(self, source_paths: Sequence[Path]) -> ProcessedDataset:
        """Builds the dataset of all conversations below `source_paths`; see `attunement.curation.assembly` for its files.

        Raises `DataError` when a path does not exist, nothing readable is found, or another build runs in `out`.
        """
        paths = [Path(p) for p in source_paths]
        out = self.out or self.settings.home.expanduser() / "datasets" / content_hash([str(p.resolve()) for p in paths])[:12]
        self.out = out
        workspace = Workspace(out)
        with workspace.locked(), self._progress() as progress:
            manifest = Manifest.load(out)
            if self.parts is not None:
                self._make_parts(self.parts, paths, workspace, manifest, progress, out)
            with self._timed("discover"):
                files = source_files(paths, out, self.preset)
            skipped = [{"file": f.name, "reason": f.skip_reason} for f in files if f.skip_reason is not None]
            readable = [f for f in files if f.skip_reason is None]
            nothing = f"no conversations found in {', '.join(map(str, paths))}: {len(skipped)} files were passed over"
            if not readable:  # before anything is written: the dataset that stands stays whole
                raise DataError(nothing)
            with self._timed("read"):
                reads = self._read(readable, workspace, manifest, progress)
            withdrawn = any(manifest.withdraws_file(f) for f in files)  # of all there was: an empty dataset is what is wanted
            if not withdrawn and (failure := _all_failed(reads)):
                raise DataError(f"{nothing}, none could be read{failure}")
            steps = self._steps(reads, workspace, progress)
            self._tell_blocked(steps.shards, out)
            with self._timed("assemble"):
                tally = assemble(steps, self.settings.data, out)
            with self._timed("report"):
                report = quality_report(tally, self.settings.data, skipped, self._min_coherence(), facts_of(out, self.preset))
                write_report(report, out)
                write_card(report, files, self.settings, out)
                write_manifest(out, paths, self.preset, files, self.settings, manifest.withdrawals)
            if self.settings.data.review != "off" or (out / HELD).is_file():
                self._queue().add(out, read_held(out))
            if self.settings.data.review != "off" or manifest.withdrawals:
                sweep_edits(out)
            workspace.sweep()
        self._write_timing(out, tally)
        return self._dataset(tally, out, files)

    def validate_quality(self, dataset: ProcessedDataset) -> QualityReport:
        """Holds `dataset` against the contract: success rate, coherence, appropriateness, the halves of questions, the balance."""
        issues, count, total, low, contextual = [], 0, 0.0, 0, 0
        unfit: Counter[str] = Counter()
        least = self._min_coherence()
        for pair in dataset.qa_pairs:
            count += 1
            unfit.update(validate_by_rules(pair.answer).reasons)
            total += pair.semantic_score
            low += pair.semantic_score < least
            contextual += pair.metadata.get("question_type") == "contextual"
        if dataset.processing_success_rate < MIN_SUCCESS_RATE:
            issues.append(f"processing success rate {dataset.processing_success_rate:.2%} is under {MIN_SUCCESS_RATE:.0%}")
        if low:
            issues.append(f"{low} pairs score under the coherence threshold {least}")
        if unfit:
            issues.append(
                "answers hold what a helper must never say: " + ", ".join(f"{n} {code}" for code, n in unfit.most_common())
            )
        share = contextual / count if count else 0.0
        if not count:
            issues.append("the dataset has no pairs")
        elif abs(share - self.settings.data.contextual_share) > QUESTION_TOLERANCE:
            issues.append(f"{share:.0%} of the questions are contextual, wanted {self.settings.data.contextual_share:.0%}")
        examples = max(1, sum(dataset.source_distribution.values()))
        shares = {name: round(dataset.source_distribution.get(name, 0) / examples, 4) for name in SHARES}
        target = self.settings.data.target_balance
        if self.settings.data.balance == "enforce":  # with `report` the mixture is whatever the sources give
            wrong = [name for name in SHARES if abs(shares[name] - target.get(name, 0.0)) > BALANCE_TOLERANCE]
            issues += [f"{shares[name]:.0%} of the examples are {name}, wanted {target.get(name, 0.0):.0%}" for name in wrong]
        metrics = QualityMetrics(
            round(total / count, 4) if count else 0.0,
            round(1 - share, 4) if count else 0.0,
            round(share, 4),
            count,
            dataset.quality_metrics.rejected_pairs,
        )
        return QualityReport(
            not issues,
            metrics,
            dataset.processing_success_rate,
            dict(dataset.source_distribution),
            issues,
            {"shares": shares, "target": dict(target), "inappropriate": dict(unfit)},
        )

    def export_lora_format(self, dataset: ProcessedDataset, output_path: Path) -> None:
        """Writes `dataset` to `output_path` as chat JSON lines and LitGPT's JSON, split by conversation.

        A pair that has a `split` in its metadata keeps it; the others fall by the hash of their conversation.
        """
        members = list(enumerate(dataset.qa_pairs))
        groups, first = Groups(len(members)), dict[int, int]()
        keys = []
        for index, pair in members:
            key = text_key(str(pair.metadata.get("conversation_id") or pair.question))
            groups.join(index, first.setdefault(key, index))
            groups.join(index, first.setdefault(text_key(pair.question), index))
            keys.append(key)
        import numpy as np

        split = split_of_groups(groups, np.asarray(keys, dtype=np.uint64), range(len(members)), self.settings.data)
        with DatasetWriter(Path(output_path)) as writer:
            for index, pair in members:
                writer.add(pair.metadata.get("split") or split[index], example_row(pair))

    # --- the steps ----------------------------------------------------------------------------------

    def _make_parts(
        self, parts: Parts, paths: list[Path], workspace: Workspace, manifest: Manifest, progress: Progress, out: Path
    ) -> None:
        """Counts what the given sources hold and has what they leave short made. What is worked out here is not done again."""
        with self._timed("discover"):
            given = [f for f in source_files(paths, out, self.preset) if f.skip_reason is None and not in_parts(f.path, out)]
        if not given:
            raise DataError(f"no conversations found in {', '.join(map(str, paths))}")
        with self._timed("read"):
            reads = self._read(given, workspace, manifest, progress)
        there = available(self._steps(reads, workspace, progress), self.settings.data)
        with self._timed("generate"):
            task = progress.add_task("generate", total=None)
            parts(there, out / PARTS, lambda: progress.advance(task))

    def _steps(self, reads: list[ReadShard], workspace: Workspace, progress: Progress) -> Steps:
        settings = self.settings.data
        with self._timed("select"):
            selection = select(reads, settings)
        row_starts = _starts([shard.rows for shard in reads])
        with self._timed("pair"):
            pairs: list[PairShard] = []
            privacy = Privacy(settings, self.settings.home)
            for shard, start in self._track(progress, "pair", list(zip(reads, row_starts, strict=True)), len(reads)):
                left_out = {i for i in range(shard.rows) if start + i in selection.reason}
                pairs.append(pair_shard(shard, left_out, settings, workspace, privacy))
            duplicates = duplicate_pairs(pairs, row_starts, selection, settings)
        with self._timed("judge"):
            judged = list(self._track(progress, "judge", judge_shards(pairs, self.judges, workspace), len(pairs)))
        looks = settings.review != "off" or bool(selection.marked)
        decisions = self._queue().decisions() if looks else {}
        starts = _starts([s.rows for s in pairs])
        return Steps(pairs, row_starts, starts, selection, duplicates, judged, self._min_coherence(), decisions)

    def _tell_blocked(self, pairs: Sequence[PairShard], out: Path) -> None:
        """One incident of what `data.phi = "block"` keeps out of a build, before there is a dataset."""
        conversations, found = blocked_personal_data(pairs)
        if conversations:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
            told = f"{conversations} conversations with personal data ({kinds}) were left out of the dataset"
            incidents_of(self.settings)(f"{told} {as_target(out.resolve().name)}: data.phi is block")

    def _min_coherence(self) -> float:
        wanted = self.settings.data.min_coherence
        return self.judges.operating_point("coherence") if wanted is None else wanted

    def _queue(self) -> ReviewQueue:
        return ReviewQueue(Store.at_home(self.settings.home))

    def _read(self, files: list[SourceFile], workspace: Workspace, manifest: Manifest, progress: Progress) -> list[ReadShard]:
        shards: list[ReadShard] = []
        for file in self._track(progress, "read", files, len(files)):
            if manifest.withdraws_file(file):
                log.info("%s is withdrawn and is not read", file.name)
                continue
            shards += read_shards(file, self.settings.data, workspace, manifest.withdrawn_in(file), lambda _: None)
        return shards

    # --- progress, time, result -----------------------------------------------------------------------

    @contextmanager
    def _progress(self) -> Iterator[Progress]:
        columns = (
            TextColumn("{task.description:>10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), disable=self.quiet) as progress:
            yield progress

    def _track(self, progress: Progress, name: str, items: Iterable[T], total: int) -> Iterator[T]:
        task = progress.add_task(name, total=total)
        for item in items:
            yield item
            progress.advance(task)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.timing[name] = self.timing.get(name, 0.0) + time.perf_counter() - started

    def _write_timing(self, out: Path, tally: Tally) -> None:
        """Beside the dataset, not in it: these figures differ from run to run."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        total = sum(self.timing.values())
        write_json(
            out / "work" / "timing.json",
            {
                "seconds": {k: round(v, 3) for k, v in self.timing.items()},
                "total_seconds": round(total, 3),
                "peak_memory_bytes": peak,
                "conversations_per_second": round(tally.total("conversations_in") / total, 2),
                "encoded_texts": self.embedder.encoded_texts,
            },
        )

    def _dataset(self, tally: Tally, out: Path, files: Sequence[SourceFile]) -> ProcessedDataset:
        paths = [out / f"{split}.jsonl" for split in SPLITS]
        pairs: Sequence[QAPair] = JsonlSequence(paths, lambda row, path: pair_of_row(row, path.stem))
        return ProcessedDataset(
            pairs,
            [],
            _voice_data(pairs, files),
            [],
            tally.total("conversations_in"),
            tally.success_rate(),
            tally.metrics(),
            {share: tally.shares[share] for share in SHARES},
            out,
        )


def _voice_data(pairs: Sequence[QAPair], files: Sequence[SourceFile]) -> Sequence[VoiceDataExample]:
    """The contract's records of the pairs from voice that were kept, as their sources have them (`examples` in a `source.toml`)."""
    paths = sorted({f.examples for f in files if f.examples is not None and f.share == "voice" and f.examples.is_file()})
    if not paths:
        return []
    answers = {content_hash(pair.answer) for pair in pairs if pair.metadata["share"] == "voice"}
    return JsonlSequence(
        paths,
        lambda row, _: from_dict(VoiceDataExample, row),
        keep=lambda row: content_hash(row["dialogue_pair"]["response"]) in answers,
    )


def _all_failed(reads: Sequence[ReadShard]) -> str:
    """The first failure where there is nothing else, as the end of a sentence; otherwise nothing."""
    rows = (row for shard in reads for row in shard.load())
    first = next(rows, None)
    if first is None:
        return "; they hold no records"
    if first["kind"] != "failure" or any(row["kind"] != "failure" for row in rows):
        return ""
    return f"; the first: {first['file']} ({first['locator']}) {first['error']}"


def _starts(counts: Sequence[int]) -> list[int]:
    out, at = [], 0
    for count in counts:
        out.append(at)
        at += count
    return out
