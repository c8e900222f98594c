"""CTranslate2 behind FastAPI, as LibreTranslate's API has it; ktransformer is not imported.

    python export/benchmark/serving/ctranslate2_server.py MODEL TOKENIZER PORT BEAM

A request is translated when it comes, in a thread, by one of two replicas of one thread each.
A translation has at most 100 tokens: where the model's positions end, CTranslate2 fails.
"""

import sys

import ctranslate2
import sentencepiece
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

MAX_LENGTH = 100  # Tokens.


class TranslateRequest(BaseModel):
    """What `/translate` takes."""

    q: str
    source: str
    target: str


def main() -> int:
    """Serves until it is ended."""
    model, tokenizer, port, beam_size = sys.argv[1:]
    translator = ctranslate2.Translator(model, inter_threads=2, intra_threads=1)
    pieces = sentencepiece.SentencePieceProcessor(model_file=tokenizer)
    app = FastAPI()

    @app.post("/translate")
    def translate(asked: TranslateRequest) -> dict[str, str]:
        tokens = [*pieces.encode(asked.q, out_type=str), "</s>"]
        (found,) = translator.translate_batch(
            [tokens], beam_size=int(beam_size), max_decoding_length=MAX_LENGTH
        )
        return {"translatedText": pieces.decode(found.hypotheses[0])}

    assert not [name for name in sys.modules if name.split(".")[0] == "ktransformer"]
    print("ready", flush=True)
    uvicorn.run(app, port=int(port), log_level="error")
    return 0


if __name__ == "__main__":
    sys.exit(main())
