"""`dataset_card.md`: sources, licences, transformations, versions and hashes, in the Hugging Face form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attunement import __version__
from attunement.config import Settings
from attunement.curation.balance import SPLITS
from attunement.readers.files import SourceFile
from attunement.storage.files import file_hash, write_text

_HEAD = """---
language: en
task_categories: [text-generation]
tags: [mental-health, therapeutic-dialogue]
configs:
- config_name: default
  data_files:
{splits}
---
# Training set of therapeutic dialogue

{examples:,} examples from {kept:,} of {came_in:,} conversations, made by Attunement {version}.

**It holds what people in distress wrote. It is no substitute for a clinician, and a model that is trained on it must not
stand alone with a person in crisis.** {licence_note}{unreviewed}

## Splits
{split_table}

Split by conversation: near-duplicates (from similarity 0.5), conversations with the same long question and
conversations that their source groups stand in one split.

## Sources and licences
{source_table}
{made}
## Transformations
1. read: {files} files; markup and white space cleaned, adjacent turns of one speaker joined
2. select: empty conversations, licences that are not allowed{allow}, near-duplicates from Jaccard {threshold} of word
   3-grams (MinHash, {permutations} permutations)
3. pair: personal data, as said below; content type; half of the questions extracted from the talk, half made from context ({extracted:.1%} / {contextual:.1%});
   answers of {shortest} to {longest} words; pairs that repeat another one are left out
4. judge: coherence of question, context and answer, danger, safety, bias, skill ({embedding}, {precision}, {tokens} tokens); under a
   coherence of {coherence} left out
5. review: pairs of high risk, {review}; pairs of conversations that came marked for clinical review, {marked}
6. balance: {balance}

{personal}

## Files
{file_table}
"""


def write_card(report: Mapping[str, Any], files: Sequence[SourceFile], settings: Settings, out: Path) -> None:
    """Writes the card from the quality report and the files themselves."""
    data = settings.data
    used = [f for f in files if f.skip_reason is None]
    classes = {row["licence_class"] for row in report["sources"].values()}
    note = (
        "All sources may be redistributed."
        if classes <= {"R"}
        else "Some sources may not be redistributed or used commercially (see the table): neither may this set, nor what is trained on it "
        "without their licences being kept."
    )
    write_text(
        out / "dataset_card.md",
        _HEAD.format(
            splits="\n".join(f"  - split: {s}\n    path: {s}.jsonl" for s in SPLITS),
            examples=report["pairs"]["kept"],
            kept=report["conversations"]["kept"],
            came_in=report["conversations"]["in"],
            version=__version__,
            licence_note=note,
            split_table=_table(["split", "examples"], [[s, f"{report['splits'][s]:,}"] for s in SPLITS]),
            source_table=_table(
                ["source", "class", "licence", "conversations", "examples"],
                [
                    [
                        name,
                        row["licence_class"],
                        row["licence"],
                        f"{row['conversations_kept']:,} of {row['conversations_in']:,}",
                        f"{row['pairs_kept']:,}",
                    ]
                    for name, row in report["sources"].items()
                ],
            ),
            made=_made(report["balance"]["shares"]),
            files=len(used),
            allow=f" (allowed: {', '.join(data.licence_allow)})" if data.licence_allow else "",
            threshold=data.near_duplicate_threshold,
            permutations=data.minhash_permutations,
            extracted=report["questions"]["extracted_share"],
            contextual=report["questions"]["contextual_share"],
            shortest=data.min_answer_words,
            longest=data.max_answer_words,
            embedding=settings.embedding.model,
            precision=settings.embedding.precision,
            tokens=settings.embedding.max_tokens,
            coherence=report["semantic_score"]["threshold"],
            review={"hold": "left out until a clinician accepts them", "list": "kept and listed", "off": "not looked for"}[
                data.review
            ],
            marked="released before it" if data.release_unreviewed else "left out until a clinician accepts them",
            personal=_personal(report["personal_data"]),
            unreviewed=_unreviewed(report["review"]["released_unreviewed"]),
            balance="kept as it came" if data.balance == "report" else "brought to the target by leaving out at random",
            file_table=_table(
                ["file", "sha256"],
                [[f"{s}.jsonl", f"`{file_hash(out / f'{s}.jsonl')}`"] for s in SPLITS]
                + [[f.name, f"`{f.sha256}`"] for f in used],
            ),
        ),
    )


def _personal(found: Mapping[str, Any]) -> str:
    """What became of personal data. No finder finds all, and the card does not say that none is left."""
    counts = ", ".join(f"{count:,} {kind}" for kind, count in found["found"].items()) or "none"
    told = f"in {found['conversations']:,} of the conversations kept ({counts})"
    return {
        "redact": f"Personal data that was found was replaced by placeholders, {told}. No finder finds all.",
        "pseudonymise": f"Personal data that was found was replaced by made-up data, {told}. No finder finds all.",
        "block": "Conversations in which personal data was found were left out. No finder finds all.",
        "report": f"**Personal data was found and is still there**, {told} (`data.phi`).",
    }[found["mode"]] + " Conversations that were generated were not searched: nobody said them."


def _made(shares: Mapping[str, Mapping[str, Any]]) -> str:
    """A paragraph about what a full build made."""
    made = {share: row["generated"] for share, row in shares.items() if row.get("generated", {}).get("conversations")}
    if not made:
        return ""
    told = "; ".join(
        f"{row['conversations']:,} {'questions' if share == 'knowledge' else 'conversations'} of {share} by {row['by']}"
        for share, row in made.items()
    )
    return f"\nNobody has had these: made for this set were {told}.\n"


def _unreviewed(count: int) -> str:
    if not count:
        return ""
    return (
        f"\n\n**{count:,} examples come from conversations that were marked for clinical review, and no clinician has seen them**"
        " (`data.release_unreviewed`)."
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
