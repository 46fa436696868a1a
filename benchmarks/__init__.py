"""What the package costs, measured against budgets. See `python -m benchmarks --help`."""
