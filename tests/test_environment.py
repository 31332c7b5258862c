"""The files that name packages agree with each other, and the repo holds what it should."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_environment_yml_names_the_packages_of_pyproject():
    *_, by_pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert sorted(by_pip["pip"]) == sorted(PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"])


def test_the_lock_pins_every_package_with_hashes_and_names_no_index():
    lock = (ROOT / "requirements.lock").read_text()
    pinned = {name.lower().replace("_", "-") for name in re.findall(r"^([A-Za-z0-9_.\-]+)==", lock, re.M)}
    wanted = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
    names = {re.split(r"[>=<\[ ]", item)[0].lower().replace("_", "-") for item in wanted}
    assert names <= pinned, names - pinned
    assert "://" not in lock and "--index" not in lock
    assert lock.count("--hash=sha256:") >= len(pinned)


def test_notebooks_are_stripped_and_parametrised():
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        content = json.loads(path.read_text())
        code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        assert not any(cell["outputs"] or cell["execution_count"] for cell in code), (
            f"{path.name} has outputs: strip them"
        )
        assert "widgets" not in content["metadata"], f"{path.name} carries widget state"
        assert content["metadata"]["kernelspec"]["language"] == "python", path.name
        assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1, path.name


def test_the_explorers_page_is_the_notebook_behind_a_random_token():
    from voila.app import Voila

    line = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "/voila " in line)
    page = Voila()
    page.parse_command_line(shlex.split(line)[1:])
    assert page.extra_args == ["runs/.explorer.ipynb"] and page.ip == "127.0.0.1"
    assert page.auto_token and not page.token
