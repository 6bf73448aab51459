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
