"""The classes in config.json: read, written, and what is not as transformers writes it."""

import pytest
from ds_core.training.pretrained_labels import Labels


def test_there_and_back():
    labels = Labels(("cat", "dog", "cow"), "single_label_classification")
    assert Labels.from_config(labels.fields()) == labels
    assert labels.fields()["label2id"] == {"cat": 0, "dog": 1, "cow": 2}


def test_without_names():
    assert Labels.from_config({}) == Labels(("LABEL_0", "LABEL_1"))
    assert Labels.from_config({"num_labels": 3, "problem_type": "regression"}) == Labels.numbered(3, "regression")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"problem_type": "ranking"}, "problem_type is 'ranking', expected one of"),
        ({"num_labels": 0}, "num_labels is 0, expected a positive whole number"),
        ({"num_labels": True}, "num_labels is True"),
        ({"id2label": {"0": "a", "2": "b"}}, "expected a name for each of the classes 0, 1"),
        ({"id2label": []}, "id2label is"),
    ],
)
def test_fields_that_make_no_sense(fields, message):
    with pytest.raises(ValueError, match=message):
        Labels.from_config(fields)
