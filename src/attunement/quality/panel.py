"""The judges at work: their weights, one set of features for all of them, and the verdicts that they gave before.

A judge's weights come from the user's home (`attune quality train`) where they are, otherwise from the package, which ships what was
trained on sets that may be redistributed.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.embedding import PACKAGED, SHIPPED, Embedder
from attunement.errors import ModelError
from attunement.quality.features import Features
from attunement.quality.heads import Head, Seen
from attunement.quality.judges import JUDGES, Judge, find
from attunement.quality.looking import look
from attunement.quality.verdicts import Item, Verdict
from attunement.storage.files import content_hash

WEIGHTS = Path(__file__).parent / "weights"
"""The shipped judges."""
LEXICONS = Path(__file__).parent / "lexicon"
KEPT_VERDICTS, KEPT_LOOKS = 65536, 4
VERDICT_VERSION = 1
"""Goes up when the same weights would give other verdicts (a point or a way of reading was changed)."""


@dataclass(eq=False)
class _Asked:
    """What a thread wants judged, and what it gets."""

    judge: Judge
    items: Sequence[Item]
    told: list[Verdict] | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.told is not None or self.error is not None


def _key_of(name: str, item: Item) -> bytes:
    return hashlib.blake2b(repr((name, item)).encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Judges:
    """All judges over one set of features. Weights load when a judge is first asked; `home` may hold the user's own.

    For any number of threads: what several ask while another is judged is judged together. Verdicts are kept under the hash of what
    was judged, the newest `kept` of them (about 1 KB each). Judges that were trained with another encoder than `embedder`'s (the shipped
    ones, where `embedding.model` names a foreign model) get one of their own.
    """

    def __init__(self, embedder: Embedder | None = None, home: Path | None = None, *, kept: int = KEPT_VERDICTS) -> None:
        self.embedder, self._most = embedder or Embedder(), kept
        self.home = home
        self._lock = threading.RLock()
        self._queue: deque[_Asked] = deque()
        self._heads: dict[str, Head] = {}
        self._features: dict[str, Features] = {}
        self._seen: OrderedDict[tuple[str, str, tuple[Item, ...]], Seen] = OrderedDict()
        self._kept: OrderedDict[bytes, Verdict] = OrderedDict()

    @property
    def features(self) -> Features:
        """Those of the configured encoder."""
        return self._features_of(self.embedder.settings.model)

    def _features_of(self, model: str) -> Features:
        if model not in self._features:
            own = self.embedder.settings.model == model
            embedder = self.embedder if own else Embedder(self.embedder.settings.model_copy(update={"model": model}))
            self._features[model] = Features(embedder)
        return self._features[model]

    def path(self, name: str) -> Path | None:
        """The weights in use: the user's own, else the shipped ones, else None."""
        places = [self.home / "judges" / f"{name}.npz"] if self.home else []
        return next((p for p in [*places, WEIGHTS / f"{name}.npz"] if p.is_file()), None)

    def head(self, name: str) -> Head:
        """The weights of judge `name`. Raises `ModelError` when there are none, or their encoder is not to be had."""
        if name not in self._heads:
            path = self.path(find(name).name)
            if path is None:
                raise ModelError(f"the judge '{name}' has no weights yet: train it with  attune quality train {name} --data DIR")
            head = Head.from_bytes(path.read_bytes(), name)
            if head.shape != find(name).shape:
                raise ModelError(
                    f"the judge {path} was made for another version: train it again with  attune quality train {name}"
                )
            made_with, used = head.notes.get("encoder", ""), self.embedder.settings.model
            if made_with not in (used, PACKAGED, SHIPPED):
                raise ModelError(
                    f"the judge '{name}' reads vectors of {made_with}, not of {used} (embedding.model): train it again with"
                    f"  attune quality train {name} --data DIR"
                )
            self._heads[name] = head
        return self._heads[name]

    def operating_point(self, name: str) -> float:
        """The score from which a verdict of judge `name` is positive."""
        return float(self.head(name).notes["operating_point"])

    def watch_point(self, name: str) -> float:
        """The lower score from which a miss would cost more than a false alarm that is answered gently."""
        return float(self.head(name).notes.get("watch_point", self.operating_point(name)))

    def fingerprint(self) -> str:
        """Changes with the weights in use, the rules, the encoder and how it computes: what was judged before is out of date then."""
        rules = {path.name: content_hash(path.read_bytes()) for path in sorted(LEXICONS.glob("*.toml"))}
        used = {name: content_hash(path.read_bytes()) for name in JUDGES if (path := self.path(name))}
        settings = self.embedder.settings
        return content_hash(
            [VERDICT_VERSION, rules, used, settings.model, settings.max_tokens, settings.runtime, settings.precision]
        )

    def topics(self, texts: Sequence[str]) -> list[int]:
        """Of the coherence judge's bank of questions the one that is nearest to each text."""
        if not texts:
            return []
        return [int(place) for place in (self.vectors(texts) @ self.head("coherence").extras["bank"].T).argmax(1)]

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The sentence vectors `[n, d]` that coherence is judged by."""
        with self._lock:
            return self._features_of(self.head("coherence").notes["encoder"]).vectors(texts)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The configured encoder's vectors `[n, d]`, whatever the judges read by; `Embedder.encode` for any number of threads."""
        with self._lock:
            return self.embedder.encode(texts)

    def judge(self, name: str, items: Sequence[Item]) -> list[Verdict]:
        """The verdicts of judge `name` on `items`, in order: the same alone, in any batch and in any order."""
        return self.judge_each([name], items)[0]

    def judge_each(self, names: Sequence[str], items: Sequence[Item]) -> list[list[Verdict]]:
        """`judge` of several judges on the same items."""
        asked = [_Asked(find(name), items, self._known(name, items)) for name in names]
        new = [each for each in asked if each.told is None]
        if new:
            self._queue.extend(new)
            with self._lock:  # the encoder and what is kept are for one thread at a time
                if not all(each.is_done for each in new):
                    self._judge_waiting(new)
        for each in asked:
            if each.error is not None:
                raise each.error
        return [each.told or [] for each in asked]

    def _known(self, name: str, items: Sequence[Item]) -> list[Verdict] | None:
        """What is kept of all `items`, without waiting for who judges now; None where one is missing."""
        found = [self._kept.get(_key_of(name, item)) for item in items]
        return None if None in found else [verdict for verdict in found if verdict is not None]

    def _judge_waiting(self, own: Sequence[_Asked]) -> None:
        """Who comes to the lock first judges for all who wait by then, one batch a judge: nobody waits for a batch to fill."""
        waiting: dict[str, list[_Asked]] = {}
        for asked in dict.fromkeys([*own, *(self._queue.popleft() for _ in range(len(self._queue)))]):
            if not asked.is_done:
                waiting.setdefault(asked.judge.name, []).append(asked)
        for together in waiting.values():
            try:
                told = iter(self._judge(together[0].judge, [item for asked in together for item in asked.items]))
                for asked in together:
                    asked.told = list(islice(told, len(asked.items)))
            except Exception:
                for asked in together:  # what one asked must not fail the others
                    try:
                        asked.told = self._judge(asked.judge, asked.items)
                    except Exception as error:
                        asked.error = error

    def _judge(self, judge: Judge, items: Sequence[Item]) -> list[Verdict]:
        name, head = judge.name, self.head(judge.name)
        keys = [_key_of(name, item) for item in items]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        new = {key: item for key, item in zip(keys, items, strict=True) if key not in found}
        if new:
            told = judge.verdicts(head, list(new.values()), lambda read: self._look(judge, head, read))
            found |= dict(zip(new, told, strict=True))
        for key in dict.fromkeys(keys):
            self._kept[key] = found[key]
            self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return [found[key] for key in keys]

    def _look(self, judge: Judge, head: Head, items: Sequence[Item]) -> Seen:
        """What several judges in a row see of the same items is computed once."""
        model = head.notes["encoder"]
        if judge.shape.reads == "answer":  # each has a bank of its own
            return look(self._features_of(model), judge.shape, items, head.extras.get("bank"))
        key = (judge.shape.reads, model, tuple(items))
        if key not in self._seen:
            self._seen[key] = look(self._features_of(model), judge.shape, items)
        self._seen.move_to_end(key)
        while len(self._seen) > KEPT_LOOKS:
            self._seen.popitem(last=False)
        return self._seen[key]

    def described(self) -> list[dict[str, Any]]:
        """Every judge: where its weights come from, their data, licences and figures."""
        rows = []
        for judge in JUDGES.values():
            path = self.path(judge.name)
            notes = Head.from_bytes(path.read_bytes(), judge.name).notes if path else {}
            place = "none" if path is None else "shipped" if path.parent == WEIGHTS else "home"
            rows.append({"judge": judge.name, "about": judge.about, "weights": place, "path": str(path or ""), **notes})
        return rows
