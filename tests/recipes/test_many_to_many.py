"""The recipe of many-to-many models: its lists of corpora."""

from pathlib import Path

import pytest

from ktransformer.fitting.mixture import read_mixture

RECIPE = Path(__file__).parents[2] / "training" / "many_to_many"


@pytest.mark.parametrize(
    ("name", "directions"),
    [
        ("en_de.yaml", ["en-de", "de-en"]),
        ("en_de_fr.yaml", ["en-de", "de-en", "en-fr", "fr-en"]),
    ],
)
def test_each_direction_has_the_tag_of_its_target_and_its_own_validation(name, directions):
    corpora = read_mixture(RECIPE / name)
    for corpus, direction in zip(corpora, directions, strict=True):
        source, target = direction.split("-")
        assert corpus.source == (f"DATA/train.{source}.gz",)
        assert corpus.target == (f"DATA/train.{target}.gz",)
        assert corpus.validation_source == (f"DATA/val.{source}.gz",)
        assert corpus.validation_target == (f"DATA/val.{target}.gz",)
        assert corpus.tag == f"<2{target}>"
        assert corpus.weight is None
