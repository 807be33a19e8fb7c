"""A trained model as a folder that Hugging Face's libraries load, so that others can train on."""

import json
import shutil
from pathlib import Path

from trainables.checkpoint import load_model, read_checkpoint_info
from trainables.encoder import find_encoder
from trainables.model import ClickModel

HEAD_FILE = "head.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
"""What a tokenizer may be read from; the encoder's folder has some of them."""

_CARD = """\
# {name}

A BERT encoder that was fine-tuned with ClickTune to tell which impressions are clicked; adapters
are merged, nothing is pruned or quantized.

```python
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

encoder = AutoModel.from_pretrained("path/to/this/folder", add_pooling_layer=False)
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
head = load_file("path/to/this/folder/head.safetensors")
```

{head} The texts had at most {max_tokens} tokens.

Trained with `{trial}`.
"""

_HEADS = {
    1: "The log-odds of a click are `head.weight @ u + head.bias`, where u is the mean of a text's "
    "token vectors, special tokens included.",
    2: "With u and v, the means of the token vectors of segment A and of segment B ([CLS] counts "
    "to A, a [SEP] to the segment that it ends), the log-odds of a click are "
    "`head.weight @ concat(u, v, abs(u - v), u * v) + head.bias`.",
    "two_tower": "With u and v, the means of the token vectors of segment A and of segment B, "
    "each of length 1, the log-odds of a click are `head.weight * (u @ v) + head.bias`. A pair is "
    "tokenized as one input, tokens see those of their own segment alone, and B's positions begin "
    "with 1, as if [CLS] stood before it: `trainables/two_tower.py` of ClickTune.",
}
_TOWER = (
    " `tower.*` adds what the fields say to them (`trainables/field_tower.py` of ClickTune), coded "
    "and scaled as `features.json` of a bundle of the same study says."
)


def export_hugging_face(checkpoint: Path, output: Path) -> None:
    """Write a checkpoint's encoder, tokenizer and head as a Hugging Face folder.

    Args:
        checkpoint: Of a trial.
        output: A folder to make; it is there whole or not at all.

    Raises:
        ValueError: if it exists, the checkpoint can't be read, or its model has no encoder.
    """
    from safetensors.torch import save_file

    output = output.absolute()
    check_new(output)
    check_encoder(checkpoint)
    info = read_checkpoint_info(checkpoint)
    model = load_model(checkpoint)
    assert isinstance(model, ClickModel)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        model.encoder.save_pretrained(partial)
        encoder = find_encoder(info.setup.encoder)
        for name in TOKENIZER_FILES:
            if (encoder / name).is_file():
                shutil.copyfile(encoder / name, partial / name)
        rest = {
            name: weight.contiguous()
            for name, weight in model.state_dict().items()
            if not name.startswith("encoder.")
        }
        save_file(rest, partial / HEAD_FILE)
        kind = "two_tower" if info.trial.architecture == "two_tower" else info.num_segments
        card = _CARD.format(
            name=output.name,
            head=_HEADS[kind] + (_TOWER if model.tower is not None else ""),
            max_tokens=info.setup.encoder.max_tokens,
            trial=json.dumps(info.trial.effective()),
        )
        (partial / "README.md").write_text(card, encoding="utf-8")
        for file in partial.iterdir():
            # safetensors writes files that only their owner can read.
            file.chmod(0o644)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_encoder(checkpoint: Path) -> None:
    """Refuse a checkpoint whose model reads no text.

    Raises:
        ValueError: if it is one, or no checkpoint at all.
    """
    info = read_checkpoint_info(checkpoint)
    if info.trial.inputs == "fields" or not info.num_segments:
        raise ValueError(
            f"{checkpoint} is of a trial that reads fields alone, so it has no encoder that "
            "Hugging Face's libraries could load"
        )


def check_new(output: Path) -> None:
    """Refuse to write over anything.

    Raises:
        ValueError: if there is something.
    """
    if output.exists() or output.is_symlink():
        raise ValueError(f"{output} exists; choose a folder that doesn't, or remove it")
