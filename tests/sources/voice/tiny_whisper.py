"""A Whisper of random weights, made in a second: real files for faster-whisper, a hundredth of the size of the smallest real one.

What it writes is nonsense; that files are read, words have times and probabilities, and languages are told, is real.
"""

from __future__ import annotations

import json
from pathlib import Path

LANGUAGES = "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su".split()


def make_whisper(folder: Path) -> Path:
    """A folder that faster-whisper can open."""
    import torch
    from ctranslate2.converters import TransformersConverter
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES), "<|translate|>", "<|transcribe|>"]
    marks += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    marks += [f"<|{n * 0.02:.2f}|>" for n in range(1501)]
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    torch.manual_seed(2)
    number = tokenizer.token_to_id
    config = WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(), d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, num_mel_bins=80,
        pad_token_id=number("<|endoftext|>"), bos_token_id=number("<|endoftext|>"), eos_token_id=number("<|endoftext|>"),
        decoder_start_token_id=number("<|startoftranscript|>"), suppress_tokens=[], begin_suppress_tokens=[number("<|endoftext|>")],
    )  # fmt: skip
    original = folder / "original"
    model = WhisperForConditionalGeneration(config)
    model.generation_config.lang_to_id = {f"<|{code}|>": number(f"<|{code}|>") for code in LANGUAGES}
    model.generation_config.alignment_heads = [[1, 0], [1, 1]]
    model.generation_config.suppress_tokens = []
    model.generation_config.no_timestamps_token_id = number("<|notimestamps|>")
    model.save_pretrained(original)
    tokenizer.save(str(original / "tokenizer.json"))
    (original / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})
    )
    WhisperFeatureExtractor().save_pretrained(original)
    made = folder / "made"
    TransformersConverter(str(original), copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(str(made))
    return made
