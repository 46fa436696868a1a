"""`python -m examples.demo`: the story is in `story`; with `--web`, it goes on in a browser."""

import signal
import sys

# While nothing has been started, Ctrl-C may simply end the program: no traceback out of some import.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from examples.demo.story import run  # noqa: E402

run(in_browser=sys.argv[1:] == ["--web"])
