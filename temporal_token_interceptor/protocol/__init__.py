"""How events are written and read back: `docs/protocol.md` as code. Pure: no clock, no I/O."""
