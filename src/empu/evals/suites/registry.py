"""All suites by name."""

from __future__ import annotations

from empu.errors import UsageError
from empu.evals.suites.arc import ARC_CHALLENGE, ARC_EASY
from empu.evals.suites.base import Suite
from empu.evals.suites.copal_id import COPAL_ID, COPAL_ID_COLLOQUIAL
from empu.evals.suites.global_mmlu import GLOBAL_MMLU_LITE
from empu.evals.suites.gsm8k import GSM8K
from empu.evals.suites.hellaswag import HELLASWAG
from empu.evals.suites.mgsm import MGSM
from empu.evals.suites.mmlu import MMLU
from empu.evals.suites.openbookqa import OPENBOOKQA
from empu.evals.suites.piqa import PIQA
from empu.evals.suites.truthfulqa import TRUTHFULQA_MC1, TRUTHFULQA_MC2

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        ARC_EASY,
        ARC_CHALLENGE,
        HELLASWAG,
        PIQA,
        OPENBOOKQA,
        MMLU,
        TRUTHFULQA_MC1,
        TRUTHFULQA_MC2,
        GSM8K,
        COPAL_ID,
        COPAL_ID_COLLOQUIAL,
        *GLOBAL_MMLU_LITE,
        *MGSM,
    )
}


def suite_by_name(name: str) -> Suite:
    """Return a suite. Raises :class:`~empu.errors.UsageError`."""
    if name not in SUITES:
        near = [known for known in SUITES if known.startswith(name) or name in known]
        raise UsageError(f"There is no suite {name!r}; choose from {', '.join(near or SUITES)}.")
    return SUITES[name]
