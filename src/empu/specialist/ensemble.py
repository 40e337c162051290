"""Choose and fit the members of a label specialist, and the weights of their mixture.

Test rows have no part in it: members learn from training rows, and weights from out-of-fold predictions of training
rows and from predictions of validation rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from empu.data.rows import Row
from empu.errors import UsageError
from empu.members.embeddings import EmbeddingMember, TextEncoder
from empu.members.ensemble import CascadeStage, Ensemble
from empu.members.fitting import (
    FOLDS,
    RECIPE,
    cross_validate,
    fit_embeddings,
    fit_tfidf,
    in_batches,
    rows_to_fit,
)
from empu.members.member import EMBEDDINGS, LANGUAGE_MODEL, MEMBERS, TFIDF, TITLES, FloatArray, Member, mix
from empu.members.weights import accuracy, choose_threshold, fit_weights, log_loss, select

AUTO = "auto"
MIN_VALIDATION_ROWS = 30
"""Validation rows without which ``auto`` cannot tell whether a mixture is better."""
FEW_HELD_OUT_ROWS = 300
"""Below this many validation rows, out-of-fold predictions of the training rows are used as well."""
MIN_GAIN = 1.0
"""Log likelihood, in nats, that a member has to add: Akaike's criterion for one parameter."""
LOWEST_RISK, RISK_FRACTION = 0.005, 0.5
"""The cascade's early stages may err in this fraction of their answers, or in this part of the whole's error rate."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MembersPlan:
    """The members that a run fits."""

    names: tuple[str, ...]
    is_auto: bool
    encoder: TextEncoder | None

    def to_json(self) -> dict[str, Any]:
        """Return what determines the members, for the identity of the run."""
        return {
            "names": list(self.names),
            "auto": self.is_auto,
            "encoder": self.encoder.id if self.encoder is not None and EMBEDDINGS in self.names else None,
            "recipe": RECIPE,
        }


def plan_members(requested: str, encoders: Sequence[TextEncoder]) -> MembersPlan:
    """Return the members of ``--members``. Raises :class:`UsageError` for an impossible list."""
    encoder = encoders[0] if encoders else None
    if requested == AUTO:
        names = tuple(name for name in MEMBERS if name != EMBEDDINGS or encoder is not None)
        return MembersPlan(names, True, encoder)
    chosen = [name.strip() for name in requested.split(",")]
    if unknown := [name for name in chosen if name not in MEMBERS]:
        raise UsageError(f"--members has no member {unknown[0]!r}; choose from {', '.join(MEMBERS)}, or write auto.")
    if LANGUAGE_MODEL not in chosen:
        raise UsageError(f"--members needs {LANGUAGE_MODEL}, the language model that is tuned; add it.")
    if EMBEDDINGS in chosen and encoder is None:
        raise UsageError(
            f"--members has {EMBEDDINGS}, and no text encoder is installed; install one (see docs/TUNING.md), or "
            "leave it out."
        )
    return MembersPlan(tuple(name for name in MEMBERS if name in chosen), False, encoder)


def fit_members(
    plan: MembersPlan,
    rows: Sequence[Row],
    labels: Sequence[str],
    vectors: npt.NDArray[np.float32] | None,
    *,
    seed: int = 0,
) -> dict[str, Member]:
    """Fit the planned members beside the language model. ``vectors`` are those of ``rows``."""
    targets, texts = label_indices(rows, labels), [row.question() for row in rows]
    members: dict[str, Member] = {}
    if TFIDF in plan.names:
        members[TFIDF] = fit_tfidf(texts, targets, len(labels), seed=seed)
    if EMBEDDINGS in plan.names:
        assert vectors is not None
        assert plan.encoder is not None
        members[EMBEDDINGS] = fit_embeddings(vectors, targets, len(labels), plan.encoder)
    return members


def rows_for_members(rows: Sequence[Row], labels: Sequence[str]) -> list[Row]:
    """Return the training rows that members are fitted on."""
    known = [row for row in rows if row.label in set(labels)]
    return [known[i] for i in rows_to_fit(len(known), len(labels))]


def embed_rows(
    plan: MembersPlan, rows: Sequence[Row], on_rows: Callable[[int], None] = lambda count: None
) -> npt.NDArray[np.float32] | None:
    """Return the vectors of the rows, if a member needs them."""
    if EMBEDDINGS not in plan.names or plan.encoder is None:
        return None
    return in_batches(plan.encoder.encode_queries, [row.question() for row in rows], on_rows)


def choose_ensemble(
    plan: MembersPlan,
    train: Sequence[Row],
    dev: Sequence[Row],
    labels: Sequence[str],
    language_model: FloatArray,
    calibration: tuple[float, float] | None,
    *,
    seed: int = 0,
    on_rows: Callable[[int], None] = lambda count: None,
) -> tuple[Ensemble | None, str]:
    """Return the ensemble, ``None`` if the language model alone is as good, and the reason in one sentence.

    ``language_model``: (validation rows, labels) log-probabilities. ``calibration``: of the language model alone.
    ``on_rows`` is called with numbers of rows that were embedded.
    """
    dev_known = [i for i, row in enumerate(dev) if row.label in set(labels)]
    if plan.names == (LANGUAGE_MODEL,):
        return None, "The specialist is the language model alone."
    if plan.is_auto and len(dev_known) < MIN_VALIDATION_ROWS:
        return None, (
            f"The specialist is the language model alone: {len(dev_known)} validation rows are too few to tell whether "
            "other members help (--members lm,tfidf adds one in any case)."
        )
    dev = [dev[i] for i in dev_known]
    dev_targets, dev_texts = label_indices(dev, labels), [row.question() for row in dev]
    train = rows_for_members(train, labels)
    vectors = embed_rows(plan, [*train, *dev], on_rows)
    train_vectors, dev_vectors = (None, None) if vectors is None else (vectors[: len(train)], vectors[len(train) :])
    members = fit_members(plan, train, labels, train_vectors, seed=seed)
    tables = {LANGUAGE_MODEL: language_model[dev_known]}
    for name, member in members.items():
        if dev:
            if isinstance(member, EmbeddingMember) and dev_vectors is not None:
                tables[name] = member.of_vectors(dev_vectors)
            else:
                tables[name] = member.log_probabilities(dev_texts)
        else:
            tables[name] = np.zeros((0, len(labels)))
    pool, pool_targets = {name: tables[name] for name in members}, dev_targets
    folds: dict[str, float] = {}
    if len(dev) < FEW_HELD_OUT_ROWS:
        targets = label_indices(train, labels)
        texts = [row.question() for row in train]
        out_of_fold, usable = cross_validate(
            list(members), texts, train_vectors, targets, len(labels), plan.encoder, seed=seed
        )
        usable_tables = {name: table[usable] for name, table in out_of_fold.items()}
        for names in _alone_and_together(list(members)) if usable.any() else []:
            fitted = fit_weights(select(usable_tables, names), targets[usable])
            folds["+".join(names)] = accuracy(usable_tables, fitted, targets[usable])
        pool = {name: np.concatenate([usable_tables[name], tables[name]]) for name in members}
        pool_targets = np.concatenate([targets[usable], dev_targets])
    fit = _MixtureFit(tables, dev_targets, pool, pool_targets)
    kept = fit.choose([LANGUAGE_MODEL, *members]) if plan.is_auto else [LANGUAGE_MODEL, *members]
    weights = fit.weights(kept)
    alone = accuracy(tables, {LANGUAGE_MODEL: 1.0}, dev_targets)
    whole = accuracy(tables, weights, dev_targets)
    if plan.is_auto and (set(weights) == {LANGUAGE_MODEL} or whole < alone):
        return None, (
            f"The specialist is the language model alone: other members do not make it better on {len(dev):,} "
            "validation rows."
        )
    kept_members = {name: members[name] for name in weights if name != LANGUAGE_MODEL}
    max_risk = max(LOWEST_RISK, RISK_FRACTION * (1 - whole))
    ensemble = Ensemble(
        labels=tuple(labels),
        members=kept_members,
        weights=weights,
        cascade=tuple(fit.cascade(list(kept_members), weights, max_risk)),
        without={name: fit.weights([other for other in weights if other != name]) for name in weights}
        if len(weights) > 1
        else {},
        calibration=calibration,
        fitted_on={
            "training_rows": len(train),
            "validation_rows": len(dev),
            "folds": FOLDS if folds else 0,
            "out_of_fold_accuracy": folds,
            "validation_accuracy": {name: accuracy(tables, {name: 1.0}, dev_targets) for name in tables}
            | {"whole": whole},
        },
    )
    parts = ", ".join(f"{TITLES[name]} {weight:.2f}" for name, weight in weights.items())
    return ensemble, (
        f"The specialist is a mixture (weights: {parts}): {whole:.1%} on {len(dev):,} validation rows, the language "
        f"model alone {alone:.1%}."
    )


class _MixtureFit:
    """Fits weights in two steps: of the cheap members on many rows, and of the language model beside their mixture."""

    def __init__(
        self,
        tables: Mapping[str, FloatArray],
        targets: IntArray,
        pool: Mapping[str, FloatArray],
        pool_targets: IntArray,
    ) -> None:
        """``tables``: of validation rows, for every member. ``pool``: of more rows, without the language model."""
        self._tables, self._targets = tables, targets
        self._pool, self._pool_targets = pool, pool_targets

    def weights(self, names: Sequence[str]) -> dict[str, float]:
        """Return member -> weight; members whose weight is zero are missing."""
        cheap = [name for name in names if name != LANGUAGE_MODEL]
        if not cheap:
            return fit_weights(select(self._tables, names), self._targets)
        inner = fit_weights(select(self._pool, cheap), self._pool_targets)
        if LANGUAGE_MODEL not in names:
            return inner
        pair = {LANGUAGE_MODEL: self._tables[LANGUAGE_MODEL], "": mix(self._tables, inner)}
        outer = fit_weights(pair, self._targets)
        weights = {LANGUAGE_MODEL: outer[LANGUAGE_MODEL]} if LANGUAGE_MODEL in outer else {}
        return weights | {name: outer[""] * weight for name, weight in inner.items() if "" in outer}

    def choose(self, names: Sequence[str]) -> list[str]:
        """Return the members that add at least :data:`MIN_GAIN` to the log likelihood.

        Cheap members are judged beside each other on all rows of the pool, since few validation rows would tell too
        little. Then the language model and the mixture of the others are judged on the validation rows.
        """
        cheap = [name for name in names if name != LANGUAGE_MODEL]
        while len(cheap) > 1:
            losses = {name: self._pool_loss([other for other in cheap if other != name]) for name in cheap}
            least = min(cheap, key=lambda name: losses[name])
            if losses[least] - self._pool_loss(cheap) > MIN_GAIN:
                break
            cheap.remove(least)
        both = [LANGUAGE_MODEL, *cheap]
        alone = min(([LANGUAGE_MODEL], cheap), key=self._loss)
        return both if self._loss(alone) - self._loss(both) > MIN_GAIN else alone

    def cascade(self, cheap: Sequence[str], whole: Mapping[str, float], max_risk: float) -> list[CascadeStage]:
        """Return the stages before the whole: the cheapest member, then with each further one."""
        stages = []
        for names in (cheap[:n] for n in range(1, len(cheap) + 1)):
            if set(names) == set(whole):
                break
            weights = fit_weights(select(self._pool, names), self._pool_targets)
            threshold = choose_threshold(mix(self._pool, weights), self._pool_targets, max_risk)
            if threshold is not None:
                stages.append(CascadeStage(weights, threshold))
        return stages

    def _pool_loss(self, names: Sequence[str]) -> float:
        pool = select(self._pool, names)
        return log_loss(pool, fit_weights(pool, self._pool_targets), self._pool_targets)

    def _loss(self, names: Sequence[str]) -> float:
        return log_loss(self._tables, self.weights(names), self._targets)


def label_indices(rows: Sequence[Row], labels: Sequence[str]) -> IntArray:
    """(rows,): the index of each row's label; -1 for a label that is not among ``labels``."""
    index = {label: i for i, label in enumerate(labels)}
    return np.array([index.get(str(row.label), -1) for row in rows], dtype=np.int64)


def _alone_and_together(names: list[str]) -> list[list[str]]:
    return [*([name] for name in names), *([names] if len(names) > 1 else [])]
