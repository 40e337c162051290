"""From rows to a specialist: low-rank adapters and full tuning, exactly repeatable and resumable."""
