"""The server that most people would write: FastAPI around transformers' tokenizer and the model.

    python tests/benchmarks/plain_server.py BUNDLE --port PORT [--checkpoint FOLDER]

The other side of ``serving.py``, which starts it. One process and one torch thread; an ``async``
endpoint, so one request is computed at a time: with a plain one FastAPI's 40 threads would compete
for the core. Rows aren't padded, and there is no access log. Of the bundle only ``features.json``
is read: which columns a row has, and how they are joined.
"""

import argparse
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI
from transformers import AutoTokenizer

from spaces.trial_config import TrialConfig
from trainables.bundle.features import Features, read_features
from trainables.bundle.manifest import FEATURES_FILE
from trainables.checkpoint import load_model, read_checkpoint_info
from trainables.encoder import EncoderConfig, find_encoder
from trainables.model import Model, build_text_model


def load(checkpoint: Path | None, features: Features) -> tuple[Model, Path]:
    """Return a trial's model, or an untrained one, and its encoder's folder."""
    if checkpoint is not None:
        encoder = find_encoder(read_checkpoint_info(checkpoint).setup.encoder)
        return load_model(checkpoint).eval(), encoder
    encoder = find_encoder(EncoderConfig())
    segments = features.layout.num_segments
    return build_text_model(encoder, TrialConfig(), num_segments=segments).eval(), encoder


def build_app(checkpoint: Path | None, features: Features) -> FastAPI:
    model, encoder = load(checkpoint, features)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    app = FastAPI()

    @app.post("/predict")
    async def predict(row: dict[str, str]) -> dict[str, float]:
        (segments,) = features.layout.segments([[row[name]] for name in features.text])
        texts = (segments,) if isinstance(segments, str) else segments
        batch = tokenizer(
            *texts, truncation=True, max_length=features.max_tokens, return_tensors="pt"
        )
        with torch.inference_mode():
            logits = model(**batch)
        return {"probability": torch.sigmoid(logits)[0].item()}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="for its features alone")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--checkpoint", type=Path, help="of a trial; default: an untrained model")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    app = build_app(arguments.checkpoint, read_features(arguments.bundle / FEATURES_FILE))
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="info", access_log=False)


if __name__ == "__main__":
    main()
