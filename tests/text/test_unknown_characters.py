from ktransformer.text import Tokenizer
from ktransformer.text.unknown_characters import UnknownCharacters


def test_characters_that_the_tokenizer_has_never_seen_are_counted():
    tokenizer = Tokenizer.train(["seven dogs", "12 cats"] * 20, 60)
    unknown = UnknownCharacters(tokenizer.characters)
    unknown.add(["seven", "SEVEN", "1,2", "dog", ""])
    assert unknown.texts == 2
    assert unknown.counts == {"S": 1, "E": 2, "V": 1, "N": 1, ",": 1}
    assert str(unknown).startswith(
        "2 texts hold characters that the tokenizer has never seen, 6 in all: 'E' (2), "
    )


def test_characters_that_the_normalisation_makes_known_are_not_counted():
    tokenizer = Tokenizer.train(["seven dogs", "12 cats"] * 20, 60)
    unknown = UnknownCharacters(tokenizer.characters)
    unknown.add(["\uff53even", "①\t②", "cats\u200bdogs", "\u0001"])
    assert (unknown.texts, unknown.counts) == (0, {})


def test_a_tokenizer_that_does_not_tell_has_no_unknown_characters():
    unknown = UnknownCharacters(None)
    unknown.add(["жж"])
    assert unknown.texts == 0
