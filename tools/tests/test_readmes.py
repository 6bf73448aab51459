"""Every example of every README runs as shown, and every command in it exists."""

import dataclasses
import os
import re
import shlex

import check_docs
import ds_core.cli.main
import pytest
from ds_core.recipes.recipe import find_recipe
from ds_core.training.run_folder import open_run_folder
from workspace import ROOT, location, packages, read_toml

READMES = {location(ROOT, path): path for path in [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md"))]}


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", READMES)
def test_python_runs_as_shown(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = blocks(READMES[name], "python")
    assert code
    for block in code:
        exec(compile(block, name, "exec"), {"__name__": "__main__"})
        assert os.listdir(tmp_path) == []


def test_the_first_gradient_takes_fifteen_lines_and_is_autograds(capsys):
    (code,) = blocks(READMES["README.md"], "python")
    assert len([line for line in code.splitlines() if line]) <= 15
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    difference = re.fullmatch(r"tensor\((.+)\)\n", printed)
    assert difference is not None, printed
    assert 0 <= float(difference[1]) < 1e-6  # and not NaN


@pytest.mark.parametrize("name", READMES)
def test_hatch_scripts_exist(name):
    environments = read_toml(ROOT / "pyproject.toml")["tool"]["hatch"]["envs"]
    for environment, script in re.findall(r"hatch run (?:([\w-]+):)?([\w-]+)", READMES[name].read_text("utf-8")):
        own = environment in {package.name for package in packages()}  # tools/hatch_environments.py
        scripts = {"test"} if own else environments[environment or "default"]["scripts"]
        assert script in scripts, f"hatch run {environment}:{script}"


@pytest.mark.parametrize("name", READMES)
def test_ds_takes_its_commands(name, tmp_path, monkeypatch):
    """One after the other, by `ds` itself; only what the recipe then does is left out, but for opening the folder."""

    def find(recipe):
        found = find_recipe(recipe)
        return dataclasses.replace(
            found,
            train=lambda options: done.append(open_run_folder(found.name, options)),
            commands=tuple(
                dataclasses.replace(command, run=lambda folder, options: done.append(folder))
                for command in found.commands
            ),
            check=lambda: done.append(found.name),
        )

    monkeypatch.setattr(ds_core.cli.main, "find_recipe", find)
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^ds .+", "\n".join(blocks(READMES[name], "sh")), re.MULTILINE)
    assert lines or name != "README.md"
    for line in lines:
        done = []
        words = shlex.split(line, comments=True)[1:]
        assert ds_core.cli.main.main(words) == 0, line
        assert len(done) == (words[0] not in ("list", "info")), line


@pytest.mark.parametrize("name", READMES)
def test_links_lead_somewhere(name):
    for link in check_docs.LINK.findall(READMES[name].read_text("utf-8")):
        assert (READMES[name].parent / link).exists(), link


@pytest.mark.parametrize("name", READMES)
def test_install_commands_name_every_sibling_that_is_needed(name):
    members = {package.name: package for package in packages()}
    for command in re.findall(r"pip install(?:.*\\\n)*.*", "\n".join(blocks(READMES[name], "sh"))):
        named = re.findall(r"subdirectory=packages/([\w-]+)", command)
        named += [wheel.replace("_", "-") for wheel in re.findall(r"dist/(\w+)-", command)]
        needed = {requirement.name for each in named for requirement in members[each].requirements()}
        assert needed & set(members) <= set(named), command


def test_the_map_shows_every_package():
    rows = re.findall(
        r"^\| \[([\w-]+)\]\(packages/([\w-]+)\) \|", READMES["README.md"].read_text("utf-8"), re.MULTILINE
    )
    assert rows == [(name, name) for name, _ in rows]
    assert {name for name, _ in rows} == {package.name for package in packages()}
