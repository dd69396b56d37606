"""A run to look at: its losses by step, which experts serve which domain, and a page with both (`training.html`).

Of a tuning on preferences: losses, margins and accuracies by step, and what it was worth on held-out pairs.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from statistics import fmean, median
from typing import Any

from attunement.storage.files import atomic_write, read_json, read_jsonl, write_text

SMOOTHED_STEPS = 10
DOMAINS_IN_A_ROW = 5
TRAINED, HELD_OUT = "#1b6f72", "#c98a3d"


def draw_loss(run_dir: Path) -> Path:
    """Draws `metrics.jsonl` as `loss.png` beside it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = list(read_jsonl(run_dir / "metrics.jsonl"))
    figure, axes = pyplot.subplots(figsize=(7.2, 3.2), layout="constrained")
    _draw_smoothed(axes, rows, "loss")
    checked = [row for row in rows if row["validation_loss"] is not None]
    if checked:
        losses = [row["validation_loss"] for row in checked]
        axes.plot([row["step"] for row in checked], losses, "o-", color=HELD_OUT, label="validation")
    _finish(axes, "loss, nats per token")
    axes.set_xlabel("optimiser step")
    return _saved(figure, run_dir / "loss.png")


def draw_preference(run_dir: Path) -> Path:
    """Draws a tuning's `metrics.jsonl` and `preference.json` as `preference.png`: loss, margin and accuracy of the reward by step."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows, told = list(read_jsonl(run_dir / "metrics.jsonl")), read_json(run_dir / "preference.json").get("reward")
    figure, panels = pyplot.subplots(3, 1, figsize=(7.2, 7.2), layout="constrained", sharex=True)
    labels = {"loss": "loss", "reward_margin": "reward margin", "reward_accuracy": "reward accuracy"}
    for axes, (name, label) in zip(panels, labels.items(), strict=True):
        _draw_smoothed(axes, rows, name)
        measured = name.replace("reward", "held_out")
        points = [(row["step"], row[measured]) for row in rows if measured in row]
        if told and name != "loss":
            before, after = told[name.removeprefix("reward_")]
            points = [(0, before), *points, (rows[-1]["step"], after)]
            axes.plot(*zip(*points, strict=True), "o-", color=HELD_OUT, label="held-out pairs")
        _finish(axes, label)
    panels[-1].set_ylim(-0.02, 1.05)
    panels[-1].axhline(0.5, color="#8a94a3", linewidth=0.8, linestyle=":")
    panels[-1].set_xlabel("optimiser step")
    return _saved(figure, run_dir / "preference.png")


def _draw_smoothed(axes: Any, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """A column of `metrics.jsonl`, pale, and its running mean."""
    values, steps = [row[name] for row in rows], [row["step"] for row in rows]
    window = max(1, min(SMOOTHED_STEPS, len(rows) // 5))
    recent = [fmean(values[max(0, i - window + 1) : i + 1]) for i in range(len(values))]
    axes.plot(steps, values, color=TRAINED, alpha=0.25, linewidth=1)
    axes.plot(steps, recent, color=TRAINED, label=f"training, mean of {window} steps")


def _finish(axes: Any, label: str) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_ylabel(label)
    axes.legend(frameon=False)


def _saved(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

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
    return _saved(figure, run_dir / "routing.png")


def write_page(run_dir: Path, name: str = "") -> Path:
    """Writes `training.html` of the run in `run_dir`, called `name` if the folder is not yet: one page with no outside parts."""
    import jinja2

    text = resources.files("attunement.training").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    events, rows = run_dir / "events.jsonl", list(read_jsonl(run_dir / "metrics.jsonl"))
    drawn = {part: run_dir / f"{part}.png" for part in ("loss", "routing", "preference")}
    told = {part: run_dir / f"{part}.json" for part in ("run", "config", "dataset", "environment", "mixture", "preference")}
    speeds = [row["tokens_per_second"] for row in rows if "tokens_per_second" in row]
    page = environment.from_string(text).render(
        name=name or run_dir.name,
        **{part: read_json(path) for part, path in told.items() if path.exists()},
        events=list(read_jsonl(events)) if events.exists() else [],
        speed=median(speeds) if speeds else 0,
        plots={n: "data:image/png;base64," + base64.b64encode(p.read_bytes()).decode() for n, p in drawn.items() if p.exists()},
    )
    write_text(run_dir / "training.html", page)
    return run_dir / "training.html"
