"""`python -m examples.demo`: the story is in `story`."""

import signal

# While nothing has been started, Ctrl-C may simply end the program: no traceback out of some import.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from examples.demo.story import run  # noqa: E402

run()
