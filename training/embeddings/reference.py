"""Embeds lines with sentence-transformers, in an environment of its own (requirements.txt).

    python training/embeddings/reference.py FOLDER --lines lines.txt --output reference.npz

The file holds `embedding`, float32 [N, D], and the ids of all lines, joined, as `ids`, with their
numbers as `lengths`. With `--serve` it writes no file: it is the worker of
`speed.py`, which sends it batches of lines as JSON and gets back the processor time of each.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--lines")
    parser.add_argument("--output")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = SentenceTransformer(options.folder, device="cpu")
    if options.serve:
        for request in sys.stdin:
            lines = json.loads(request)
            start = time.process_time()
            model.encode(lines, batch_size=len(lines), show_progress_bar=False)
            print(time.process_time() - start, flush=True)
        return
    lines = Path(options.lines).read_text(encoding="utf-8").split("\n")[:-1]
    embedding = model.encode(lines, batch_size=32, show_progress_bar=False)
    ids = model.tokenizer(lines, truncation=False, padding=False)["input_ids"]
    np.savez_compressed(
        options.output,
        embedding=embedding.astype(np.float32),
        ids=np.concatenate(ids).astype(np.int32),
        lengths=np.array([len(each) for each in ids], np.int32),
    )


if __name__ == "__main__":
    main()
