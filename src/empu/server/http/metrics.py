"""Counts and times for Prometheus, in its text format 0.0.4."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from empu.serving.registry import Catalogue

BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass
class Histogram:
    """How many times fell below each of ``BOUNDS_S``."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one time."""
        self.counts[bisect.bisect_left(BOUNDS_S, seconds)] += 1
        self.total += seconds

    def lines(self, name: str) -> Iterator[str]:
        """As Prometheus reads them."""
        yield f"# TYPE {name} histogram"
        reached = 0
        for bound, count in zip((*BOUNDS_S, "+Inf"), self.counts, strict=True):
            reached += count
            yield f'{name}_bucket{{le="{bound}"}} {reached}'
        yield f"{name}_sum {self.total:.6f}"
        yield f"{name}_count {reached}"


@dataclass
class Metrics:
    """Of one server, since its start."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(route, status) -> how many."""
    running: int = 0
    """HTTP requests that are being answered."""
    seconds: Histogram = field(default_factory=Histogram)
    first_token: Histogram = field(default_factory=Histogram)
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(model as it was asked for, how the answer ended) -> how many; labels among them."""

    def text(self, catalogue: Catalogue) -> str:
        """The page ``/metrics``."""
        lines = ["# TYPE empu_http_requests_total counter"]
        for (route, status), count in sorted(self.requests.items()):
            lines.append(f'empu_http_requests_total{{route="{_escaped(route)}",status="{status}"}} {count}')
        lines += ["# TYPE empu_http_requests_running gauge", f"empu_http_requests_running {self.running}"]
        lines += self.seconds.lines("empu_http_request_seconds")
        lines += self.first_token.lines("empu_first_token_seconds")
        lines.append("# TYPE empu_answers_total counter")
        for (model, reason), count in sorted(self.answers.items()):
            lines.append(f'empu_answers_total{{model="{_escaped(model)}",reason="{reason}"}} {count}')
        lines.append("# TYPE empu_requests gauge")
        for engine in catalogue.engines:
            running, waiting = engine.scheduler.load
            lines.append(f'empu_requests{{model="{_escaped(engine.name)}",state="running"}} {running}')
            lines.append(f'empu_requests{{model="{_escaped(engine.name)}",state="waiting"}} {waiting}')
        counts = {engine.name: asdict(engine.scheduler.counts) for engine in catalogue.engines}
        for name in next(iter(counts.values()), {}):
            lines.append(f"# TYPE empu_{name}_total counter")
            lines += [f'empu_{name}_total{{model="{_escaped(model)}"}} {of[name]}' for model, of in counts.items()]
        return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
