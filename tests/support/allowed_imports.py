"""An import-linter contract: a folder may import only what is listed, of this package and of third parties.

import-linter's own contracts forbid; a list of what is allowed also refuses what did not exist when the list
was written. pyproject.toml has one such contract for each folder, docs/design.md section 2 shows them.
"""

import sys
from fnmatch import fnmatchcase

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

PACKAGE = "temporal_token_interceptor"


class AllowedImports(Contract):
    """A folder's modules import only their own folder, what `ours` and `third_party` list, and the stdlib.

    Names are relative to the package. `telemetry` allows the whole folder, `transport.base` one module of it.

    Options:
        folder: The folder, or the module, that is checked. One that does not exist yet passes.
        but_not: Subfolders of it that have their own contract.
        ours: What it may import of this package.
        third_party: Which installed packages it may import.
        exceptions: `module -> imported` for single modules that may import more; `*` matches within names. An
            exception that is no longer needed breaks the contract.
    """

    folder = fields.StringField()
    but_not = fields.ListField(subfield=fields.StringField(), required=False)
    ours = fields.ListField(subfield=fields.StringField(), required=False)
    third_party = fields.ListField(subfield=fields.StringField(), required=False)
    exceptions = fields.ListField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Compare the direct imports of each module with the lists."""
        folder = str(self.folder)
        allowed = {folder, *_texts(self.ours), *_texts(self.third_party)}
        exceptions = dict.fromkeys(_texts(self.exceptions), False)
        broken = []
        modules = [
            name
            for name in sorted(map(_relative, graph.modules))
            if _within(name, folder) and not any(_within(name, other) for other in _texts(self.but_not))
        ]
        for importer in modules:
            for full_name in sorted(graph.find_modules_directly_imported_by(f"{PACKAGE}.{importer}")):
                imported = _relative(full_name)
                if imported in sys.stdlib_module_names or any(_within(imported, name) for name in allowed):
                    continue
                excused = [text for text in exceptions if _matches(text, importer, imported)]
                exceptions.update(dict.fromkeys(excused, True))
                if not excused:
                    broken.append(f"{importer} -> {imported}")
        unused = [
            text
            for text, used in exceptions.items()
            if not used and any(fnmatchcase(name, text.split(" -> ")[0]) for name in modules)
        ]
        return ContractCheck(kept=not broken and not unused, metadata={"broken": broken, "unused": unused})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each import that is not allowed, and each exception that is not needed."""
        for line in check.metadata["broken"]:
            output.print_error(f"{line} is not allowed: see docs/design.md, section 2")
        for line in check.metadata["unused"]:
            output.print_error(f"exception {line!r} is not needed any more: remove it from pyproject.toml")


def _texts(option: object) -> list[str]:
    return [str(text) for text in option] if isinstance(option, list) else []


def _relative(module: str) -> str:
    return module.removeprefix(f"{PACKAGE}.")


def _within(module: str, folder: str) -> bool:
    return module == folder or module.startswith(f"{folder}.")


def _matches(exception: str, importer: str, imported: str) -> bool:
    allowed_importer, _, allowed = exception.partition(" -> ")
    return fnmatchcase(importer, allowed_importer) and _within(imported, allowed)
