"""The packaged sentence encoder as an ONNX graph in 8 bits: built in memory from safetensors, run by ONNX Runtime.

The scales of activations are fixed beforehand on sample texts (`scripts/calibrate_encoder.py`), never taken from a
batch: a text's vector does not depend on what else is encoded with it. Each input channel of a matrix is scaled before
it is rounded, and the matrix's column by the inverse (SmoothQuant, Xiao 2022), because a few channels are a hundred
times larger than the rest: mean cosine to the 32-bit vectors 0.998, where one scale a tensor gave 0.953 (docs/LOG.md).

Shapes: B texts, T tokens, d hidden (384), N outputs and K inputs of a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.errors import ModelError

SMOOTHING = 0.8
"""How much of the channels' differences goes into the matrix; 0.5 (the paper's) gives a cosine of 0.90 here, 1.0 0.997."""
WIDE_FLOOR = 3.0
"""Smallest scale of a channel after the activation function, where most are near nothing and a few near fifty."""
EPSILON = 1e-12
MICROSOFT = "com.microsoft"
OPSET, IR_VERSION = 18, 10
OUTPUTS = ("vector", "first")

Weights = Mapping[str, NDArray[Any]]
Ranges = Mapping[str, NDArray[np.float32]]
"""By matrix, the smallest and the largest value of each input channel on sample texts, `[2, K]`."""


@dataclass(frozen=True)
class Quantised:
    """A matrix in 8 bits: `y = (codes.T @ (round(x / channel / step) + zero - zero)) * step * columns`.

    `codes` `[N, K]` int8, `columns` `[N]`, `channel` `[K]`.
    """

    codes: NDArray[np.int8]
    columns: NDArray[np.float32]
    channel: NDArray[np.float32]
    step: float
    zero: int


def quantise(matrix: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32], *, wide: bool) -> Quantised:
    """`matrix` `[N, K]`, whose inputs lie between `low` and `high` `[K]`; `wide` for the one after the activation."""
    largest = np.maximum(np.maximum(-low, high), 1e-5)
    if wide:
        channel = np.maximum(largest, WIDE_FLOOR)
    else:
        channel = largest**SMOOTHING / np.maximum(np.abs(matrix).max(0), 1e-5) ** (1 - SMOOTHING)
        channel /= np.exp(np.log(channel).mean())
    scaled = matrix * channel
    columns = np.maximum(np.abs(scaled).max(1), 1e-12) / 127.0
    codes = np.clip(np.rint(scaled / columns[:, None]), -127, 127).astype(np.int8)
    bottom, top = min(0.0, float((low / channel).min())), float((high / channel).max())
    step = (top - bottom) / 255.0
    return Quantised(codes, columns.astype(np.float32), channel.astype(np.float32), step, round(-bottom / step))


class _Graph:
    """Nodes and constants as they are added; each call returns the name of what it gives."""

    def __init__(self, ranges: Ranges | None, watched: list[tuple[str, str]] | None) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._ranges, self._watched = ranges, watched

    def constant(self, values: Any) -> str:
        from onnx import numpy_helper

        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values).reshape(np.shape(values)), name))
        return name

    def add(self, kind: str, inputs: Sequence[str], outputs: Sequence[str] = (), domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        names = list(outputs) or [f"value{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names[0]

    def multiply(self, name: str, value: str, matrix: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        """`value [B, T, K]` times the transposed `matrix [N, K]` plus `bias [N]`; in 8 bits where the ranges of its inputs are known."""
        if self._watched is not None:
            self._watched.append((name, value))
        if self._ranges is None:
            return self.add("Add", [self.add("MatMul", [value, self.constant(matrix.T)]), self.constant(bias)])
        low, high = self._ranges[name]
        found = quantise(matrix, low, high, wide=name.endswith(".output"))
        step, zero = self.constant(np.float32(found.step)), self.constant(np.uint8(found.zero))
        scaled = self.add("Mul", [value, self.constant(1 / found.channel)])
        rounded = self.add("QuantizeLinear", [scaled, step, zero])
        codes, columns = self.constant(found.codes.T), self.constant(found.columns)
        zeros = self.constant(np.zeros(len(found.columns), dtype=np.int8))
        inputs = [rounded, codes, step, columns, zero, zeros, self.constant(bias)]
        return self.add("MatMulIntegerToFloat", inputs, domain=MICROSOFT)

    def normalise(self, value: str, skip: str, weights: Weights, place: str) -> str:
        """Layer normalisation of `value + skip`; as `SkipLayerNormalization` it takes a sixth of the encoder's time (docs/LOG.md)."""
        scale, shift = (self.constant(weights[f"{place}.LayerNorm.{part}"]) for part in ("weight", "bias"))
        return self.add("LayerNormalization", [self.add("Add", [value, skip]), scale, shift], axis=-1, epsilon=EPSILON)


def build_graph(weights: Weights, heads: int, ranges: Ranges | None, watched: list[tuple[str, str]] | None = None) -> bytes:
    """A BERT encoder (`weights` under their Transformers names) with mean pooling: ids and mask `[B, T]` to `vector [B, d]`,
    and the first token's vector as `first [B, d]`.

    Both have length 1. Without `ranges` it computes in 32 bits. `watched` is filled with (matrix, name of its input),
    which become outputs.
    """
    from onnx import TensorProto, helper

    graph = _Graph(ranges, watched)
    hidden = _embeddings(graph, weights)
    mask = graph.add("Cast", ["attention_mask"], to=TensorProto.INT32)
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))
    for number in range(layers):
        hidden = _layer(graph, weights, f"encoder.layer.{number}", hidden, mask, heads)
    one = graph.constant(np.asarray([1], dtype=np.int64))
    counts = graph.add("Unsqueeze", [graph.add("Cast", ["attention_mask"], to=TensorProto.FLOAT), one])
    summed = graph.add("Squeeze", [graph.add("MatMul", [counts, hidden]), one])
    graph.add("LpNormalization", [summed], ["vector"], axis=-1, p=2)
    first = graph.add("Gather", [hidden, graph.constant(np.asarray(0, dtype=np.int64))], axis=1)
    graph.add("LpNormalization", [first], ["first"], axis=-1, p=2)
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "T"]) for name in ("input_ids", "attention_mask")]
    width = len(weights["embeddings.LayerNorm.bias"])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", width]) for name in OUTPUTS]
    outputs += [
        helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in dict.fromkeys(v for _, v in watched or ())
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "encoder", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=IR_VERSION,
    )
    return bytes(model.SerializeToString())


def _embeddings(graph: _Graph, weights: Weights) -> str:
    zero, one = (graph.constant(np.asarray([i], dtype=np.int64)) for i in (0, 1))
    length = graph.add("Gather", [graph.add("Shape", ["input_ids"]), one], axis=0)
    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][:1]
    words = graph.add("Gather", [graph.constant(weights["embeddings.word_embeddings.weight"]), "input_ids"])
    summed = graph.add("Add", [words, graph.add("Slice", [graph.constant(places), zero, length, zero])])
    scale, shift = (graph.constant(weights[f"embeddings.LayerNorm.{part}"]) for part in ("weight", "bias"))
    return graph.add("LayerNormalization", [summed, scale, shift], axis=-1, epsilon=EPSILON)


def _layer(graph: _Graph, weights: Weights, name: str, hidden: str, mask: str, heads: int) -> str:
    parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
    matrix, bias = (np.concatenate([weights[f"{part}.{kind}"] for part in parts]) for kind in ("weight", "bias"))
    together = graph.multiply(f"{name}.attention.self", hidden, matrix, bias)
    split = [f"{name}.{part}" for part in ("query", "key", "value")]
    graph.add("Split", [together], split, axis=-1, num_outputs=3)
    attended = graph.add("MultiHeadAttention", [*split, "", mask], domain=MICROSOFT, num_heads=heads)
    place = f"{name}.attention.output.dense"
    mixed = graph.multiply(place, attended, weights[f"{place}.weight"], weights[f"{place}.bias"])
    hidden = graph.normalise(mixed, hidden, weights, f"{name}.attention.output")
    place = f"{name}.intermediate"
    wide = graph.multiply(place, hidden, weights[f"{place}.dense.weight"], weights[f"{place}.dense.bias"])
    place = f"{name}.output"
    wide = graph.add("Gelu", [wide], domain=MICROSOFT)
    narrow = graph.multiply(place, wide, weights[f"{place}.dense.weight"], weights[f"{place}.dense.bias"])
    return graph.normalise(narrow, hidden, weights, place)


class OnnxEncoder:
    """Token ids to unit vectors, in 8 bits with `ranges`, in 32 without. One pool of threads, as many as cores."""

    def __init__(self, weights: Weights, *, heads: int, ranges: Ranges | None) -> None:
        self._session = _session(build_graph(weights, heads, ranges))

    def encode(self, ids: NDArray[np.int64], mask: NDArray[np.int64], *, both: bool = False) -> NDArray[np.float32]:
        """The mean vector, and with `both` the first token's, `[B, 1 or 2, d]`; `ids` and `mask` (1 where a token counts) `[B, T]`."""
        wanted = OUTPUTS if both else OUTPUTS[:1]
        return np.stack(self._session.run(list(wanted), {"input_ids": ids, "attention_mask": mask}), axis=1).astype(np.float32)


def measure_ranges(
    weights: Weights, heads: int, batches: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> dict[str, NDArray[np.float32]]:
    """`Ranges` of every matrix over `batches` of (ids, mask)."""
    watched: list[tuple[str, str]] = []
    session = _session(build_graph(weights, heads, None, watched))
    found: dict[str, NDArray[np.float32]] = {}
    for ids, mask in batches:
        values = session.run([value for _, value in watched], {"input_ids": ids, "attention_mask": mask})
        for (name, _), value in zip(watched, values, strict=True):
            real = value[mask.astype(bool)]
            seen = np.stack([real.min(0), real.max(0)])
            old = found.get(name, seen)
            found[name] = np.stack([np.minimum(old[0], seen[0]), np.maximum(old[1], seen[1])])
    return found


def _session(graph: bytes) -> Any:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads of this pool must not spin: the language model's threads need the same cores right after.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except (faults.Fail, faults.InvalidGraph, faults.InvalidArgument, faults.NotImplemented, faults.RuntimeException) as error:
        raise ModelError(f"ONNX Runtime cannot run the sentence encoder: set embedding.runtime=torch ({error})") from error


def load_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a safetensors file in 32 bits. Raises `ModelError`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return {name: np.asarray(value, dtype=np.float32) for name, value in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"the sentence encoder's weights {path} cannot be read: install the package again") from error


def multiplies_in_8_bits() -> bool:
    """Whether the processor multiplies bytes without overflow (VNNI, or ARM's dot product): without, 8 bits lose accuracy."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return any(f" {flag}" in flags for flag in ("avx512_vnni", "avx_vnni", "asimddp"))
