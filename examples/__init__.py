"""Programs to read and to run; `servers` starts the real Temporal and Redis that they talk to."""
