"""A run to look at: its losses by step, which experts serve which domain, and a page with both (`training.html`)."""

from __future__ import annotations

import base64
from importlib import resources
from pathlib import Path
from statistics import median

from attunement.storage.files import atomic_write, read_json, read_jsonl, write_text

SMOOTHED_STEPS = 10
DOMAINS_IN_A_ROW = 5


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


def draw_routing(run_dir: Path) -> Path | None:
    """Draws `routing.json` as `routing.png`: for each domain the share of its tokens that each expert serves, layer by layer."""
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot

    domains = {name: np.asarray(rows, dtype=float) for name, rows in read_json(run_dir / "routing.json").items()}
    if not domains:
        return None
    layers, experts = next(iter(domains.values())).shape
    columns = min(len(domains), DOMAINS_IN_A_ROW)
    rows = -(-len(domains) // columns)
    size = (1.4 + columns * max(1.8, 0.32 * experts), rows * (1.2 + max(1.4, 0.2 * layers)))
    figure, panels = pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, sharey=True)
    shares = {name: counts / np.maximum(1, counts.sum(1, keepdims=True)) for name, counts in domains.items()}
    top = max(2 / experts, max(float(s.max()) for s in shares.values()))
    for axes, (name, share) in zip(panels.flat, shares.items(), strict=False):
        image = axes.imshow(share, cmap="YlGnBu", vmin=0, vmax=top, aspect="auto")
        axes.set_title(f"{name.replace('_', ' ')}\n{int(domains[name][0].sum()):,} places", fontsize=9)
        axes.set_xticks(range(experts))
        axes.set_yticks(range(0, layers, max(1, layers // 8)))
        axes.tick_params(labelsize=7, length=0)
        axes.set_xlabel("expert", fontsize=8)
    for axes in panels.flat[len(shares) :]:
        axes.set_visible(False)
    for row in panels:
        row[0].set_ylabel("layer", fontsize=8)
    figure.colorbar(image, ax=panels, label="share of a domain's tokens", shrink=0.9)
    path = run_dir / "routing.png"
    with atomic_write(path, binary=True) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return path


def write_page(run_dir: Path) -> Path:
    """Writes `training.html`: one page with no outside parts."""
    import jinja2

    text = resources.files("attunement.training").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    events, rows = run_dir / "events.jsonl", list(read_jsonl(run_dir / "metrics.jsonl"))
    drawn = {name: run_dir / f"{name}.png" for name in ("loss", "routing")}
    page = environment.from_string(text).render(
        name=run_dir.name,
        **{name: read_json(run_dir / f"{name}.json") for name in ("run", "config", "dataset", "environment", "mixture")},
        events=list(read_jsonl(events)) if events.exists() else [],
        speed=median(row["tokens_per_second"] for row in rows) if rows else 0,
        plots={n: "data:image/png;base64," + base64.b64encode(p.read_bytes()).decode() for n, p in drawn.items() if p.exists()},
    )
    write_text(run_dir / "training.html", page)
    return run_dir / "training.html"
