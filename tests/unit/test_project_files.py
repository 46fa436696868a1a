"""The files around the code: what only shows where the project is built, released or joined by others."""

import json
import re
import tomllib

import pytest

from tests.support.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
_CONFLICT = re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE)
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_to_a_commit(workflow):
    """A tag can be moved to other code; a commit cannot. The comment has its version, for dependabot."""
    used = re.findall(r"uses: (.+)", workflow.read_text(encoding="utf-8"))

    assert used
    assert [action for action in used if not PINNED.fullmatch(action)] == []


def test_ci_and_nox_run_every_python_that_the_classifiers_name():
    """A version of Python that we claim to support is one that CI tests; CI may be ahead."""
    claimed = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    [in_ci] = re.findall(r"python: \[(.+)\]", (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    [in_nox] = re.findall(r"PYTHONS = \((.+)\)", (ROOT / "noxfile.py").read_text(encoding="utf-8"))

    assert re.findall(r"3\.\d+", in_ci) == re.findall(r"3\.\d+", in_nox)
    assert set(claimed) <= set(re.findall(r"3\.\d+", in_ci))
    assert PROJECT["requires-python"] == f">={claimed[0]}"


def test_every_dependency_has_a_floor():
    """`make lowest` tests the oldest release that is allowed, so there has to be one."""
    extras = PROJECT["optional-dependencies"]
    dependencies = [*PROJECT["dependencies"]]
    for name in ("cli", "gateway", "serve", "test"):
        dependencies += [one for one in extras[name] if not one.startswith("temporal-token-interceptor[")]

    assert [name for name in dependencies if ">=" not in name] == []


def test_every_dependency_has_a_tested_version():
    """constraints.txt has one exact version of each package that the project names."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {_normalized(line.partition("==")[0]) for line in text.splitlines() if "==" in line}
    extras = PROJECT["optional-dependencies"].values()
    named = {
        _normalized(re.split(r"[^\w.-]", requirement)[0])
        for requirements in (PROJECT["dependencies"], *extras)
        for requirement in requirements
    }

    assert named - pinned - {PROJECT["name"]} == set()


def test_no_file_has_marks_of_a_merge_conflict():
    """A conflict that was committed unresolved lies well hidden in a docstring: nothing else fails."""
    folders = ("temporal_token_interceptor", "tests", "docs", "benchmarks", "examples")
    paths = [*ROOT.glob("*.*"), *(path for folder in folders for path in (ROOT / folder).rglob("*.*"))]
    texts = [
        path for path in paths if path.suffix in {".py", ".md", ".toml", ".txt", ".json", ".yml", ".html"}
    ]

    assert len(texts) > 300
    assert [path.name for path in texts if _CONFLICT.search(path.read_text(encoding="utf-8"))] == []


def test_the_providers_suite_is_run_by_its_own_target_alone():
    """Plain `make test` does not have its packages; `make providers` names the folder, so it is run."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert "tests/providers" in configuration["tool"]["pytest"]["norecursedirs"]
    assert makefile.count("-m pytest -n 0 tests/providers\n") == 2
    assert "make providers-quick\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_clients_have_a_target_and_a_job_of_their_own():
    """Plain `make test` does not have node's packages; CI runs them, and weekly the newest."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")

    assert "tests/clients" in configuration["tool"]["pytest"]["norecursedirs"]
    assert makefile.count("-m pytest -n 0 -s tests/clients\n") == 2
    assert "- run: make clients\n" in workflow
    assert "- run: make clients-newest\n" in workflow


def test_packages_of_clients_have_exact_versions():
    """And nothing is committed that says where they come from."""
    package = json.loads((ROOT / "tests" / "clients" / "package.json").read_text(encoding="utf-8"))

    for name, version in package["dependencies"].items():
        assert re.fullmatch(r"(npm:@?[a-z/-]+@)?\d+\.\d+\.\d+", version), name
    assert not list((ROOT / "tests" / "clients").glob("*lock*"))


def _normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()
