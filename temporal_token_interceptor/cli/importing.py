"""Objects that a command is given by name, as `module:name`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from temporal_token_interceptor.errors import ConfigurationError


def imported(option: str, name: str) -> Any:
    """Return what `module:name` names; modules are also looked for in the current folder.

    Args:
        option: What the user gave the name by, for errors.
        name: The name.

    Raises:
        ConfigurationError: it has another form, or cannot be imported; the message names option and cause.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ConfigurationError(f"{option} must be module:name, such as app.things:thing, not {name!r}")
    if (here := str(Path.cwd())) not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)  # an installed command has its own folder there, and not the user's
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:  # whatever the user's module raises while it is imported
        raise ConfigurationError(
            f"{option} {name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
