import pytest

from ktransformer.exporting.lite import plan
from ktransformer.exporting.lite.plan import LitePlan, choose_plan


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Makes an empty file of so many megabytes, on a machine of so many cores."""

    def make(megabytes, cores):
        monkeypatch.setattr(plan, "available_cores", lambda: cores)
        path = tmp_path / "model.tflite"
        with path.open("wb") as new:
            new.truncate(megabytes << 20)
        return path

    return make


@pytest.mark.parametrize(
    ("megabytes", "quantization", "cores", "expected"),
    [
        (10, "none", 2, LitePlan((1, 1), 8)),
        (10, "none", 16, LitePlan((1,) * 8, 8)),
        (10, "none", 1, LitePlan((1,), None)),
        (240, "none", 2, LitePlan((2, 1, 1), 65, 2)),  # Further copies are heavy ones.
        (240, "none", 1, LitePlan((1,), None)),
        (60, "dynamic_int8", 2, LitePlan((2, 1, 1), 16, 2)),
        (60, "dynamic_int8", 5, LitePlan((5, 2, 3), 16, 2)),
        (60, "none", 2, LitePlan((1, 1), 8)),  # As many bytes, a quarter of the weights.
    ],
)
def test_the_size_and_the_cores_choose(file, megabytes, quantization, cores, expected):
    assert choose_plan(file(megabytes, cores), quantization) == expected


def test_what_is_given_is_kept(file):
    path = file(10, 4)
    assert choose_plan(path, "none", threads=3).threads == (3,)
    assert choose_plan(path, "none", threads=1, replicas=2).threads == (1, 1)
    assert choose_plan(path, "none", replicas=2).threads == (1, 1)
    assert choose_plan(path, "none", shared=False).threads == (1,)
    assert choose_plan(file(240, 4), "none", replicas=2).threads == (2, 2)


def test_it_says_what_was_chosen(file):
    assert str(choose_plan(file(10, 2), "none")) == (
        "2 interpreters, threads: 1, 1; parts of at most 32 hypotheses; they share a batch of at "
        "least 8"
    )
    assert str(choose_plan(file(240, 2), "none")) == (
        "3 interpreters, threads: 2, 1, 1; parts of at most 32 hypotheses; the last 2 share a "
        "batch of at least 65"
    )
