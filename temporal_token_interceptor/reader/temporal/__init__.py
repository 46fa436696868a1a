"""What the reader asks Temporal: how a run closed, its history, the results in it."""
