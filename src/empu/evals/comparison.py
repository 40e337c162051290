"""Systems side by side on the same test rows, with paired tests against the specialist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from empu.evals.ensemble import EnsembleReport
from empu.evals.metrics import mcnemar, p_text
from empu.evals.out_of_scope import OutOfScopeScores
from empu.evals.systems import System

SIGNIFICANCE_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """All systems on the same rows, the specialist last."""

    systems: tuple[System, ...]
    p_values: Mapping[str, float] = field(default_factory=dict)
    """Name of another system -> p-value of McNemar's test against the specialist."""
    out_of_scope: OutOfScopeScores | None = None
    """How well the specialist rejects out-of-scope rows, if there are any."""
    ensemble: EnsembleReport | None = None
    """What the members of a specialist add, if it is a mixture."""

    @property
    def specialist(self) -> System:
        return self.systems[-1]

    def sentence(self) -> str:
        """Return the conclusion in one sentence: win, loss or no significant difference.

        It names the best of the systems that beat the specialist significantly, or else the best of all others.
        """
        ours = self.specialist.main_metric
        others = [(system, self.p_values.get(system.name, 1.0)) for system in self.systems[:-1]]
        if not others:
            return f"The specialist has {ours.percent()}."
        winners = [
            (system, p) for system, p in others if p < SIGNIFICANCE_LEVEL and system.main_metric.value > ours.value
        ]
        rival, p = max(winners or others, key=lambda other: (other[0].main_metric.value, -other[1]))
        theirs = rival.main_metric
        if p >= SIGNIFICANCE_LEVEL:
            return (
                f"No significant difference between the specialist, {ours.percent()}, and {rival.name}, "
                f"{theirs.percent()}, on these {ours.rows:,} rows ({p_text(p)})."
            )
        if ours.value < theirs.value:
            return (
                f"{rival.name} wins: {theirs.percent()} against {ours.percent()} for the specialist ({p_text(p)}); "
                "use it, or add rows and tune again."
            )
        return f"The specialist wins: {ours.percent()} against {theirs.percent()} for {rival.name} ({p_text(p)})."


def compare(systems: Sequence[System]) -> Comparison:
    """Compare systems; the specialist comes last."""
    specialist = systems[-1]
    p_values = {system.name: mcnemar(specialist.correct, system.correct) for system in systems[:-1]}
    return Comparison(tuple(systems), p_values)


def table(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """Yield a row for each system: name, each metric with its interval, ms per answer, size."""
    columns = list(comparison.specialist.metrics)
    for system in comparison.systems:
        scores = tuple(system.metrics[name].percent() if name in system.metrics else "" for name in columns)
        yield (system.name, *scores, f"{system.ms_per_answer:.1f} ms", f"{system.size_bytes / 1e6:.1f} MB")
