"""`report.html` of a run: one page with no outside parts that a clinician can read."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from attunement.storage.files import read_json, write_text


def write_report(results: Mapping[str, Any], run: Path) -> Path:
    """Renders `results` (see `EvaluationSuite.evaluate`), with the run's curve, as `run/report.html`."""
    import jinja2

    text = resources.files("attunement.evaluation").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    state = read_json(run / "run.json") if (run / "run.json").is_file() else {}
    plots = {"experts": _as_address(_draw_experts(results["expert_usage"]))}
    if (run / "loss.png").is_file():
        plots["loss"] = _as_address((run / "loss.png").read_bytes())
    path = run / "report.html"
    write_text(path, environment.from_string(text).render(results=results, run=state, plots=plots))
    return path


def _as_address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _draw_experts(usage: list[list[float]]) -> bytes:
    """A heat map, layers by experts; the middle of the scale is an even share."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    experts = len(usage[0])
    figure, axes = pyplot.subplots(figsize=(1.6 + 0.75 * experts, 1.2 + 0.36 * len(usage)), layout="constrained")
    image = axes.imshow(usage, cmap="BrBG", vmin=0, vmax=2 / experts, aspect="auto")
    axes.set_xticks(range(experts), [str(e + 1) for e in range(experts)])
    axes.set_yticks(range(len(usage)), [str(layer + 1) for layer in range(len(usage))])
    axes.set_xlabel("expert")
    axes.set_ylabel("layer")
    for layer, row in enumerate(usage):
        for expert, share in enumerate(row):
            axes.annotate(f"{share:.0%}", (expert, layer), ha="center", va="center", fontsize=7)
    figure.colorbar(image, ax=axes, label="share of tokens", shrink=0.9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return buffer.getvalue()
