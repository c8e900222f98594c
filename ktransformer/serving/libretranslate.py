"""The endpoints of LibreTranslate's API, which its clients speak, and a stream beside them."""

import dataclasses
import json
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal, TypeVar

import babel
import pydantic
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, StreamingResponse

from ktransformer.serving.batching import DeadlineError, run_all
from ktransformer.serving.html import translate_html
from ktransformer.serving.http_requests import (
    HttpError,
    check_count,
    check_key,
    read_fields,
    to_response,
    to_text,
)
from ktransformer.serving.model import OpenModel, deadline_in
from ktransformer.serving.server import ModelServer
from ktransformer.serving.translated import TranslatedText

_log = logging.getLogger("ray.serve")
_Model = TypeVar("_Model", bound=pydantic.BaseModel)

router = APIRouter(tags=["LibreTranslate"])


_Text = Annotated[str, pydantic.AfterValidator(lambda text: to_text("q", text))]


class TranslateRequest(pydantic.BaseModel):
    """What `/translate` takes, as JSON or as a form."""

    q: _Text | list[_Text] = pydantic.Field(description="A text of any length, or several.")
    source: str = pydantic.Field(description="Code of its language, or `auto`.", examples=["en"])
    target: str = pydantic.Field(description="Code of the language wanted.", examples=["de"])
    format: Literal["text", "html"] = pydantic.Field(
        "text", description="`html` leaves markup as it is."
    )
    alternatives: int = pydantic.Field(0, ge=0, description="Further translations of each text.")
    sentences: bool = pydantic.Field(
        False, description="Whether to tell the sentences, with scores and places (text alone)."
    )
    api_key: str = pydantic.Field("", description="A key, where the server asks for one.")


class AlignRequest(pydantic.BaseModel):
    """What `/align` takes: a sentence and its translation."""

    q: _Text
    translation: _Text
    source: str
    target: str
    api_key: str = ""


async def find_server(request: Request) -> ModelServer:
    """Returns the server that runs in this process."""
    server: ModelServer = request.app.state.server
    return server


Server = Annotated[ModelServer, Depends(find_server)]


def _body(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Describes a body that is read by hand, as JSON or as a form, in the OpenAPI page."""
    schema = model.model_json_schema()
    kinds = ("application/json", "application/x-www-form-urlencoded")
    return {
        "requestBody": {"required": True, "content": {kind: {"schema": schema} for kind in kinds}}
    }


async def _read(request: Request, server: ModelServer, model: type[_Model]) -> _Model:
    """Reads and checks a request.

    Raises:
        HttpError: It is too large, brings no key, or a field is missing or wrong.
    """
    fields = await read_fields(request, server.options.request_bytes)
    check_key(request, server.options.api_keys, fields.get("api_key"))
    try:
        return model.model_validate(fields)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise HttpError(400, f"{first['loc'][0]}: {first['msg']}.") from error


@router.post("/translate", openapi_extra=_body(TranslateRequest))
async def translate(request: Request, server: Server) -> JSONResponse:
    """Translates a text, or several, of any length."""
    asked = await _read(request, server, TranslateRequest)
    texts = asked.q if isinstance(asked.q, list) else [asked.q]
    model = _find_model(server, asked, texts)
    model.check_room(texts)
    deadline = deadline_in(server.options.deadline)
    if asked.format == "html":
        most = server.options.request_texts
        pages = await run_all(_translate_html(model, text, most, deadline) for text in texts)
        columns = {name: [page[name] for page in pages] for name in ("translatedText", "truncated")}
    else:
        results = await _translate_all(model, texts, deadline, asked.alternatives)
        columns = _to_columns(results, asked)
    if asked.source == "auto":
        columns["detectedLanguage"] = [_detected(model)] * len(texts)
    if isinstance(asked.q, list):
        return JSONResponse(columns)
    return JSONResponse({name: values[0] for name, values in columns.items()})


@router.post("/translate/stream", openapi_extra=_body(TranslateRequest))
async def translate_stream(request: Request, server: Server) -> StreamingResponse:
    """Translates a text as server-sent events: `translatedText` part by part, then `end`.

    The parts make the translation when they are put together.
    """
    asked = await _read(request, server, TranslateRequest)
    if isinstance(asked.q, list) or asked.format != "text" or asked.alternatives:
        raise HttpError(400, "A stream takes one text, as text, without alternatives.")
    model = _find_model(server, asked, [asked.q])
    model.check_room([asked.q])
    events = _events(model, asked.q, deadline_in(server.options.deadline))
    return StreamingResponse(events, media_type="text/event-stream")


async def _events(model: OpenModel, text: str, deadline: float) -> AsyncIterator[str]:
    truncated = False
    try:
        async for part in model.stream(text, deadline=deadline):
            truncated |= part.truncated
            yield _event("translation", {"translatedText": part.text})
    except Exception as error:
        if not isinstance(error, DeadlineError):
            _log.exception("A stream failed.")
        yield _event("error", json.loads(bytes(to_response(error).body)))
    else:
        yield _event("end", {"truncated": truncated})


def _event(name: str, content: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"


@router.post("/align", openapi_extra=_body(AlignRequest))
async def align(request: Request, server: Server) -> JSONResponse:
    """Aligns a sentence's translation, and scores its tokens.

    `links` are spans of characters: from and to in the sentence, from and to in the translation.
    It takes a model with the signature `annotate`.
    """
    asked = await _read(request, server, AlignRequest)
    model = server.find(asked.source, asked.target).current
    model.check_room([asked.q, asked.translation])
    found = await model.annotate(
        asked.q, asked.translation, deadline=deadline_in(server.options.deadline)
    )
    return JSONResponse(
        {
            "links": [[*source, *target] for source, target in found.characters],
            "tokens": found.tokens,
            "scores": found.scores,
        }
    )


@router.get("/languages")
async def languages(server: Server) -> list[dict[str, Any]]:
    """Lists the source languages, with the target languages of each."""
    targets: dict[str, list[str]] = {}
    for model in server.models.values():
        targets.setdefault(model.spec.source, []).append(model.spec.target)
        targets.setdefault(model.spec.target, [])
    return [
        {"code": code, "name": language_name(code), "targets": sorted(found)}
        for code, found in sorted(targets.items())
    ]


@router.get("/health")
async def health() -> dict[str, str]:
    """Tells that the models are open."""
    return {"status": "ok"}


def language_name(code: str) -> str:
    """Returns the English name of a language, or the code itself where it is none."""
    try:
        return babel.Locale.parse(code.replace("-", "_")).get_display_name("en") or code
    except (ValueError, babel.UnknownLocaleError):
        return code


def _find_model(server: ModelServer, asked: TranslateRequest, texts: Sequence[str]) -> OpenModel:
    """Returns the model that is asked for.

    Raises:
        HttpError: There is none, or too much is asked of it.
    """
    model = server.find(asked.source, asked.target).current
    check_count(len(texts), server.options.request_texts)
    most = min(server.options.alternatives, model.most_alternatives)
    if asked.alternatives and not model.most_alternatives:
        raise HttpError(400, "The model gives no alternatives: it has no signature beam.")
    if asked.alternatives > most:
        raise HttpError(400, f"alternatives must be from 0 to {most}; got {asked.alternatives}.")
    if asked.alternatives and asked.format == "html":
        raise HttpError(400, "HTML has no alternatives.")
    return model


async def _translate_all(
    model: OpenModel, texts: Sequence[str], deadline: float, alternatives: int = 0
) -> list[TranslatedText]:
    return await run_all(
        model.translate(text, alternatives=alternatives, deadline=deadline) for text in texts
    )


async def _translate_html(
    model: OpenModel, content: str, most: int, deadline: float
) -> dict[str, Any]:
    """Translates HTML; returns what is told of it, by field."""
    truncated = False

    async def translate(texts: Sequence[str]) -> list[str]:
        nonlocal truncated
        check_count(len(texts), most)
        found = await _translate_all(model, texts, deadline)
        truncated |= any(each.truncated for each in found)
        return [each.text for each in found]

    copies_tags = "tags" in model.engine.description.decoding.copy
    text = await translate_html(content, translate, copies_tags=copies_tags)
    return {"translatedText": text, "truncated": truncated}


def _detected(model: OpenModel) -> dict[str, Any]:
    """Tells the source language: the only one that goes with the target."""
    return {"language": model.spec.source, "confidence": 100}


def _to_columns(results: Sequence[TranslatedText], asked: TranslateRequest) -> dict[str, list[Any]]:
    """Returns what is told of the texts, a list for each field."""
    columns: dict[str, list[Any]] = {
        "translatedText": [each.text for each in results],
        "truncated": [each.truncated for each in results],
    }
    if asked.alternatives:
        columns["alternatives"] = [each.texts[1:] for each in results]
    if asked.sentences:
        columns["sentences"] = [
            [dataclasses.asdict(sentence) for sentence in each.sentences] for each in results
        ]
    return columns
