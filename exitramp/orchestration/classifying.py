"""A tier by a classifier that was trained on labelled questions: where it is sure enough, in place of the written rule.

It asks an embedder for the question's vector and its own graph for how probable each label is. Whatever keeps it from
that (a vendor that is down, a text without a vector) is a reason in the trace, and the written rule decides.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from exitramp.clock import Clock
from exitramp.embedding_identity import Identified, Sameness, compare
from exitramp.errors import ConfigError, DataInvalid, ModelDiffers, ModelError
from exitramp.orchestration.classifier_file import ClassifierFile, Session
from exitramp.orchestration.reranking import embed_told, why_not
from exitramp.orchestration.routing import Judged
from exitramp.orchestration.side_calls import question_vectors
from exitramp.orchestration.stack_file import ClassifierSpec, Tier
from exitramp.ports import Embedder, Purpose

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_KEPT_VECTORS: Final = 1024


class TierClassifier:
    """An opened classifier. Thread-safe. Vectors of questions are kept, the eldest leaving first: a request that comes
    again pays for none."""

    def __init__(self, spec: ClassifierSpec, embedder: Embedder, clock: Clock) -> None:
        """Raises `ConfigError` for a file that is no classifier of tiers, `IntegrityError` for one that is damaged,
        `DependencyMissing` without onnxruntime."""
        self.spec = spec
        self._embedder = embedder
        self._clock = clock
        self._file = ClassifierFile.read(spec.path)
        self._tiers = _tiers(self._file, spec)
        self._session = Session(self._file)
        self._is_same = False
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, npt.NDArray[np.float32]] = OrderedDict()

    def require_embedder(self) -> str | None:
        """Raises `ModelDiffers` with both fingerprints where the embedder is not the one whose vectors it was trained
        on, `ModelError` where it has to be asked and does not answer. Returns what nobody can know of the two."""
        trained, given = self._file.embedder, Identified(self._embedder.model(), self._embedder.dimensions)
        found = compare(trained, given)
        if found.sameness is Sameness.DIFFERENT:
            raise ModelDiffers(
                f"{self._file.path} was trained on vectors of another embedding model than '{self.spec.embedder}': "
                f"different are {found.differing_words}; it was trained on [{trained}], the one given is [{given}]",
                hint="name the embedder that it was trained on, or export the classifier again over this one",
            )
        self._is_same = True
        if found.sameness is Sameness.SAME:
            return None
        return (
            f"that '{self.spec.embedder}' is the embedding model that {self._file.path} was trained on cannot be "
            f"shown: unknown of one of them are {found.unknown_words}"
        )

    def judge(self, text: str) -> Judged:
        """Embeds the text, unless it is known; tells that as a side call."""
        try:
            if not self._is_same:
                self.require_embedder()
            vector = self.vector(text)
        except (ModelError, DataInvalid) as error:
            return Judged(None, f"not classified: {why_not(error)}")
        except ModelDiffers:
            return Judged(None, "not classified: another embedder")
        found = self._session.probabilities(vector)
        best = max(range(len(found)), key=found.__getitem__)
        label, probability, threshold = self._file.labels[best], round(found[best], 4), self.spec.threshold
        tier = self._tiers[label]
        said = f"classifier {label}" + ("" if label == tier else f" ({tier})")
        if probability >= threshold:
            return Judged(tier, f"{said} {probability:g} >= {threshold:g}")
        return Judged(None, f"{said} {probability:g} < {threshold:g}")

    def vector(self, text: str) -> npt.NDArray[np.float32]:
        """As the embedder makes it. Raises as that does, or `ModelError` where its vector is of another length."""
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            known = self._kept.get(key)
        if known is not None:
            question_vectors().keep(self._embedder, text, known)  # a store that is asked by it needs it too
            return known
        seconds = self.spec.timeout_seconds
        made: npt.NDArray[np.float32] = embed_told(self._embedder, [text], Purpose.QUERY, seconds, self._clock)[0]
        if len(made) != self._file.embedder.dimensions:
            raise ModelError(
                f"a vector of {len(made)} numbers, and not {self._file.embedder.dimensions}", error_class="malformed"
            )
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > _KEPT_VECTORS:
                self._kept.popitem(last=False)
        return made


def _tiers(file: ClassifierFile, spec: ClassifierSpec) -> dict[str, Tier]:
    """Of each label, its tier: by its own name, or by what the stack file says. Raises `ConfigError`."""
    listed = ", ".join(file.labels)
    unknown = [name for name in spec.tiers if name not in file.labels]
    if unknown:
        raise ConfigError(f"'tiers' names '{unknown[0]}', which {file.path} does not tell; it tells: {listed}")
    named = dict(spec.tiers) or {tier.value: tier for tier in Tier}
    for label in file.labels:
        if label not in named:
            raise ConfigError(
                f"{file.path} tells '{label}', and nothing says which tier that is; it tells: {listed}",
                hint="write tiers: {LABEL: small, medium or large} with each label, or train it on a column of tiers",
            )
    return {label: named[label] for label in file.labels}
