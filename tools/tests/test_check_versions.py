import check_versions
import pytest


def test_catches_a_changelog_that_lags_behind(plant):
    root = plant({"ds-core/src/ds_core/__about__.py": '__version__ = "0.2.0"\n'})
    (found,) = check_versions.check(root)
    assert "top entry is 0.1.0, the package is 0.2.0" in found


@pytest.mark.parametrize("log", ["# Changelog\n", "# Changelog\n\n## [0.1.0]\n", "## [0.1.0] - yesterday\n"])
def test_catches_a_changelog_without_entry_or_date(plant, log):
    assert list(check_versions.check(plant({"ds-core/CHANGELOG.md": log})))


def test_catches_entries_in_the_wrong_order(plant):
    log = "## [0.1.0] - 2026-01-02\n\n## [0.0.1] - 2026-01-01\n\n## [0.0.2] - 2026-01-01\n"
    (found,) = check_versions.check(plant({"ds-core/CHANGELOG.md": log}))
    assert "newest first" in found


def test_an_unreleased_section_may_stand_on_top(plant):
    log = "# Changelog\n\n## [Unreleased]\n\n- more\n\n## [0.1.0] - 2026-01-01\n"
    assert list(check_versions.check(plant({"ds-core/CHANGELOG.md": log}))) == []


@pytest.mark.parametrize(
    ("range_", "fault"),
    [("ds-core>=0.2,<0.3", "does not admit"), ("ds-core>=0.1", "no upper end"), ("ds_core>=0.1,<0.2", "dashes")],
)
def test_catches_a_wrong_range_of_a_sibling(plant, range_, fault):
    plant({"ds-core/CHANGELOG.md": "## [0.1.0] - 2026-01-01\n"})
    root = plant({"ds-cnn/src/ds_cnn/a.py": ""}, dependencies=f'"{range_}"')
    (found,) = check_versions.check(root)
    assert fault in found


def test_an_extra_refers_to_another_of_its_own_without_a_range(plant):
    root = plant({"ds-core/CHANGELOG.md": "## [0.1.0] - 2026-01-01\n"}, extras='all = ["ds-core[plot]"]\nplot = []')
    assert list(check_versions.check(root)) == []


def test_catches_different_pythons(plant):
    plant({"ds-core/src/ds_core/a.py": ""})
    root = plant({"ds-cnn/src/ds_cnn/a.py": ""})
    project = root / "packages/ds-cnn/pyproject.toml"
    project.write_text(project.read_text().replace(">=3.10", ">=3.11"))
    (found,) = check_versions.check(root)
    assert ">=3.10, >=3.11" in found


@pytest.mark.parametrize(
    "name", ["CHANGELOG.md", "README.md", "LICENSE", "src/ds_core/__about__.py", "src/ds_core/py.typed"]
)
def test_catches_a_missing_file(plant, name):
    root = plant({"ds-core/CHANGELOG.md": "## [0.1.0] - 2026-01-01\n"})
    (root / "packages/ds-core" / name).unlink()
    assert f"packages/ds-core/{name}: is not there" in check_versions.check(root)


MATRIX = """\
        with: { python-version: "3.11" }
      - run: bash .ci/run
          - { python: "3.10", torch: "2.6.0" }
          - { python: "3.12", torch: "2.9.1" }
"""
README = """\
Python 3.10 or later, torch (2.6 or later). Tested: torch 2.6.0 on Python 3.10, 2.13.0 on
Python 3.11, 2.9.1 on Python 3.12.
"""
CLASSIFIERS = [f"Programming Language :: Python :: {version}" for version in ("3", "3.10", "3.11", "3.12")]


@pytest.fixture
def supported(plant):
    """`supported(("README.md", "2.6.0", "2.7.0"))` is a workspace where all agrees but for that replacement."""

    def write(*changes):
        root = plant({"ds-core/CHANGELOG.md": "## [0.1.0] - 2026-01-01\n"}, dependencies='"torch>=2.6"')
        plant({"ds-cnn/CHANGELOG.md": "## [0.1.0] - 2026-01-01\n"}, dependencies='"torch>=2.6"')
        files = {
            check_versions.CI: MATRIX,
            "README.md": README,
            "tools/constraints.txt": "torch==2.13.0\n",
        }
        for name in ("ds-core", "ds-cnn"):
            path = f"packages/{name}/pyproject.toml"
            listed = f'version = "0.1.0"\nclassifiers = {CLASSIFIERS!r}\n'
            files[path] = (root / path).read_text().replace('version = "0.1.0"\n', listed)
        for name, old, new in changes:
            assert old in files[name]
            files[name] = files[name].replace(old, new)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return list(check_versions.check(root))

    return write


def test_what_is_supported_agrees(supported):
    assert supported() == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("packages/ds-cnn/pyproject.toml", "torch>=2.6", "torch>=2.7"), "torch's range differs: >=2.6, >=2.7"),
        (
            ("packages/ds-cnn/pyproject.toml", ", 'Programming Language :: Python :: 3.12'", ""),
            "name Python 3.10, 3.11,",
        ),
        ((check_versions.CI, '"2.6.0"', '"2.7.1"'), "the oldest torch is 2.7.1, the packages declare >=2.6"),
        ((check_versions.CI, '"3.10"', '"3.11"'), "the oldest Python is 3.11, the packages declare >=3.10"),
        (("README.md", "3.10 or later", "3.9 or later"), "expected 'Python 3.10 or later'"),
        (("README.md", "(2.6 or later)", "(2.5 or later)"), "expected 'torch (2.6 or later)'"),
        (("README.md", "2.9.1 on", "2.9.0 on"), "torch 2.9.1 on Python 3.12: only one of README.md and"),
        (("tools/constraints.txt", "2.13.0", "2.14.0"), "torch 2.14.0 on Python 3.11: only one of README.md and"),
    ],
)
def test_catches_what_is_said_otherwise_in_one_place(supported, change, fault):
    found = supported(change)
    assert any(fault in line for line in found), found
