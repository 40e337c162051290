"""The ledger: data sets, tuning runs, models and evaluations, identified by content hashes in a hash chain."""
