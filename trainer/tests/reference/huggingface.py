"""Makes `tests/data/huggingface`: tiny random models in Hugging Face's layout, and what transformers computes with them.

    python3 -m venv venv && venv/bin/pip install torch transformers sentencepiece
    venv/bin/python trainer/tests/reference/huggingface.py trainer/tests/data/huggingface

The files that are there were made with transformers 5.24.0, torch 2.15.0 and, those of marian, sentencepiece 0.2.3.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import sentencepiece
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    MistralConfig,
    MistralForCausalLM,
    ViTConfig,
    ViTForImageClassification,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

TEXT = [
    "It is a truth universally acknowledged, that a single man in possession of a good fortune must be in want of a wife.",
    "However little known the feelings or views of such a man may be on his first entering a neighbourhood in 1813,",
    "this truth is so well fixed in the minds of the surrounding families that he is considered as the property of one.",
]
SPANISH = [
    "Es una verdad universalmente reconocida que un hombre soltero, dueño de una gran fortuna, necesita una esposa.",
    "Por poco que se conozcan los sentimientos de un hombre así al llegar por primera vez a un vecindario en 1813,",
    "esta verdad está tan arraigada en las familias que lo rodean que se le considera propiedad de una de sus hijas.",
]
VOCAB = 280


STEERING = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|es|>", "<|translate|>", "<|transcribe|>"]
STEERING += ["<|nospeech|>", "<|notimestamps|>"]


def tokenizer(digits, specials=("<|endoftext|>",)):
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytes_]) if digits else bytes_
    )
    tokens.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokens.train_from_iterator(TEXT, trainer)
    return tokens


def noisy(model):
    """Every number random, gains and biases too, and all of them f16 numbers."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            parameter.add_(noise)
            parameter.copy_(parameter.half().float())
    return model.eval()


def save(model, directory, expected, tokens=None):
    directory.mkdir(parents=True)
    model.half().save_pretrained(directory, safe_serialization=True)
    for extra in ["generation_config.json"]:
        (directory / extra).unlink(missing_ok=True)
    if tokens is not None:
        tokens.save(str(directory / "tokenizer.json"))
    (directory / "expected.json").write_text(json.dumps(expected) + "\n")


def text_model(model, directory, digits):
    tokens = tokenizer(digits)
    model = noisy(model)
    text = "It is a truth of 1813, that a wife must be in want."
    ids = tokens.encode(text).ids
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    rows = {str(at): logits[at].tolist() for at in (0, len(ids) // 2, len(ids) - 1)}
    save(model, directory, {"text": text, "tokens": ids, "logits": rows}, tokens)


def picture_model(model, directory, preprocessor):
    model = noisy(model)
    config = model.config
    generator = torch.Generator().manual_seed(9)
    side, channels = config.image_size, config.num_channels
    pixels = torch.randint(0, 256, (side, side, channels), generator=generator)
    mean = torch.tensor(preprocessor["image_mean"])
    deviation = torch.tensor(preprocessor["image_std"])
    values = ((pixels / 255 - mean) / deviation).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = model(values).logits[0]
    save(model, directory, {"pixels": pixels.flatten().tolist(), "logits": logits.tolist()})
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessor) + "\n")


def sound_model(model, directory):
    tokens = tokenizer(False, STEERING)
    model = noisy(model)
    config = model.config
    generator = torch.Generator().manual_seed(11)
    frames = torch.randn((2 * config.max_source_positions, config.num_mel_bins), generator=generator).half().float()
    ids = [tokens.token_to_id(name) for name in STEERING[1:3]] + tokens.encode("It is a truth.").ids
    with torch.no_grad():
        logits = model(input_features=frames.T[None], decoder_input_ids=torch.tensor([ids])).logits[0]
    rows = {str(at): logits[at].tolist() for at in (0, len(ids) // 2, len(ids) - 1)}
    save(model, directory, {"frames": frames.flatten().tolist(), "tokens": ids, "logits": rows}, tokens)
    steering = {
        "lang_to_id": {name: tokens.token_to_id(name) for name in STEERING[2:4]},
        "suppress_tokens": [1, 2],
        "begin_suppress_tokens": [0],
    }
    (directory / "generation_config.json").write_text(json.dumps(steering) + "\n")


def sentence_pieces(texts, path):
    lines = path.with_suffix(".txt")
    lines.write_text("\n".join(texts) + "\n")
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines),
        model_prefix=str(path),
        vocab_size=70,
        hard_vocab_limit=False,
        # The usual one has a table of 240 kB.
        normalization_rule_name="identity",
        minloglevel=2,
    )
    model = path.with_suffix(".model")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    pieces = [processor.id_to_piece(id) for id in range(len(processor)) if not processor.is_control(id)]
    return model, [piece for piece in pieces if piece != "<unk>"]


def translation_model(directory, texts):
    with tempfile.TemporaryDirectory() as scratch:
        source, source_pieces = sentence_pieces(TEXT, pathlib.Path(scratch) / "source")
        target, target_pieces = sentence_pieces(SPANISH, pathlib.Path(scratch) / "target")
        union = sorted(set(source_pieces) | set(target_pieces))
        tokens = ["</s>", "<unk>", ">>es<<", *union, "<pad>"]
        pad = len(tokens) - 1
        config = MarianConfig(
            vocab_size=len(tokens),
            d_model=16,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=24,
            decoder_ffn_dim=24,
            max_position_embeddings=48,
            activation_function="swish",
            scale_embedding=True,
            pad_token_id=pad,
            eos_token_id=0,
            decoder_start_token_id=pad,
        )
        model = noisy(MarianMTModel(config))
        # Larger numbers, or it would write the same token over and over.
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() == 2 and "shared" not in name:
                    parameter.copy_((6 * parameter).half().float())
            for side in (model.model.encoder, model.model.decoder):
                side.embed_positions.weight.copy_(side.embed_positions.create_weight())
            model.final_logits_bias.copy_((0.5 * torch.randn(model.final_logits_bias.shape)).half().float())
        model.generation_config.bad_words_ids = [[pad]]
        model.generation_config.max_length = 24
        directory.mkdir(parents=True)
        shutil.copy(source, directory / "source.spm")
        shutil.copy(target, directory / "target.spm")
        (directory / "vocab.json").write_text(json.dumps({token: id for id, token in enumerate(tokens)}) + "\n")
    tokenizer = MarianTokenizer.from_pretrained(directory)
    examples = []
    for text in texts:
        ids = tokenizer(text).input_ids
        forced = [pad] + tokenizer(text_target="Es una verdad del vecindario").input_ids
        with torch.no_grad():
            made = model.generate(torch.tensor([ids]), num_beams=1, do_sample=False)[0].tolist()
            logits = model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([forced])).logits[0]
        # The padding is never written.
        logits[:, pad] = 0
        rows = {str(at): logits[at].tolist() for at in (0, len(forced) // 2, len(forced) - 1)}
        decoded = tokenizer.decode(made, skip_special_tokens=True)
        example = {"text": text, "tokens": ids, "forced": forced, "logits": rows, "made": made, "decoded": decoded}
        examples.append(example)
    model.half().save_pretrained(directory, safe_serialization=True)
    (directory / "expected.json").write_text(json.dumps({"pad": pad, "examples": examples}) + "\n")


def main(out):
    torch.manual_seed(1)
    shutil.rmtree(out, ignore_errors=True)
    llama = dict(
        vocab_size=VOCAB,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=24,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_theta=5000.0,
        eos_token_id=0,
        bos_token_id=0,
    )
    text_model(
        LlamaForCausalLM(LlamaConfig(**llama, attention_bias=True, mlp_bias=True, tie_word_embeddings=True)),
        out / "llama",
        digits=True,
    )
    text_model(
        MistralForCausalLM(MistralConfig(**llama, sliding_window=5, attn_implementation="eager")),
        out / "mistral",
        digits=False,
    )
    gpt2 = GPT2Config(
        vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=2, n_positions=48, bos_token_id=0, eos_token_id=0
    )
    text_model(GPT2LMHeadModel(gpt2), out / "gpt2", digits=False)
    vit = ViTConfig(
        image_size=12,
        patch_size=4,
        num_channels=3,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        num_labels=5,
    )
    preprocessor = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    whisper = WhisperConfig(
        vocab_size=VOCAB,
        num_mel_bins=8,
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_source_positions=10,
        max_target_positions=32,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    sound_model(WhisperForConditionalGeneration(whisper), out / "whisper")
    picture_model(ViTForImageClassification(vit), out / "vit", preprocessor)
    translation_model(
        out / "marian",
        [
            "It is a truth of 1813, that a wife must be in want.",
            ">>es<< However little known,  the surrounding families",
            "a neighbourhood \u4e2d\u6587 fixed ",
        ],
    )


main(pathlib.Path(sys.argv[1]))
