"""`make demo` as its users meet it: on a terminal, in a pipe, and interrupted."""

import fcntl
import io
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from examples.demo import WHEN, WHERE
from examples.demo.model import ANSWER, CUT_SHORT, OPENING, REPORT
from examples.demo.page import PaperPage, TerminalPage, page_on
from temporal_token_interceptor import Origin
from tests.support.processes import alive

CHECKOUT = Path(__file__).parents[2]
ESCAPE = "\x1b"


@pytest.mark.timeout(60)
def test_demo_in_a_pipe_tells_the_whole_story(played):
    """Plain text, exact answers, one retraction in words, Temporal's status, figures; and nothing stays."""
    process, mark, directory, out, err = played["in a pipe"]
    skip_without_servers(process, err)

    assert (process.returncode, err) == (0, "")
    assert ESCAPE not in out
    start = out.index("? ")
    end = out.index("  Measured")
    said = re.sub(r"\d+ ms", "<n> ms", out[start:end]).split("\n")
    opening = ["[model] {}", '[model] -> track_parcel({{"order": "1042"}})', f"[tools] {REPORT}"]
    closing = "-- completed, says Temporal; first token after <n> ms --"
    assert [
        f"? {WHERE}",
        *(line.format(OPENING[WHERE]) for line in opening),
        f"[model] {ANSWER[WHERE]}",
        closing,
        "",
        f"? {WHEN}",
        *(line.format(OPENING[WHEN]) for line in opening),
        f"[model] {CUT_SHORT}",
        "-- attempt 1 died; Temporal tries again --",
        "-- attempt 1 is taken back --",
        *(line.format(OPENING[WHEN]) for line in opening),
        f"[model] {ANSWER[WHEN]}",
        closing,
        "",
        "",
    ] == said
    assert_plausible(out[end:])
    assert alive(mark, process.pid) == []
    assert list(directory.rglob("*")) == []


@pytest.mark.timeout(60)
def test_demo_on_a_terminal_takes_the_text_off_the_screen(played):
    """What the dead attempt said was there to see, and is gone; all else is there once."""
    process, mark, _, drawn, _ = played["on a terminal"]
    skip_without_servers(process, drawn)

    assert process.returncode == 0, drawn
    assert f"{ESCAPE}[36mmodel" in drawn
    assert f"{ESCAPE}[35mtools" in drawn
    until_death, _, _ = drawn.partition("✗")
    assert CUT_SHORT in visible(until_death)
    screen = visible(drawn)
    assert CUT_SHORT not in screen
    assert screen.count("↺ attempt 1 died; what it had said is taken back") == 1
    for text in (WHERE, ANSWER[WHERE], WHEN, ANSWER[WHEN]):
        assert screen.count(text) == 1
    assert 2 == screen.count(REPORT) == screen.count("✓ completed, says Temporal")
    assert_plausible(screen)
    assert alive(mark, process.pid) == []


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=lambda stop: stop.name)
def test_demo_stopped_in_the_middle_leaves_nothing(directory, stop):
    """Ctrl-C reaches every process of a terminal, a SIGTERM only the first; either ends all, in silence."""
    with demo(directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as (process, mark):
        seen = ""
        while "[model]" not in seen:
            line = process.stdout.readline()
            if not line:
                skip_without_servers(process, process.stderr.read())
                pytest.fail(f"ended early: {seen}")
            seen += line
        if sys.platform == "linux":
            assert len(alive(mark, process.pid)) == 5, "the demo, two servers, worker and viewer"

        if stop == signal.SIGINT:
            os.killpg(process.pid, stop)
        else:
            process.send_signal(stop)
        out, err = process.communicate(timeout=20)

    assert 128 + stop == process.returncode
    assert out.endswith("\n  Stopped.\n")
    assert "Traceback" not in err
    assert alive(mark, process.pid) == []
    assert list(directory.rglob("*")) == []


def test_the_demo_in_a_browser_goes_on_until_it_is_stopped(directory):
    """It prints an address, where the live page is; Ctrl-C ends all, and nothing is left."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with demo(directory, "--web", **pipes) as (process, mark):
        seen = ""
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/live", seen)):
            line = process.stdout.readline()
            if not line:
                skip_without_servers(process, process.stderr.read())
                pytest.fail(f"ended early: {seen}")
            seen += line
        page = httpx.get(found[0])
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)

    assert "live.files/live.js" in page.text
    assert (process.returncode, err) == (130, "")
    assert out.endswith("\n  Stopped.\n")
    assert alive(mark, process.pid) == []


@pytest.mark.parametrize("columns", [24, 40, 80, 200])
def test_retraction_is_clean_in_any_window(monkeypatch, columns):
    """Wrapped lines are taken back like short ones, and the next question starts below."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    page = page_on(terminal)
    first, second = attempt(1), attempt(2)

    page.ask("A question that is longer than the narrowest window?")
    for number in range(60):
        page.write(first, "1:0", "model", f" old{number}")
    page.mark_dead(first, will_retry=True)
    page.take_back(first)
    for number in range(60):
        page.write(second, "1:0", "model", f" new{number}")
    page.end("completed", 0.1)

    screen = visible(terminal.getvalue(), columns).replace(" ", "")  # a word may be broken at the edge
    assert isinstance(page, TerminalPage)
    assert "old" not in screen
    assert "model" + "".join(f"new{number}" for number in range(60)) in screen
    assert screen.count("Aquestionthatislongerthanthenarrowestwindow?") == 1
    assert screen.endswith("✓completed,saysTemporal;firsttokenafter100ms")


def test_no_color_keeps_the_terminal_but_not_its_colours(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    page = page_on(terminal)

    page.ask("Why?")
    page.write(attempt(1), "1:0", "model", "Because.")
    page.end("completed", 0.1)

    assert isinstance(page, TerminalPage)
    assert not re.search(rf"{ESCAPE}\[[0-9;]*m", terminal.getvalue())
    assert "Because." in visible(terminal.getvalue())


def test_a_terminal_that_cannot_move_its_cursor_is_paper(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")

    assert isinstance(page_on(Terminal()), PaperPage)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def directory(tmp_path):
    """Where the demo runs and keeps temporary files: empty before, and to be empty afterwards."""
    return tmp_path


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The demo in a pipe and on a terminal, both to their ends and at one time: most of it is waiting."""
    with ThreadPoolExecutor() as stages:
        plays = {
            "in a pipe": stages.submit(play_in_a_pipe, tmp_path_factory.mktemp("pipe")),
            "on a terminal": stages.submit(play_on_a_terminal, tmp_path_factory.mktemp("terminal")),
        }
    return {where: play.result() for where, play in plays.items()}


def play_in_a_pipe(directory):
    with demo(directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as (process, mark):
        out, err = process.communicate(timeout=50)
    return process, mark, directory, out, err


def play_on_a_terminal(directory):
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 70, 0, 0))
    with demo(directory, stdin=theirs, stdout=theirs, stderr=theirs) as (process, mark):
        os.close(theirs)
        drawn = read_all(ours)
        process.wait(timeout=20)
    return process, mark, directory, drawn, ""


@contextmanager
def demo(directory, *arguments, **streams):
    """The demo as a process with its own session, and the mark that all its descendants inherit."""
    mark = f"TTI_TEST_MARK={uuid.uuid4()}"
    name, _, value = mark.partition("=")
    hidden = ("COLUMNS", "LINES", "NO_COLOR", "REDIS_URL")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment |= {
        name: value,
        "TERM": "xterm-256color",
        "TMPDIR": str(directory),
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own words
        [sys.executable, "-m", "examples.demo", *arguments],
        cwd=directory,
        env=environment,
        start_new_session=True,
        **streams,
    )
    with process:
        try:
            yield process, mark
        finally:
            if process.poll() is None:  # only after a failure: let it clean up, so that nothing else suffers
                process.terminate()


def skip_without_servers(process, told):
    if process.wait(timeout=20) == 1 and "The demo needs a server" in told and not os.environ.get("CI"):
        pytest.skip(told)


def read_all(descriptor):
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # how Linux says that the other side is gone
            piece = b""
        if not piece:
            os.close(descriptor)
            return b"".join(pieces).decode()
        pieces.append(piece)


def visible(drawn, columns=70):
    """What a terminal with enough rows shows, on one line, whitespace folded."""
    rows, x, y = [""], 0, 0
    for code, text in re.findall(rf"({ESCAPE}\[[0-9;]*[A-Za-z]|[\r\n])|([^\r\n{ESCAPE}])", drawn):
        if text:
            if x == columns:
                x, y = 0, y + 1
                rows += [""] * (y + 1 - len(rows))
            rows[y] = rows[y][:x].ljust(x) + text + rows[y][x + 1 :]
            x += 1
        elif code == "\r":
            x = 0
        elif code == "\n":  # as terminals take it from a program: down, and back to the left
            x, y = 0, y + 1
            rows += [""] * (y + 1 - len(rows))
        elif code.endswith("A"):
            y -= int(code[2:-1])
            assert y >= 0, "above the top"
        elif code.endswith("J"):
            rows[y:] = [rows[y][:x]]
        else:
            assert code.endswith("m"), f"unknown code {code!r}"
    return " ".join(" ".join(rows).split())


def assert_plausible(told):
    figures = re.search(
        r"first token +(\d+) ms and (\d+) ms after the question +"
        r"model to screen +p50 ([\d.]+) ms, p99 ([\d.]+) ms, from process to process +"
        r"without Redis +p50 (\d+) ms, p99 (\d+) ms, once more, by heartbeats +"
        r"tokens +(\d+) made, (\d+) drawn, in order; (\d+) taken back",
        " ".join(told.split()),
    )
    assert figures, told
    first, second, p50, p99, beat50, beat99, made, drawn, back = map(float, figures.groups())
    assert all(0 < milliseconds < 10_000 for milliseconds in (first, second))
    assert 0 < p50 <= p99 < 2_000
    assert p50 < beat50 <= beat99 < 5_000
    assert made == drawn > back > 0


def attempt(number):
    return Origin(
        namespace="default",
        workflow_id="w",
        run_id="r",
        activity_id="1",
        attempt=number,
        attempt_id=f"{number:016}",
        started_time=datetime.now(UTC),
    )
