"""A quicker way to make the records that there is one of for each token.

A frozen dataclass stores each member by `object.__setattr__`, which looks its name up: 2.8 us for a
`TokenEvent`. Its slots can be set without that: 1.1 us, and the record is as frozen as before.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any, TypeVar

_Kind = TypeVar("_Kind", bound=type[Any])


def quick_init(kind: _Kind) -> _Kind:
    """Return a frozen dataclass with slots, its `__init__` replaced by one that is called alike.

    Args:
        kind: The class. Its fields have plain defaults: no factories, nothing to be done afterwards.
    """
    names = [field.name for field in fields(kind)]
    signature = inspect.signature(kind.__init__)
    known: dict[str, Any] = {f"set_{name}": getattr(kind, name).__set__ for name in names}
    parameters: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        if parameter.default is parameter.empty:
            parameters.append(parameter.name)
        else:
            known[f"default_{parameter.name}"] = parameter.default
            parameters.append(f"{parameter.name}=default_{parameter.name}")
    body = "".join(f"    set_{name}(self, {name})\n" for name in names)
    # As `dataclass` itself makes it; all names in it are those of our own fields.
    exec(f"def __init__({', '.join(parameters)}):\n{body}", known)  # noqa: S102
    made = known["__init__"]
    made.__qualname__, made.__module__ = f"{kind.__qualname__}.__init__", kind.__module__
    made.__annotations__, made.__doc__ = kind.__init__.__annotations__, kind.__init__.__doc__
    made.__signature__ = signature
    kind.__init__ = made
    return kind
