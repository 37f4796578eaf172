"""LM calls: the governor, endpoints, retries, usage, budgets and secrets."""
