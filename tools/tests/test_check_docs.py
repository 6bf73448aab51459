from pathlib import Path

import check_docs
import pytest
from workspace import ROOT

CODE = '''"""Twice. Theory: docs/twice.md."""


def twice(x):
    return x + x


def twice_backward(dy):
    return dy + dy  # dx = 2 dy  (1)
'''
PAGE = r"""# Twice

$$ dx = 2\, dy \tag{1} $$

## Worked example

x = 1.25 gives y = 2.5.

## Memory

0.75 of nothing.
"""
TEST = """
def test_worked_example():
    assert twice(1.25) == 2.5
"""
FILES = {
    "ds-core/src/ds_core/twice.py": CODE,
    "ds-core/docs/twice.md": PAGE,
    "ds-core/tests/test_twice.py": TEST,
}


def faults(plant, **changes):
    """What is found after each named file has one text of it replaced."""
    files = dict(FILES)
    for name, (old, new) in changes.items():
        (key,) = (key for key in files if key.split("/")[1].startswith(name))
        assert old in files[key]
        files[key] = files[key].replace(old, new)
    return list(check_docs.check(plant(files)))


def test_lets_through_a_page_that_agrees(plant):
    assert faults(plant) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"src": ("(1)", "(7)")}, "cites equation (7)"),
        ({"src": ("(1)", "(1), (1) of half.md")}, "cites equation (1), not on packages/ds-core/docs/half.md"),
        ({"docs": (r"\tag{1}", r"\tag{1} $$ $$ y = 2x \tag{2}")}, "equation (2) is cited nowhere"),
        ({"docs": (r"\tag{1}", r"\tag{1} $$ $$ y = 2x \tag{1}")}, "repeat"),
        ({"docs": ("## Worked example", "## Example")}, "no worked example"),
        ({"docs": ("2.5", "2.6")}, "2.6 of the worked example"),
        ({"tests": ("test_worked_example", "test_other")}, "has no test_worked_example"),
    ],
)
def test_catches(plant, changes, fault):
    assert any(fault in found for found in faults(plant, **changes))


@pytest.mark.parametrize("link", ["twice.md", "../src/ds_core/twice.py", "twice.md#backward", "#here", "https://a.b/c"])
def test_lets_through_links_that_lead_somewhere(plant, link):
    page = PAGE + f"\n[This]({link}) is there.\n"
    assert list(check_docs.check(plant({**FILES, "ds-core/docs/twice.md": page}))) == []


def test_catches_a_dead_link(plant):
    page = PAGE + "\nSee [half](half.md#here) of it.\n"
    (found,) = check_docs.check(plant({**FILES, "ds-core/docs/twice.md": page}))
    assert found == "packages/ds-core/docs/twice.md:13: links to half.md, which is not there"
    (found,) = check_docs.check(plant({**FILES, "ds-core/README.md": "[src](src/ds_core/half.py)\n"}))
    assert found == "packages/ds-core/README.md:1: links to src/ds_core/half.py, which is not there"


def test_catches_a_page_that_the_index_leaves_out(plant):
    (found,) = check_docs.check(plant({**FILES, "ds-core/docs/README.md": "# Pages\n"}))
    assert found == "packages/ds-core/docs/README.md: has no link to twice.md"
    assert list(check_docs.check(plant({**FILES, "ds-core/docs/README.md": "- [Twice](twice.md)\n"}))) == []


def test_catches_a_missing_page(plant):
    (found,) = check_docs.check(plant({"ds-core/src/ds_core/twice.py": CODE.replace("Theory: docs/twice.md.", "")}))
    assert found == "packages/ds-core/src/ds_core/twice.py: its page packages/ds-core/docs/twice.md is not there"


@pytest.mark.parametrize(
    ("file", "method"),
    [
        ("optimizers/yogi.py", "update(self, parameter, gradient, state, group)"),
        ("optimizers/yogi.py", "direction(self)"),
        ("schedules/wsd.py", "rate(self, step, base)"),
        ("schedules/wsd.py", "factor(self, step)"),
    ],
)
def test_an_optimizer_and_a_schedule_need_a_page(plant, file, method):
    code = f"class New:\n    def {method}:\n        "
    found = check_docs.check(plant({f"ds-core/src/ds_core/{file}": code + "return 1\n"}))
    assert any(fault.endswith(f"{Path(file).stem}.md is not there") for fault in found)
    for abstract in ("raise NotImplementedError\n", "...\n"):
        found = check_docs.check(plant({f"ds-core/src/ds_core/{file}": code + abstract}))
        assert not any("is not there" in fault for fault in found)


@pytest.mark.parametrize("body", ["accumulate(self.weight, dy)", "(x,) = self.saved()"])
def test_a_layer_whose_backward_is_its_own_needs_a_page(plant, body):
    code = f"class Layer:\n    def backward(self, dy):\n        {body}\n"
    (found,) = check_docs.check(plant({"ds-core/src/ds_core/layer.py": code}))
    assert "packages/ds-core/docs/layer.md is not there" in found
    page = {"ds-core/docs/layer.md": "# Layer\n"}
    (found,) = check_docs.check(plant(page))
    assert "layer.md: has no worked example" in found


def test_a_layer_that_only_declares_backward_needs_no_page(plant):
    code = "class Layer:\n    def backward(self, dy):\n        return self.inner.backward(dy)\n"
    assert list(check_docs.check(plant({"ds-core/src/ds_core/layer.py": code}))) == []


def test_what_hands_gradients_on_needs_no_example(plant):
    code = "class Recompute:\n    def backward(self, dy):\n        return self.saved()\n"
    files = {"ds-core/src/ds_core/engine/recompute.py": code, "ds-core/docs/recompute.md": "# Recomputation\n"}
    assert list(check_docs.check(plant(files))) == []


def test_catches_a_named_page_that_is_not_there(plant):
    (found,) = check_docs.check(plant({"ds-core/src/ds_core/a.py": '"""Theory: docs/b.md."""'}))
    assert "packages/ds-core/docs/b.md is not there" in found


def test_an_equation_that_only_the_page_cites_is_no_orphan(plant):
    assert faults(plant, docs=(r"\tag{1}", "\\tag{1} $$\n\n$$ y = 2x \\tag{2} $$\n\nBy (2) it is so. $$")) == []


def test_every_file_without_example_is_there():
    assert all((ROOT / "packages" / path).exists() for path in check_docs.NO_EXAMPLE)
