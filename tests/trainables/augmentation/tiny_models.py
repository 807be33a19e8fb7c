"""Random models of one layer that know a few words."""

import json
from pathlib import Path

WORDS = [
    *["jacket", "shoes", "phone", "kids", "video", "couch", "laptop", "camera", "gift", "house"],
    *["beautiful", "waterproof", "premium", "table", "lamp", "chair", "dress", "boots", "garden"],
]
CHINESE = "沙发手机壳新款桌椅灯杯鞋包衣裤帽书笔车床"


def write_translator(folder: Path, seed: int) -> Path:
    """Write a random Marian model of one layer that reads and writes the words above."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

    vocabulary = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    settings = MarianConfig(
        vocab_size=len(vocabulary),
        decoder_vocab_size=len(vocabulary),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=32,
        pad_token_id=0,
        eos_token_id=1,
        forced_eos_token_id=1,
        decoder_start_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        MarianMTModel(settings).save_pretrained(folder)
    return folder


def write_masked_model(folder: Path, tiny_encoder: Path) -> Path:
    """Write a random BertForMaskedLM with the tiny encoder's words and those above."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = json.loads((tiny_encoder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    for word in [*WORDS, *CHINESE]:
        vocabulary.setdefault(word, len(vocabulary))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertForMaskedLM(settings).save_pretrained(folder)
    return folder
