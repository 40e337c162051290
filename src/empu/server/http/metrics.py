"""Metrics in Prometheus' text format 0.0.4."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from empu.serving.registry import ModelRegistry

BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass
class Histogram:
    """Counts of durations by bucket."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """Add one duration."""
        self.counts[bisect.bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines of the text format."""
        yield f"# TYPE {name} histogram"
        cumulative = 0
        for bound, count in zip((*BUCKETS_S, "+Inf"), self.counts, strict=True):
            cumulative += count
            yield f'{name}_bucket{{le="{bound}"}} {cumulative}'
        yield f"{name}_sum {self.total_s:.6f}"
        yield f"{name}_count {cumulative}"


@dataclass
class Metrics:
    """Metrics of one server since its start."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(route, status) -> count."""
    active_requests: int = 0
    request_durations: Histogram = field(default_factory=Histogram)
    first_token_durations: Histogram = field(default_factory=Histogram)
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(requested model, finish reason) -> count; labels included."""

    def text(self, registry: ModelRegistry) -> str:
        """Return the page ``/metrics``."""
        lines = ["# TYPE empu_http_requests_total counter"]
        for (route, status), count in sorted(self.requests.items()):
            lines.append(f'empu_http_requests_total{{route="{_escape(route)}",status="{status}"}} {count}')
        lines += ["# TYPE empu_http_requests_running gauge", f"empu_http_requests_running {self.active_requests}"]
        lines += self.request_durations.lines("empu_http_request_seconds")
        lines += self.first_token_durations.lines("empu_first_token_seconds")
        lines.append("# TYPE empu_answers_total counter")
        for (model, reason), count in sorted(self.answers.items()):
            lines.append(f'empu_answers_total{{model="{_escape(model)}",reason="{reason}"}} {count}')
        lines.append("# TYPE empu_requests gauge")
        for engine in registry.engines:
            running, waiting = engine.scheduler.load
            lines.append(f'empu_requests{{model="{_escape(engine.name)}",state="running"}} {running}')
            lines.append(f'empu_requests{{model="{_escape(engine.name)}",state="waiting"}} {waiting}')
        counts = {engine.name: asdict(engine.scheduler.counters) for engine in registry.engines}
        for name in next(iter(counts.values()), {}):
            lines.append(f"# TYPE empu_{name}_total counter")
            lines += [f'empu_{name}_total{{model="{_escape(model)}"}} {of[name]}' for model, of in counts.items()]
        return "\n".join(lines) + "\n"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
