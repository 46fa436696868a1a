"""docs/api.md, made from the signatures and docstrings of the public names.

After a change of either: `python -m tests.support.api_document`.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import griffe

import temporal_token_interceptor
from temporal_token_interceptor import testing

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "api.md"
PACKAGE = temporal_token_interceptor.__name__

# Where names live, and where readers look for them; what lives elsewhere comes under "More".
SECTIONS = {
    "On the worker": ("worker.interceptor", "worker.plugin", "worker.instrument", "capture.stream_graph"),
    "On the client": (
        "reader.subscriber",
        "reader.many",
        "reader.tree",
        "reader.graph_stream",
        "reader.blocking",
        "reader.blocking_streams",
        "reader.blocking_run",
        "views.workflow_run",
        "views.model_call",
        "views.plain_call",
        "views.snapshot",
        "protocol.result_items",
    ),
    "Transports": ("transport.redis.backend", "transport.memory"),
    "Events": ("events", "events.json_form"),
    "Errors": ("errors",),
    "Transports of your own": ("transport.base", "protocol.stream_key"),
    "Handlers that you attach yourself": ("capture.manual_handler",),
}

HEAD = """\
# API reference

What is each public name, what does it take, and what does it raise? Everything here can be imported from
`temporal_token_interceptor`, and what is under [Testing](#testing) from `temporal_token_interceptor.testing`;
nothing else is promised to stay. The page is made from the code (`python -m tests.support.api_document`), so
`help(...)` says the same. To begin with, read the [README](../README.md) or the [tutorial](tutorial.md).
"""

EVENTS = """\
All are frozen dataclasses. Each has a `cursor: str`, which resumes right after it, an `origin` (`Origin`, or
None where it is of no attempt), and `from_history: bool`: whether it came from Temporal's history, because no
transport had it.
"""

_WIDTH = 100
_COMMON = {"cursor", "origin", "from_history"}


@cache
def _package() -> griffe.Module:
    package = griffe.load(
        PACKAGE, search_paths=[ROOT], docstring_parser=griffe.Parser.google, allow_inspection=False
    )
    assert isinstance(package, griffe.Module)
    return package


def _home(name: str) -> str:
    return temporal_token_interceptor._HOME_OF[name]


def _found(path: str) -> Any:
    """What griffe knows of a dotted path within the package; through re-exports, too."""
    found = _package()[path]
    return found.final_target if found.is_alias else found


def _of(value: Any) -> Any:
    """What griffe knows of a class or function."""
    return _found(f"{value.__module__}.{value.__qualname__}".removeprefix(f"{PACKAGE}."))


# ------------------------------------------------------------------ docstrings


def _sections(documented: Any) -> dict[str, Any]:
    if documented.docstring is None:
        return {}
    options: dict[str, Any] = {"warn_unknown_params": False, "warnings": False}
    return {section.kind.value: section.value for section in documented.docstring.parse("google", **options)}


def _text(documented: Any) -> str:
    text: str = _sections(documented).get("text", "")
    return re.sub(r"(?m)^ {4}(?=\S)", "    ", text)


def _items(documents: Any) -> Iterator[str]:
    for item in documents:
        name = getattr(item, "name", None) or item.annotation
        yield f"* `{name}`: {_flow(item.description)}"


def _flow(text: str) -> str:
    return " ".join(text.split())


def _rest(documented: Any, *, attributes: bool = True) -> Iterator[str]:
    """What comes after the text: arguments, attributes, errors."""
    documents = _sections(documented)
    for kind, title in (("parameters", "Args"), ("attributes", "Attributes"), ("raises", "Raises")):
        if kind in documents and (attributes or kind != "attributes"):
            yield f"{title}:"
            yield "\n".join(_items(documents[kind]))


# ------------------------------------------------------------------ signatures


def _signature(name: str, function: Any, *, returns: bool) -> str:
    words: list[str] = []
    star = False
    for parameter in function.parameters:
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and not star:
            star = True
            words.append("*")
        mark = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
        star |= parameter.kind is griffe.ParameterKind.var_positional
        text = mark.get(parameter.kind, "") + parameter.name
        if parameter.annotation is not None:
            text += f": {_quoted(parameter.annotation)}"
        if parameter.default is not None and parameter.kind not in mark:
            text += " = " if parameter.annotation is not None else "="
            text += _quoted(parameter.default)
        words.append(text)
    end = f") -> {function.returns}" if returns and function.returns is not None else ")"
    start = f"{'async ' if 'async' in function.labels and returns else ''}{name}("
    line = start + ", ".join(words) + end
    if len(line) <= _WIDTH or not words:
        return line
    return start + "\n" + "".join(f"    {word},\n" for word in words) + end


def _block(code: str) -> str:
    return f"```python\n{code}\n```"


# ------------------------------------------------------------------ one name


def _is_foreign(value: Any, name: str) -> bool:
    """Whether a method is called by another package: it is there because a base class of theirs has it."""
    return any(name in vars(base) for base in value.__mro__[1:] if _is_theirs(base))


def _is_theirs(base: type) -> bool:
    return not base.__module__.startswith(PACKAGE) and base.__module__ != "builtins"


def _fields(value: Any) -> Iterator[str]:
    """The fields of a dataclass or named tuple, those of our own bases first."""
    documents: dict[str, str] = {}
    known: dict[str, Any] = {}
    for one in reversed([one for one in value.__mro__ if one.__module__.startswith(PACKAGE)]):
        documented = _of(one)
        known |= {name: member for name, member in documented.attributes.items() if not name.startswith("_")}
        documents |= {
            item.name: _flow(item.description) for item in _sections(documented).get("attributes", ())
        }
    for name, member in known.items():
        if name in _COMMON and name not in documents:
            continue
        about = documents.get(name) or (_flow(_text(member)) if member.docstring else "")
        kind = f": {_quoted(member.annotation)}" if member.annotation is not None else ""
        default = "" if member.value is None or "property" in member.labels else f" = {_quoted(member.value)}"
        default = "" if default.startswith(" = field(") else default
        yield f"* `{name}{kind}{default}`" + (f": {about}" if about else "")


def _class(name: str, value: Any) -> Iterator[str]:
    documented = _of(value)
    fields = hasattr(value, "__dataclass_fields__") or hasattr(value, "_fields")
    yield f"### {name}"
    constructor = vars(value).get("__init__")
    if not fields and constructor is not None and not getattr(value, "_is_protocol", False):
        yield _block(_signature(name, documented.members["__init__"], returns=False))
    bases = [base.__name__ for base in value.__bases__ if issubclass(value, BaseException)]
    if bases:
        yield f"Base: `{'`, `'.join(bases)}`."
    yield _text(documented)
    yield from _rest(documented, attributes=not fields)
    if fields and (lines := list(_fields(value))):
        yield "\n".join(lines)
    yield from _members(name, value, documented, fields=fields)


def _members(name: str, value: Any, documented: Any, *, fields: bool) -> Iterator[str]:
    for attribute, member in () if fields else documented.attributes.items():
        known = member.docstring and "property" not in member.labels and not attribute.startswith("_")
        if known:
            kind = f": {member.annotation}" if member.annotation is not None else ""
            yield f"`{attribute}{kind}`: {_flow(_text(member))}"
    answers: list[str] = []
    for member_name, member in {
        **documented.members,
        **({} if fields else _inherited(value, documented)),
    }.items():
        if member_name.startswith("_") or not (member.is_function or "property" in member.labels):
            continue
        if _is_foreign(value, member_name):
            answers.append(f"`{member_name}`")
        elif member.is_function:
            yield f"#### {name}.{member_name}"
            yield _block(_signature(member_name, member, returns=True))
            yield _text(member)
            yield from _rest(member)
        elif not fields:
            yield f"`{member_name}: {member.annotation}` (read only): {_flow(_text(member))}"
    if answers:
        theirs = next(base for base in value.__mro__[1:] if _is_theirs(base) and base is not object)
        yield f"{', '.join(answers)}: as `{theirs.__name__}` has it."


def _inherited(value: Any, documented: Any) -> dict[str, Any]:
    """The members that come from those of our own bases which have no entry of their own."""
    public = {*temporal_token_interceptor.__all__, *testing.__all__}
    bases = [base for base in value.__mro__[1:] if base.__module__.startswith(PACKAGE)]
    return {
        name: member
        for base in bases
        if base.__name__ not in public
        for name, member in _of(base).members.items()
        if name not in documented.members
    }


def _entry(name: str, value: Any, path: str) -> Iterator[str]:
    if inspect.isclass(value):
        yield from _class(name, value)
    elif inspect.isroutine(value):
        documented = _of(value)
        yield f"### {name}"
        yield _block(_signature(name, documented, returns=True))
        yield _text(documented)
        yield from _rest(documented)
    else:
        documented = _found(path)
        yield f"### {name}"
        yield _block(_assigned(name, documented))
        yield _text(documented)


def _quoted(code: Any) -> str:
    """Code with the quotes of the house."""
    text = str(code)
    return text if '"' in text else text.replace("'", '"')


def _assigned(name: str, documented: Any) -> str:
    if documented.annotation is not None:
        return f"{name}: {documented.annotation}"
    line = f"{name} = {_quoted(documented.value)}"
    if len(line) <= _WIDTH:
        return line
    head, bracket, words = _quoted(documented.value).partition("[")
    if head == "Literal" and bracket:
        lines = [f"    {word}," for word in words.removesuffix("]").split(", ")]
        return "\n".join([f"{name} = Literal[", *lines, "]"])
    return f"{name} = (\n    " + "\n    | ".join(str(documented.value).split(" | ")) + "\n)"


# ------------------------------------------------------------------ words that signatures use


def _words(text: str, public: set[str]) -> Iterator[str]:
    """The aliases and small records that the page's signatures name and that are no public names."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    code += "\n".join(re.findall(r"(?m)^\* `([^`]*)`", text))
    for name in sorted({*re.findall(r"\b[A-Z][A-Za-z]+\b", code)} - public):
        for module in _modules(_package()):
            member = module.members.get(name)
            if member is None or member.is_alias:
                continue
            if member.is_attribute:
                about = f": {_flow(_text(member))}" if member.docstring else ""
                yield f"* `{name} = {_quoted(member.value)}`{about}"
            elif member.is_class:
                fields = ", ".join(f"`{field}`" for field in member.attributes if not field.startswith("_"))
                yield f"* `{name}`: {_flow(_text(member))}" + (f" Has {fields}." if fields else "")
            break


def _modules(module: griffe.Module) -> Iterator[griffe.Module]:
    yield module
    for child in module.modules.values():
        yield from _modules(child)


# ------------------------------------------------------------------ the page


def _names(homes: tuple[str, ...] | None) -> list[str]:
    known = {home for homes_of_one in SECTIONS.values() for home in homes_of_one}
    names = temporal_token_interceptor.__all__
    if homes is None:
        return [name for name in names if _home(name) not in known]
    # In the order of the homes, the most used first; within one, as its file has them.
    return [
        name
        for home in homes
        for name in sorted((name for name in names if _home(name) == home), key=_line_of)
    ]


def _line_of(name: str) -> tuple[str, int]:
    found = _found(f"{_home(name)}.{name}")
    return (
        "" if found.module.name == _home(name).rpartition(".")[2] else found.module.name,
        found.lineno or 0,
    )


@cache
def page() -> str:
    """docs/api.md as it has to be."""
    parts = [HEAD.rstrip()]
    for title, homes in [*SECTIONS.items(), ("More", None)]:
        if names := _names(homes):
            parts.append(f"## {title}")
            if title == "Events":
                parts.append(EVENTS.rstrip())
            for name in names:
                parts += _entry(name, getattr(temporal_token_interceptor, name), f"{_home(name)}.{name}")
    parts += ["## Testing", _text(_found("testing"))]
    for name in testing.__all__:
        parts += _entry(name, getattr(testing, name), f"testing.{name}")
    public = {*temporal_token_interceptor.__all__, *testing.__all__}
    if words := list(_words("\n\n".join(parts), public)):
        parts += ["## Words", "What the signatures above name, and you need not import.", "\n".join(words)]
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name}: {len(page().splitlines())} lines\n")
