"""The house list and the table of forbidden imports in docs/design.md, section 2, are what the code does."""

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "temporal_token_interceptor"
ROOT = Path(__file__).parents[2]
HOME = ROOT / PACKAGE
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")

LONGEST_FILE = 350  # lines

FILES = sorted(path.relative_to(HOME).as_posix() for path in HOME.rglob("*.py"))


def house() -> list[str]:
    """The rooms in the order of the list, as paths within the package; folders end in a slash."""
    listing = DESIGN.split(f"```\n{PACKAGE}/\n", 1)[1].split("```", 1)[0]
    rooms, folder = [], ""
    for line in listing.splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()
        folder = folder if len(indent) > 2 else ""
        rooms.append(folder + name)
        if name.endswith("/"):
            folder = name
    return rooms


HOUSE = house()


def room_of(file: str) -> str | None:
    """The listed room that a file belongs to."""
    if file in HOUSE:
        return file
    folder = file.rpartition("/")[0] + "/"
    listed_inside = any(room.startswith(folder) and room != folder for room in HOUSE)
    return folder if folder in HOUSE and (file.endswith("__init__.py") or not listed_inside) else None


class Import(NamedTuple):
    """One imported module."""

    name: str
    line: int
    at_run_time: bool


def imports(file: str) -> Iterator[Import]:
    """Every module that a file imports, anywhere in it: also in functions and for types only."""
    tree = ast.parse((HOME / file).read_text(encoding="utf-8"))
    for_types = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and ast.unparse(guard.test).endswith("TYPE_CHECKING")
        for statement in guard.body
        for node in ast.walk(statement)
    }
    package = f"{PACKAGE}/{file}".split("/")[:-1]
    for node in ast.walk(tree):
        at_run_time = id(node) not in for_types
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_run_time)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield Import(whole if home_of(whole) else module, node.lineno, at_run_time)


def home_of(module: str) -> str | None:
    """The file of one of our modules; None for other people's."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return None
    path = "/".join(parts[1:])
    return next((file for file in (f"{path}.py", f"{path}/__init__.py".lstrip("/")) if file in FILES), None)


class Rule(NamedTuple):
    """One row of the table."""

    rooms: str
    forbidden: str

    def covers(self, file: str) -> bool:
        """Whether the row speaks of a file."""
        everyone = self.rooms.startswith("all")
        named = any(fnmatch(file.removesuffix(".py"), room) for room in re.findall(r"`([^`]+)`", self.rooms))
        return named is not everyone

    def forbids(self, imported: Import) -> bool:
        """Whether the row forbids an import."""
        top = imported.name.partition(".")[0]
        only = re.search(r"any third party but `(\w+)`", self.forbidden)
        if only and top not in {only[1], PACKAGE, *sys.stdlib_module_names}:
            return True
        rest = re.sub(r"\([^)]*\)", "", self.forbidden.replace(only[0], "") if only else self.forbidden)
        return any(
            (imported.name == name or imported.name.startswith(f"{name}."))
            and (imported.at_run_time or not run_time)
            for name, run_time in re.findall(r"`([^`]+)`( at run time)?", rest)
        )


def rules() -> list[Rule]:
    """The rows of the table of forbidden imports."""
    table = DESIGN.split("| Room | never imports |\n|---|---|\n", 1)[1].split("\n\n", 1)[0]
    return [Rule(*(cell.strip() for cell in row.strip("|").split("|"))) for row in table.splitlines()]


RULES = rules()


def test_the_document_was_understood():
    """A list or a table that the test could not read would allow everything."""
    assert HOUSE[:2] == ["errors.py", "origin.py"]
    assert "backends/redis_keys.py" in HOUSE
    assert len(RULES) > 5
    assert all("`" in rule.forbidden for rule in RULES)


@pytest.mark.parametrize("file", FILES)
def test_every_file_has_a_room_in_the_house(file):
    """Whoever adds a file says in docs/design.md what it is for and where it stands."""
    assert room_of(file), f"{file} is not in the list of docs/design.md, section 2"


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_files_printed_above_it(file):
    """Reading order is dependency order, for types too."""
    place = HOUSE.index(room_of(file) or pytest.fail(f"{file} has no room"))

    upward = [
        f"{file}:{imported.line} imports {imported.name}"
        for imported in imports(file)
        if imported.name.partition(".")[0] == PACKAGE
        and not _is_above(room_of(home_of(imported.name) or ""), place)
    ]

    assert not upward


@pytest.mark.parametrize("file", FILES)
def test_no_file_imports_what_its_room_forbids(file):
    """Each library is known to the rooms that need it, and to no other."""
    forbidden = [
        f"{file}:{imported.line} imports {imported.name}; {rule.rooms} never imports {rule.forbidden}"
        for rule in RULES
        if rule.covers(file)
        for imported in imports(file)
        if rule.forbids(imported)
    ]

    assert not forbidden


@pytest.mark.parametrize("file", FILES)
def test_no_file_is_longer_than_one_sitting(file):
    """A room is read in one sitting."""
    lines = (HOME / file).read_text(encoding="utf-8").count("\n")

    assert lines <= LONGEST_FILE


@pytest.mark.parametrize(
    ("file", "imported", "forbidden"),
    [
        ("wire.py", Import("redis.asyncio", 1, at_run_time=True), True),
        ("wire.py", Import("redis.asyncio", 1, at_run_time=False), True),
        ("wire.py", Import("orjson", 1, at_run_time=True), True),
        ("protocol.py", Import("orjson", 1, at_run_time=True), False),
        ("protocol.py", Import("asyncio", 1, at_run_time=True), True),
        ("protocol.py", Import("urllib.parse", 1, at_run_time=True), False),
        ("backends/redis_writer.py", Import("redis.exceptions", 1, at_run_time=True), False),
        ("backends/memory.py", Import("redis.exceptions", 1, at_run_time=True), True),
        ("session.py", Import("langchain_core.messages", 1, at_run_time=True), True),
        ("subscriber.py", Import("temporalio.client", 1, at_run_time=True), True),
        ("subscriber.py", Import("temporalio.client", 1, at_run_time=False), False),
        ("interceptor.py", Import(f"{PACKAGE}.testing", 1, at_run_time=True), True),
    ],
)
def test_the_table_says_what_was_meant(file, imported, forbidden):
    """Known good and bad imports, so that a reworded table cannot go blind unnoticed."""
    assert forbidden is any(rule.covers(file) and rule.forbids(imported) for rule in RULES)


def _is_above(room: str | None, place: int) -> bool:
    """Whether a room is printed before a place, or stands in the same unlisted folder."""
    if room is None:
        return False
    return HOUSE.index(room) < place or (room.endswith("/") and HOUSE.index(room) == place)
