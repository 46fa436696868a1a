"""The conformance suite: cases that each reader of the protocol must pass, in any language.

`python -m temporal_token_interceptor.conformance run -- COMMAND` drives a reader over stdin and stdout;
docs/conformance.md has the form. `cases/` has the named cases, `generated.py` makes a thousand more.
"""
