"""The mixture of a dataset beside its target: each share, what limits the size, and what to do to get more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attunement.config import DataSettings
from attunement.records import SHARES

BALANCE_TOLERANCE = 0.01
"""How far a share may be from its target, of the examples of all splits and of the training split."""
MORE = {
    "standard": "give more conversations",
    "edge_case": 'have a clinician accept what waits (attune review list), give conversations of your own with share = "edge_case" in '
    "a source.toml, or let a language model write them (full.provider)",
    "voice": 'give more talk that was recorded, with share = "voice" in its source.toml',
    "knowledge": "import more concepts (attune knowledge import, or full.knowledge)",
    "dual_persona": 'have a clinician accept what waits (attune review list), give dialogues of your own with share = "dual_persona" in '
    "a source.toml, or let a language model write them (full.provider)",
}
"""What brings more examples of a share."""


def mixture(
    settings: DataSettings,
    available: Mapping[str, int],
    reached: Mapping[str, Mapping[str, int]],
    waiting: Mapping[str, int],
    generated: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The balance as plain data.

    `available` counts examples before the balance, `reached["kept"]` and `reached["train"]` after it, `waiting` the pairs that
    clinical review holds, all by share. `generated` is what a full build made for a share.
    """
    target = {share: settings.target_balance.get(share, 0.0) for share in SHARES}
    totals = {name: sum(counts.get(share, 0) for share in SHARES) for name, counts in reached.items()}
    parts = {
        name: {share: round(counts.get(share, 0) / totals[name], 4) if totals[name] else 0.0 for share in SHARES}
        for name, counts in reached.items()
    }
    rows = {
        share: {
            "target": target[share],
            "share": parts["kept"][share],
            "train_share": parts["train"][share],
            "available": available.get(share, 0),
            "kept": reached["kept"].get(share, 0),
            "left_out": available.get(share, 0) - reached["kept"].get(share, 0),
            "waits_for_review": waiting.get(share, 0),
            **({"generated": dict(generated[share])} if share in generated else {}),
        }
        for share in SHARES
    }
    missing = [share for share in SHARES if target[share] and not available.get(share)]
    off = {name: round(max(abs(parts[name][share] - target[share]) for share in SHARES), 4) for name in parts}
    there = {share: available[share] / target[share] for share in SHARES if target[share] and available.get(share)}
    enforced = settings.balance == "enforce"
    limits = min(there, key=lambda share: there[share]) if enforced and there else None
    return {
        "mode": settings.balance,
        "shares": rows,
        "off_target": {"overall": off["kept"], "train": off["train"]},
        "met": enforced and not missing and max(off.values()) <= BALANCE_TOLERANCE,
        "missing": missing,
        "limits": limits,
        "notes": _notes(rows, missing, limits, off, target) if enforced else [],
    }


def _notes(
    rows: Mapping[str, Mapping[str, Any]],
    missing: list[str],
    limits: str | None,
    off: Mapping[str, float],
    target: Mapping[str, float],
) -> list[str]:
    """Sentences for the user: what is missing and what the mixture is instead, what limits it, what waits."""
    told = []
    if missing:
        rest = sum(target[share] for share in target if share not in missing)
        shares = ", ".join(f"{100 * target[s] / rest + 1e-9:.1f} % {s}" for s in target if target[s] and s not in missing)
        what = "; ".join(f"for {share}, {MORE[share]}" for share in missing)
        told.append(
            f"there are no {' and no '.join(missing)} examples: the mixture is {shares or 'empty'} instead. To mend it: {what}"
        )
    elif max(off.values()) > BALANCE_TOLERANCE:
        told.append(
            f"a share is {100 * max(off.values()):.1f} percentage points from its target: what may not be parted between splits is too big a part of it. "
            "More conversations mend it, or data.validation_share=0 and data.test_share=0"
        )
    if limits:
        row = rows[limits]
        total = sum(r["kept"] for r in rows.values())
        more = f", and {row['waits_for_review']:,} wait for review" if row["waits_for_review"] else ""
        told.append(
            f"{limits} limits the size: of {row['available']:,} examples {row['kept']:,} are {100 * row['share']:.1f} % of {total:,}"
            f"{more}. For more, {MORE[limits]}"
        )
    if waits := sum(row["waits_for_review"] for row in rows.values()):
        told.append(
            f"{waits:,} pairs wait for clinical review and are left out until somebody accepts them (attune review list); "
            "data.release_unreviewed=true lets in what came marked for it, and the dataset card says so"
        )
    return told
