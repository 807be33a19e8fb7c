"""The packages are ours alone, say what they are for, and the README shows them as they are.

``python tests/test_layout.py`` prints the tree that the README has to show.
"""

import ast
import importlib.metadata
import importlib.util
import itertools
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("spaces", "cluster", "trainables", "search")


def modules() -> list[Path]:
    """Return every module's path inside the repository, a folder's own first."""
    found = [path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    return sorted(found, key=lambda path: (PACKAGES.index(path.parts[0]), _order(path)))


def _order(path: Path) -> list[tuple[bool, str]]:
    # Folders after the modules beside them; a folder's __init__ stands for the folder.
    parts = path.parts
    return [(index < len(parts) - 1, part) for index, part in enumerate(parts)]


def sentence(module: Path) -> str:
    """Return the first paragraph of a module's docstring."""
    docstring = ast.get_docstring(ast.parse((ROOT / module).read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def tree() -> str:
    """Return the modules and their sentences, one a line, as the README shows them."""
    lines = []
    for module in modules():
        depth = len(module.parts) - 1
        if module.name == "__init__.py":
            entry = "  " * (depth - 1) + module.parent.name + "/"
        else:
            entry = "  " * depth + module.name
        lines.append(f"{entry:<26} {sentence(module).removesuffix('.')}")
    return "\n".join(lines)


def readme_tree() -> str:
    """Return the README's fenced block that starts with the first package."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    trees = [block.rstrip("\n") for block in blocks if block.startswith(f"{PACKAGES[0]}/")]
    assert len(trees) == 1, f"README.md needs one fenced block that starts with {PACKAGES[0]}/"
    return trees[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_owns_a_package_of_ours(package: str) -> None:
    owners = set(importlib.metadata.packages_distributions().get(package, []))
    spec = importlib.util.find_spec(package)

    assert owners <= {"clicktune"}
    assert spec is not None
    assert spec.origin == str(ROOT / package / "__init__.py")


@pytest.mark.parametrize("module", modules(), ids=str)
def test_a_module_says_in_one_sentence_what_it_is_for(module: Path) -> None:
    said = sentence(module)

    assert said.endswith("."), f"{module} needs a sentence as the first line of its docstring"
    assert not re.search(r"\.\s+[A-Z]", said), f"{module} says more than one sentence: {said}"


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {module.parent for module in modules()}

    assert {folder for folder in folders if not (ROOT / folder / "__init__.py").is_file()} == set()


def test_the_readme_shows_every_module_with_its_sentence() -> None:
    assert readme_tree().splitlines() == tree().splitlines(), (
        "put this into README.md's block:\n" + tree()
    )


def test_tests_mirror_the_packages() -> None:
    known = {str(module.parent) for module in modules()}
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    named = {str(folder.relative_to(ROOT / "tests")) for folder in folders}

    assert named - known <= {".", "benchmarks", "faults"}


def test_each_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *itertools.chain(*project["optional-dependencies"].values()),
    ]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pinned = {canonicalize_name(name): version for name, version in pins.items()}

    for text in wanted:
        requirement = Requirement(text)
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"constraints.txt doesn't pin {requirement.name}"
        assert requirement.specifier.contains(version), f"{version} isn't allowed by {text}"


if __name__ == "__main__":
    sys.stdout.write(tree() + "\n")
