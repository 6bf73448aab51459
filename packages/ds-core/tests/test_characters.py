import pytest
from ds_core import UserError
from ds_core.text.characters import CharacterTokenizer


@pytest.mark.parametrize("character", ["é", "!", "~", "\udcff"])  # before, between and after the known ones
def test_unseen_character_is_named_with_its_place(character):
    tokenizer = CharacterTokenizer("abz\n")
    with pytest.raises(UserError) as caught:
        tokenizer.encode(f"ab{character}a", "the prompt")
    message = str(caught.value)
    assert message.startswith("the prompt has a character the tokenizer never saw")
    assert repr(character) in message
    assert "position 2" in message
    assert "\n" not in message
    with pytest.raises(UserError):
        CharacterTokenizer("").encode("a")


@pytest.mark.parametrize("token", [-1, 4])
def test_numbers_that_are_no_token(token):
    tokenizer = CharacterTokenizer("abz\n")
    with pytest.raises(ValueError, match=f"given token {token}, expected 0 to 3"):
        tokenizer.decode([0, token])
    with pytest.raises(ValueError, match=f"given token {token}, expected 0 to 3"):
        tokenizer.streaming_decoder().push(token)
