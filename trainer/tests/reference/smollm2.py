"""What llama.cpp makes of SmolLM2-135M-Instruct: the facts that tests/smollm2.rs compares with.

    pip install llama-cpp-python==0.3.36
    python trainer/tests/reference/smollm2.py smollm2.gguf > trainer/tests/reference/smollm2.txt

from the root of the repository. One thread, keys and values in f32, no flash attention; `f32` is the same file with its
weights turned into floats, in which llama.cpp rounds no activations either, `kept` the file as it is.
"""

import json
import os
import sys
import tempfile
import zlib

import llama_cpp
import numpy as np

TOKENS = 64


def chat(text):
    return (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    )


PROMPTS = [
    "It is a truth universally acknowledged, that",
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "Once upon a time, in 1845, a sailor",
    "Ingredients:\n- 200 g flour\n- 3 eggs\n",
    "Der Hund läuft über die Straße und",
    chat("What is the capital of France?"),
    chat("Write a short poem about the sea."),
    chat("Explain in two sentences why the sky is blue."),
    chat("What is 12 + 30? Answer with the number and one sentence."),
]


def model(path):
    return llama_cpp.Llama(
        path,
        n_ctx=512,
        n_threads=1,
        n_threads_batch=1,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        flash_attn=False,
        logits_all=True,
        verbose=False,
    )


def to_f32(path, out):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_ALL_F32
    params.allow_requantize = True
    params.nthread = 1
    assert llama_cpp.llama_model_quantize(path.encode(), out.encode(), params) == 0


def lines_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return [line.rstrip("\n") for line in file]


def tokenizer_facts(llama):
    """Number of lines and tokens of each text, and the CRC-32 of the tokens as little-endian words."""
    here = os.path.dirname(__file__)
    texts = [os.path.join("data/austen", name) for name in sorted(os.listdir("data/austen")) if name.endswith(".txt")]
    for path in texts + [os.path.join(here, "languages.txt")]:
        crc, count, lines = 0, 0, lines_of(path)
        for line in lines:
            ids = llama.tokenize(line.encode(), add_bos=False, special=True) if line else []
            count += len(ids)
            crc = zlib.crc32(np.array(ids, dtype="<u4").tobytes(), crc)
        print(f"tokens {os.path.relpath(path)} {len(lines)} {count} {crc:08x}")


def answer(llama, name, ids):
    """The greedy tokens, and at each step the three highest logits: `token:logit`."""
    llama.reset()
    llama.eval(ids)
    steps = []
    for _ in range(TOKENS):
        logits = llama.scores[llama.n_tokens - 1]
        top = np.argsort(-logits, kind="stable")[:3]
        steps.append(",".join(f"{token}:{logits[token]:.4f}" for token in top))
        llama.eval([int(top[0])])
    print(name, " ".join(steps))


def main(path):
    with tempfile.TemporaryDirectory() as directory:
        floats = os.path.join(directory, "f32.gguf")
        to_f32(path, floats)
        kept, floats = model(path), model(floats)
        print(f"# llama-cpp-python {llama_cpp.__version__}, by smollm2.py, which tells how")
        tokenizer_facts(kept)
        for prompt in PROMPTS:
            ids = kept.tokenize(prompt.encode(), add_bos=False, special=True)
            print("prompt", json.dumps(prompt))
            print("ids", " ".join(map(str, ids)))
            answer(floats, "f32", ids)
            answer(kept, "kept", ids)


main(*sys.argv[1:])
