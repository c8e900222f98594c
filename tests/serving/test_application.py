import asyncio
import base64
import contextlib
import dataclasses
import json
import logging
import shutil
import threading
import time
import urllib.parse

import pytest
from libretranslatepy import LibreTranslateAPI

from ktransformer.config import DecodingConfig
from ktransformer.engines import ModelEngine
from ktransformer.errors import InputError
from ktransformer.exporting import export_lite
from ktransformer.serving import ModelServer, ModelSpec, ServingOptions, read_api_keys
from ktransformer.serving.batching import TooBusyError
from ktransformer.serving.model import deadline_in
from ktransformer.serving.observer import Observer
from tests.serving.running_app import ask, running
from tests.small_translator import drawn_translator

TEXT = "four zero two.\n\n  nine one!  seven\n"


class Notes(Observer):
    """Keeps what a server tells."""

    def __init__(self):
        self.requests, self.texts, self.batches = [], [], []

    def add_request(self, route, status, seconds):
        self.requests.append((route, status))

    def add_texts(self, model, found):
        self.texts += found

    def add_batch(self, model, report, waiting_tokens):
        self.batches.append(report)


@pytest.fixture(scope="module")
def spec(lite_file):
    return ModelSpec(lite_file, "en", "de")


@pytest.fixture(scope="module")
def server(spec):
    return ModelServer([spec], ServingOptions(threads=2, request_bytes=20_000))


@pytest.fixture(scope="module")
def address(server):
    with running(server) as found:
        yield found


@pytest.fixture(scope="module")
def engine(server):
    return server.models["en-de"].current.engine


def translate(address, **fields):
    return ask(f"{address}/translate", {"source": "en", "target": "de", **fields})


def ask_together(address, count, **fields):
    """Asks so often at the same time; returns the answers."""
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(translate(address, **fields)))
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_a_client_of_libretranslate_translates(address, engine):
    client = LibreTranslateAPI(address)
    assert client.translate(TEXT, "en", "de") == engine.translate_document([TEXT])[0].text
    assert client.languages() == [
        {"code": "de", "name": "German", "targets": []},
        {"code": "en", "name": "English", "targets": ["de"]},
    ]


def test_texts_come_back_as_they_were_asked(address, engine):
    texts = [TEXT, "", "one two", "  \n"]
    whole = [each.text for each in engine.translate_document(texts)]
    found = translate(address, q=texts).json
    assert found == {"translatedText": whole, "truncated": [False] * 4}
    assert translate(address, q=TEXT, source="auto").json == {
        "translatedText": whole[0],
        "truncated": False,
        "detectedLanguage": {"language": "en", "confidence": 100},
    }


def test_alternatives_are_of_whole_texts(address, engine):
    found = translate(address, q=TEXT, alternatives=2, sentences=True).json
    sentences = [each.source for each in engine.translate_document([TEXT])[0].sentences]
    second = [each.texts[1] for each in engine.translate_n_best(sentences, 3)]
    assert found["alternatives"][0] == "{}\n\n  {}  {}\n".format(*second)
    assert len(found["alternatives"]) == 2
    first = found["sentences"][0]
    assert first["source"] == "four zero two." == TEXT[: len(first["source"])]
    assert len(first["texts"]) == len(first["scores"]) == 3
    assert first["scores"] == sorted(first["scores"], reverse=True)


@pytest.mark.parametrize("format", ["text", "html"])
def test_a_text_that_is_cut_is_told(spec, format):
    server = ModelServer([spec], ServingOptions())
    engine = server.models["en-de"].current.engine
    engine.description = dataclasses.replace(  # It translates each line as one sentence.
        engine.description, signatures=("serving_default", "beam")
    )
    with running(server) as address:
        found = translate(address, q=["one " * 60, "one"], format=format).json
    assert found["truncated"] == [True, False]


def test_html_keeps_its_markup(address, engine):
    page = "<p title='one'>four zero two</p><code>nine</code>"
    (text,) = engine.translate(["four zero two"])
    found = translate(address, q=page, format="html").json["translatedText"]
    assert found == f"<p title='one'>{text}</p><code>nine</code>"


def test_a_long_text_is_streamed_in_order(address, engine):
    text = "four zero two.\n" * 600
    fields = {"q": text, "source": "en", "target": "de"}
    body = ask(f"{address}/translate/stream", fields).body.decode()
    events = [event.split("\n") for event in body.strip().split("\n\n")]
    names = [name for name, _ in events]
    assert names == ["event: translation"] * (len(names) - 1) + ["event: end"]
    assert len(names) > 2
    parts = [json.loads(data.removeprefix("data: "))["translatedText"] for _, data in events[:-1]]
    assert "".join(parts) == engine.translate_document([text])[0].text


@pytest.fixture
def observed(spec):
    """What a server of its own tells, and its address."""
    notes = Notes()
    with running(ModelServer([spec], ServingOptions(), notes)) as found:
        yield notes, found


def wait_for(condition):
    """Waits for what a server tells after it has answered."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_requests_that_come_together_share_batches(observed):
    notes, address = observed
    ask_together(address, 40, q="nine")
    wait_for(lambda: sum(report.items for report in notes.batches) == 40)
    assert max(report.items for report in notes.batches) > 1


def test_what_is_done_is_told_to_the_observer(observed):
    notes, address = observed
    translate(address, q=["one", "two"])
    ask(f"{address}/nowhere/at/all")
    wait_for(lambda: len(notes.requests) == 2)
    assert sorted(notes.requests) == [("/translate", 200), ("unknown", 404)]
    assert [each.source for each in notes.texts] == ["one", "two"]


@contextlib.contextmanager
def logged():
    """Yields what is written to the server's log, each record once."""
    log, records, handler = logging.getLogger("ray.serve"), [], logging.Handler()
    handler.emit = records.append
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield records
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.mark.parametrize("asked", [False, True])
def test_texts_are_logged_only_if_that_is_asked_for(spec, asked):
    with (
        logged() as records,
        running(ModelServer([spec], ServingOptions(log_texts=asked))) as address,
    ):
        assert translate(address, q="seven three").status == 200
    found = [vars(record) for record in records]
    assert any(fields.get("source") == "seven three" for fields in found) is asked
    assert ("seven three" in str(found)) is asked


PREDICT = "/v1/models/en-de:predict"


def test_tensorflow_serving_takes_rows_and_columns(address, engine):
    texts = ["one two", "nine"]
    expected = engine.translate(texts)
    rows = ask(address + PREDICT, {"instances": texts}).json["predictions"]
    assert [row["text"] for row in rows] == expected
    assert set(rows[0]) == {"text", "score", "truncated"}
    named = [{"texts": text} for text in texts]
    assert ask(address + PREDICT, {"instances": named}).json["predictions"] == rows
    encoded = [{"b64": base64.b64encode(text.encode()).decode()} for text in texts]
    assert ask(address + PREDICT, {"instances": encoded}).json["predictions"] == rows
    for inputs in (texts, {"texts": texts}):
        columns = ask(address + PREDICT, {"inputs": inputs}).json["outputs"]
        assert columns["text"] == expected
    beam = {"signature_name": "beam", "instances": texts}
    found = ask(address + PREDICT, beam).json["predictions"]
    assert [row["text"] for row in found] == [
        each.texts for each in engine.translate_n_best(texts, 3)
    ]


def test_a_signature_whose_outputs_are_no_rows_gives_columns(address, engine):
    fields = {"signature_name": "document", "inputs": [TEXT]}
    found = ask(address + PREDICT, fields).json["outputs"]
    assert found["text"] == [engine.translate_document([TEXT])[0].text]
    assert found["row_splits"] == [0, 3]


def test_a_tag_is_put_before_each_sentence_of_every_request(tmp_path):
    translator = drawn_translator(DecodingConfig(beam_size=1), tags=["<x>"])
    signatures = ["serving_default", "document", "sentences"]
    file = export_lite(translator, tmp_path / "model.tflite", signatures=signatures)
    engine = ModelEngine(translator)
    (expected,) = engine.translate_document([TEXT], tag="x")
    assert expected.text != engine.translate_document([TEXT])[0].text
    with running(ModelServer([ModelSpec(file, "en", "de", "x")], ServingOptions())) as address:
        assert translate(address, q=TEXT).json["translatedText"] == expected.text
        document = {"signature_name": "document", "inputs": [TEXT]}
        found = ask(address + PREDICT, document).json["outputs"]
        assert found["text"] == [expected.text]
        assert found["row_splits"] == [0, 3]
        texts = ["four zero two.", "", "nine one!"]
        found = ask(address + PREDICT, {"inputs": texts}).json["outputs"]
        assert found["text"] == engine.translate(texts, tag="x")
        wrong = {"signature_name": "document", "inputs": ["a", 5]}
        assert ask(address + PREDICT, wrong).status == 400


def test_models_tell_their_version_and_signatures(address):
    status = ask(f"{address}/v1/models/en-de").json["model_version_status"]
    assert [(each["version"], each["state"]) for each in status] == [("1", "AVAILABLE")]
    assert ask(f"{address}/v1/models/en-de/versions/1").status == 200
    found = ask(f"{address}/v1/models/en-de/versions/1/metadata").json["metadata"]
    assert "beam" in found["signature_def"]["signature_def"]


@pytest.mark.parametrize(
    ("path", "content", "status", "sentence"),
    [
        ("/translate", b"{", 400, "The request is not JSON."),
        ("/translate", b'{"q": "\xff"}', 400, "The request is not UTF-8."),
        ("/translate", b"[" * 15_000, 400, "nested too deeply"),
        ("/translate", b"[1]", 400, "must be an object"),
        ("/translate", {"q": "x" * 30_000}, 413, "may have 20000 bytes"),
        ("/translate", {"source": "en", "target": "de"}, 400, "q: Field required."),
        ("/translate", {"q": 5, "source": "en", "target": "de"}, 400, "q: "),
        ("/translate", {"q": "a", "source": "en", "target": "fr"}, 400, "en to fr is not served"),
        ("/translate", {"q": "a", "source": "en", "target": "de", "alternatives": 3}, 400, "to 2"),
        ("/translate", {"q": "a", "source": "en", "target": "de", "format": "x"}, 400, "format: "),
        ("/translate", {"q": ["a"] * 1025, "source": "en", "target": "de"}, 413, "1024 texts"),
        ("/translate/stream", {"q": ["a"], "source": "en", "target": "de"}, 400, "one text"),
        ("/align", {"q": "a", "translation": "b", "source": "en", "target": "de"}, 400, "annotate"),
        ("/nowhere", None, 404, "Not Found"),
        ("/translate", None, 405, "Method Not Allowed"),
        (PREDICT, {}, 400, "either instances or inputs"),
        (PREDICT, {"instances": []}, 400, "at least one row"),
        (PREDICT, {"instances": [{"texts": "a"}, {"text": "b"}]}, 400, "the same inputs"),
        (PREDICT, {"instances": [{"words": "a"}]}, 400, "takes texts; got words"),
        (PREDICT, b'{"inputs": {"\\ud800": ["a"]}}', 400, r"takes texts; got \ud800."),
        (PREDICT, {"inputs": {"texts": ["a"], "self": "b"}}, 400, "takes texts; got texts, self"),
        (PREDICT, b'{"inputs": ' + b"[" * 300 + b'"a"' + b"]" * 300 + b"}", 400, "too deeply"),
        (PREDICT, {"instances": [[1]]}, 400, "texts must be"),
        (PREDICT, {"inputs": 5}, 400, "texts must be"),
        (PREDICT, {"instances": [{"b64": "%"}]}, 400, "Base64"),
        (PREDICT, {"signature_name": "no", "inputs": []}, 404, "has no signature no"),
        (PREDICT, {"signature_name": "document", "instances": ["a", "b"]}, 400, "take inputs"),
        (PREDICT, {"signature_name": "ids", "inputs": [[5, 2]] * 1025}, 413, "1024 texts"),
        ("/v1/models/fr-de:predict", {"instances": ["a"]}, 404, "no model fr-de"),
        ("/v1/models/en-de/versions/7", None, 404, "there is no 7"),
        ("/v1/models/en-de/versions/abc", None, 400, "version: "),
    ],
)
def test_a_wrong_request_gets_one_sentence(address, lite_file, path, content, status, sentence):
    answer = ask(address + path, content)
    assert answer.status == status
    assert sentence in answer.json["error"]
    assert str(lite_file.parent) not in answer.json["error"]


def test_a_poisoned_text_comes_back(address):
    text = "a\x00b\ufffe\x1b[31m " + "x" * 5000 + "\u202e"
    answer = translate(address, q=text)
    assert answer.status == 200
    assert "\x00" in answer.json["translatedText"]
    half = ask(f"{address}/translate", b'{"q": "one \\ud800", "source": "en", "target": "de"}')
    assert half.status == 200


def test_a_key_is_asked_for(spec, tmp_path):
    file = tmp_path / "keys"
    file.write_text("# Of the team\nfirst\n\nsecond\n")
    keys = read_api_keys(file)
    assert keys == ("first", "second")
    with running(ModelServer([spec], ServingOptions(api_keys=keys))) as address:
        assert translate(address, q="one").status == 403
        assert translate(address, q="one", api_key="third").status == 403
        assert translate(address, q="one", api_key="second").status == 200
        body = {"instances": ["one"]}
        assert ask(address + PREDICT, body).status == 403
        for path in ("", "/metadata", "/versions/1", "/versions/1/metadata"):
            assert ask(f"{address}/v1/models/en-de{path}").status == 403
        for path in ("/", "/languages", "/health", "/openapi.json"):
            assert ask(address + path).status == 200
        assert ask(address + PREDICT, body, Authorization="Bearer first").status == 200
        assert ask(address + PREDICT, body, X_API_Key="first").status == 200
        form = urllib.parse.urlencode({"q": "one", "source": "en", "target": "de"}).encode()
        kind = {"Content_Type": "application/x-www-form-urlencoded"}
        assert ask(f"{address}/translate", form, **kind).status == 403
        assert ask(f"{address}/translate", form + b"&api_key=first", **kind).status == 200


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    (tmp_path / "keys").write_text("first\nsecond\n", encoding="utf-8-sig")
    assert read_api_keys(tmp_path / "keys") == ("first", "second")


def test_a_file_without_a_key_is_refused(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# nothing\n")
    with pytest.raises(InputError, match="has no API key"):
        read_api_keys(file)


def test_pages_of_other_origins_are_let_in_only_if_they_are_named(spec, address):
    name = "Access-Control-Allow-Origin"
    assert name not in ask(f"{address}/languages", Origin="https://a.example").headers
    options = ServingOptions(allow_origins=("https://a.example",))
    with running(ModelServer([spec], options)) as other:
        found = ask(f"{other}/languages", Origin="https://a.example").headers
        assert found[name] == "https://a.example"
        assert name not in ask(f"{other}/languages", Origin="https://b.example").headers


def slow_server(spec, monkeypatch, seconds, **options):
    """A server whose engine takes so long for a batch."""
    server = ModelServer([spec], ServingOptions(**options))
    engine = server.models["en-de"].current.engine
    plain = engine.translate_document

    def slow(texts):
        time.sleep(seconds)
        return plain(texts)

    monkeypatch.setattr(engine, "translate_document", slow)
    return server


def test_a_full_queue_answers_with_when_to_come_again(spec, monkeypatch):
    server = slow_server(spec, monkeypatch, 0.3, batch_tokens=3, waiting_tokens=12)
    with running(server) as address:
        answers = ask_together(address, 16, q="one two")
    statuses = sorted(answer.status for answer in answers)
    assert statuses.count(200) >= 4
    assert statuses.count(429) == 16 - statuses.count(200) > 0
    late = next(answer for answer in answers if answer.status == 429)
    assert late.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("signature", "inputs", "tokens"),
    [
        ("ids", {"source": [[5, 6, 3], [7, 3, 0]]}, 6),
        ("serving_default", {"texts": [b"12345678", b""]}, 4),
    ],
)
def test_what_a_request_of_a_signature_takes_of_a_batch_are_its_tokens(
    spec, signature, inputs, tokens
):
    notes = Notes()
    model = ModelServer([spec], ServingOptions(), notes).models["en-de"].current
    asyncio.run(model.run(signature, inputs, deadline=deadline_in(60)))
    assert [report.size for report in notes.batches] == [tokens]


def test_a_request_of_ids_waits_for_room(spec):
    async def ask_twice():
        tasks = [
            asyncio.create_task(
                model.run("serving_default", {"texts": [b"one"]}, deadline=deadline_in(60))
            )
            for _ in range(2)
        ]
        await asyncio.sleep(0)  # One runs, and one waits.
        model.check_room([[[5, 6, 3]]])
        with pytest.raises(TooBusyError):
            model.check_room([[[5, 6, 7, 8, 9, 3]]])
        await asyncio.gather(*tasks)

    options = ServingOptions(batch_tokens=1, waiting_tokens=6)
    model = ModelServer([spec], options).models["en-de"].current
    asyncio.run(ask_twice())


def test_a_deadline_answers_with_when_to_come_again(spec, monkeypatch):
    server = slow_server(spec, monkeypatch, 0.5, deadline=0.2)
    with running(server) as address:
        answer = translate(address, q="one")
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert "took too long" in answer.json["error"]


def test_an_error_within_is_told_without_its_words(spec, monkeypatch):
    server = ModelServer([spec], ServingOptions())
    engine = server.models["en-de"].current.engine

    def fail(texts):
        raise ZeroDivisionError(f"in {spec.path}")

    monkeypatch.setattr(engine, "translate_document", fail)
    with running(server) as address:
        answer = translate(address, q="one")
    assert (answer.status, answer.json) == (500, {"error": "The translation failed."})


def test_the_next_number_of_a_folder_is_served_without_a_failed_request(lite_file, tmp_path):
    shutil.copy(lite_file, tmp_path / "1.tflite")
    options = ServingOptions(reload_every=0.1)
    with running(ModelServer([ModelSpec(tmp_path, "en", "de")], options)) as address:
        statuses, stop = [], threading.Event()

        def keep_asking():
            while not stop.is_set():
                statuses.append(translate(address, q="one two").status)

        asking = threading.Thread(target=keep_asking)
        asking.start()
        (tmp_path / "2.tflite").write_bytes(lite_file.read_bytes()[:5000])  # Still being copied.
        time.sleep(0.5)
        assert ask(f"{address}/v1/models/en-de").json["model_version_status"][0]["version"] == "1"
        (tmp_path / "3.tflite").write_bytes(b"no model")
        shutil.copy(lite_file, tmp_path / "part")
        (tmp_path / "part").rename(tmp_path / "2.tflite")
        deadline = time.monotonic() + 30
        while ask(f"{address}/v1/models/en-de/versions/2").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        stop.set()
        asking.join()
    assert set(statuses) == {200}
    assert len(statuses) > 5


def test_a_version_that_cannot_be_opened_keeps_no_server_from_starting(lite_file, tmp_path):
    shutil.copy(lite_file, tmp_path / "1.tflite")
    (tmp_path / "2.tflite").write_bytes(b"no model")
    server = ModelServer([ModelSpec(tmp_path, "en", "de")], ServingOptions())
    assert server.models["en-de"].current.version == 1
    (tmp_path / "1.tflite").unlink()
    with pytest.raises(InputError, match=r"2\.tflite"):
        ModelServer([ModelSpec(tmp_path, "en", "de")], ServingOptions())


def test_a_folder_that_was_still_being_copied_is_served_when_it_is_whole(
    lite_file, run_folder, tmp_path
):
    shutil.copy(lite_file, tmp_path / "1.tflite")
    shutil.copytree(run_folder, tmp_path / "2")
    weights = max((tmp_path / "2").rglob("*"), key=lambda path: path.stat().st_size)
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    server = ModelServer([ModelSpec(tmp_path, "en", "de")], ServingOptions())
    model = server.models["en-de"]
    assert not asyncio.run(model.reload())
    with weights.open("ab") as file:  # The time of its folder stays.
        file.write(whole[len(whole) // 2 :])
    assert asyncio.run(model.reload())
    assert model.current.version == 2


def test_a_version_that_has_gone_meanwhile_is_passed_over(lite_file, tmp_path):
    shutil.copy(lite_file, tmp_path / "1.tflite")
    (tmp_path / "2.tflite").symlink_to(tmp_path / "gone")
    with logged() as records:
        server = ModelServer([ModelSpec(tmp_path, "en", "de")], ServingOptions())
        assert not asyncio.run(server.models["en-de"].reload())
    assert server.models["en-de"].current.version == 1
    assert len(records) == 1  # It is not told every two seconds.


def test_a_model_that_is_away_keeps_no_other_from_its_new_version(lite_file, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        shutil.copy(lite_file, tmp_path / name / "1.tflite")
    specs = [ModelSpec(tmp_path / "first", "en", "de"), ModelSpec(tmp_path / "second", "en", "fr")]
    server = ModelServer(specs, ServingOptions())
    shutil.rmtree(tmp_path / "first")
    shutil.copy(lite_file, tmp_path / "second" / "2.tflite")
    with logged() as records:
        for _ in range(2):
            asyncio.run(server.reload())
    assert server.models["en-fr"].current.version == 2
    warnings = [record for record in records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1  # Not every two seconds.
    assert warnings[0].exc_info is None
    assert "No new version of en-de is found" in warnings[0].getMessage()


def test_an_unforeseen_error_of_a_model_keeps_no_other_from_its_new_version(
    lite_file, tmp_path, monkeypatch
):
    shutil.copy(lite_file, tmp_path / "1.tflite")
    specs = [ModelSpec(lite_file, "en", "de"), ModelSpec(tmp_path, "en", "fr")]
    server = ModelServer(specs, ServingOptions())
    shutil.copy(lite_file, tmp_path / "2.tflite")

    async def fail():
        raise ZeroDivisionError

    monkeypatch.setattr(server.models["en-de"], "reload", fail)
    with logged() as records:
        asyncio.run(server.reload())
    assert server.models["en-fr"].current.version == 2
    assert [record.exc_info[0] for record in records if record.exc_info] == [ZeroDivisionError]


def test_two_models_of_the_same_languages_are_refused(spec):
    with pytest.raises(InputError, match="Two models translate en into de"):
        ModelServer([spec, spec], ServingOptions())


def test_a_source_that_may_be_several_is_asked_for(spec):
    server = ModelServer([spec, ModelSpec(spec.path, "fr", "de")], ServingOptions())
    assert server.find("fr", "de").spec.source == "fr"
    with pytest.raises(InputError, match="give one of en to de, fr to de"):
        server.find("auto", "de")


@pytest.mark.parametrize("values", [{"deadline": 0}, {"deadline": float("nan")}, {"threads": 0}])
def test_limits_out_of_range_are_refused(values):
    with pytest.raises(InputError, match=next(iter(values))):
        ServingOptions(**values)
