"""The types of the TypeScript client, made from docs/events.schema.json; as a program it writes them."""

import json
from typing import Any

from tests.support.pages import ROOT

PATH = ROOT / "clients" / "typescript" / "src" / "events.ts"


def types_of(schema: dict[str, Any]) -> str:
    """Return the types of a schema as TypeScript."""
    definitions = schema["$defs"]
    names = {name: facts["title"] for name, facts in definitions.items()}
    made_by = "`python -m tests.support.typescript_types`"
    parts = [f"// Made from docs/events.schema.json by {made_by}. Do not change it here.\n"]
    for facts in definitions.values():
        members = "".join(
            f"  readonly {name}: {_type(value, names)};\n" for name, value in facts["properties"].items()
        )
        parts.append(f"/** {facts['description']} */\nexport interface {facts['title']} {{\n{members}}}\n")
    union = " |\n  ".join(names[one["$ref"].rpartition("/")[2]] for one in schema["oneOf"])
    parts.append(f"/** {schema['description']} */\nexport type StreamEvent =\n  {union};\n")
    return "\n".join(parts)


def _type(schema: dict[str, Any], names: dict[str, str]) -> str:
    match schema:
        case {"$ref": str(reference)}:
            return names[reference.rpartition("/")[2]]
        case {"const": value}:
            return json.dumps(value)
        case {"enum": values}:
            return " | ".join(map(json.dumps, values))
        case {"anyOf": choices}:
            return " | ".join(_type(choice, names) for choice in choices)
        case {"type": "array", "items": items}:
            return f"readonly ({_type(items, names)})[]"
        case {"type": str(name)}:
            return {"object": "{ readonly [name: string]: unknown }", "integer": "number"}.get(name, name)
        case _:
            return "unknown"


if __name__ == "__main__":
    schema = json.loads((ROOT / "docs" / "events.schema.json").read_text(encoding="utf-8"))
    PATH.write_text(types_of(schema), encoding="utf-8")
