"""The curve of a run: training and validation loss by step."""

from __future__ import annotations

from pathlib import Path

from attunement.storage.files import atomic_write, read_jsonl

SMOOTHED_STEPS = 10


def draw_loss(run_dir: Path) -> Path:
    """Draws `metrics.jsonl` as `loss.png` beside it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = list(read_jsonl(run_dir / "metrics.jsonl"))
    figure, axes = pyplot.subplots(figsize=(7.2, 3.2), layout="constrained")
    steps = [row["step"] for row in rows]
    window = max(1, min(SMOOTHED_STEPS, len(rows) // 5))
    recent = [[r["loss"] for r in rows[max(0, i - window + 1) : i + 1]] for i in range(len(rows))]
    axes.plot(steps, [row["loss"] for row in rows], color="#1b6f72", alpha=0.25, linewidth=1)
    axes.plot(steps, [sum(part) / len(part) for part in recent], color="#1b6f72", label=f"training, mean of {window} steps")
    checked = [row for row in rows if row["validation_loss"] is not None]
    if checked:
        losses = [row["validation_loss"] for row in checked]
        axes.plot([row["step"] for row in checked], losses, "o-", color="#c98a3d", label="validation")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("loss, nats per token")
    axes.legend(frameon=False)
    path = run_dir / "loss.png"
    with atomic_write(path, binary=True) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return path
