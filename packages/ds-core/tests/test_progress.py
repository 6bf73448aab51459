"""The bar and the lines beside it."""

from ds_core.training.progress import Progress


def test_bar_shows_steps_and_values(capsys):
    progress = Progress()
    progress.start(5, 3)
    progress.advance(loss=1.23456)
    progress.note("a note")
    progress.write("a sample")
    progress.advance(loss=1.0)
    progress.close()
    out, err = capsys.readouterr()
    assert out == "a sample\n"
    assert "a note" in err
    assert "5/5" in err
    assert "loss=1" in err


def test_not_shown_is_silent_but_for_results(capsys):
    progress = Progress(shown=False)
    progress.start(5)
    progress.advance(loss=1.0)
    progress.note("a note")
    progress.write("a sample")
    progress.close()
    assert capsys.readouterr() == ("a sample\n", "")


def test_notes_without_a_bar(capsys):
    Progress().note("a note")
    assert capsys.readouterr() == ("", "a note\n")
