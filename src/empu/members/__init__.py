"""Members of a label specialist beside its language model: linear models, and the mixture of all. Never torch."""
