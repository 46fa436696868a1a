"""docs/events.schema.json, made from the classes of events: `python -m tests.support.events_schema`."""

import json
from pathlib import Path

from temporal_token_interceptor.events.json_form import events_schema

FILE = Path(__file__).parents[2] / "docs" / "events.schema.json"


def text() -> str:
    """The file's content."""
    return json.dumps(events_schema(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
