"""What mkdocs needs to know of the repository: pages that live outside of docs/, and links that go there."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

# Pages of the repository that are pages of the site as well: where they are, and their name there.
OUTSIDE = {
    "README.md": "start.md",  # mkdocs would take a README.md for the index
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "examples/README.md": "examples.md",
}
INSIDE = {site: source for source, site in OUTSIDE.items()}

FOLDERS = ("events", "protocol", "capture", "worker", "transport", "reader", "views", "telemetry", "testing")

_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")
_SOURCE = re.compile(r"\b(?P<name>src|srcset|href)=\"(?P<target>[^\"\s]+)\"")
_FENCE = re.compile(r"^(?: *)(```|~~~).*?^(?: *)\1 *$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside of docs/, and the reference of the code."""
    for source, site in OUTSIDE.items():
        content = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, site, content=content))
    # Two pages for one folder would be one too many: mkdocs takes README.md for index.md.
    code = [
        "# The code, folder by folder",
        "For those who work on it. What users import is in [api](api.md).",
    ]
    code += [f"::: temporal_token_interceptor.{folder}" for folder in FOLDERS]
    files.append(File.generated(config, "code.md", content="\n\n".join(code) + "\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Let links lead to the site's page; those to other files of the repository become the file's name."""
    site = page.file.src_uri
    folder = posixpath.dirname(INSIDE.get(site) or f"docs/{site}")

    def link(match: re.Match[str]) -> str:
        target = _on_site(match["target"], folder)
        if target is not None:
            return f"{match['image']}[{match['text']}]({target})"
        return f"{match['text']} (`{posixpath.normpath(posixpath.join(folder, match['target']))}`)"

    def source(match: re.Match[str]) -> str:
        return f'{match["name"]}="{_on_site(match["target"], folder) or match["target"]}"'

    parts, position = [], 0
    for fence in [*_FENCE.finditer(markdown), None]:
        text = markdown[position : fence.start() if fence else None]
        parts.append(_SOURCE.sub(source, _LINK.sub(link, text)))
        if fence:
            parts.append(fence[0])
            position = fence.end()
    return "".join(parts)


def _on_site(target: str, folder: str) -> str | None:
    """Return a link as the site has it; None if it leads to a file that is not on the site."""
    if re.match(r"[a-z]+:|#", target):
        return target
    path, hash_, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(folder, path))
    if path in OUTSIDE:
        return f"{OUTSIDE[path]}{hash_}{anchor}"
    if path.startswith("docs/"):
        return f"{path.removeprefix('docs/')}{hash_}{anchor}"
    return None if (ROOT / path).exists() else target  # mkdocs complains of what is nowhere
