"""Makes minilm.tsv: a text, the first eight elements of its vector, and its cosines with the texts before it.

    pip install torch tokenizers safetensors
    python3 trainer/tests/reference/minilm.py DIRECTORY < TEXTS > trainer/tests/reference/minilm.tsv

DIRECTORY holds all-MiniLM-L6-v2: config.json, model.safetensors and tokenizer.json. The forward pass is PyTorch's own
operations in f32, after Devlin et al. 2018, with mean pooling and unit length as the model's modules.json says.
"""

import json
import sys

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

directory = sys.argv[1]
weights = load_file(f"{directory}/model.safetensors")
config = json.load(open(f"{directory}/config.json"))
tokenizer = Tokenizer.from_file(f"{directory}/tokenizer.json")
tokenizer.no_padding()
tokenizer.no_truncation()
F = torch.nn.functional


def norm(x, name):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], config["layer_norm_eps"])


def linear(x, name):
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def embed(text):
    ids = tokenizer.encode(text).ids
    n, heads = len(ids), config["num_attention_heads"]
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][:n] + weights["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        base = f"encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{base}.attention.self.{part}").view(n, heads, -1).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        seen = F.scaled_dot_product_attention(q[None], k[None], v[None])[0].transpose(0, 1).reshape(n, -1)
        x = norm(x + linear(seen, f"{base}.attention.output.dense"), f"{base}.attention.output.LayerNorm")
        inner = F.gelu(linear(x, f"{base}.intermediate.dense"))
        x = norm(x + linear(inner, f"{base}.output.dense"), f"{base}.output.LayerNorm")
    return F.normalize(x.mean(0), dim=0)


before = []
with torch.no_grad():
    for line in sys.stdin:
        text = line.rstrip("\n")
        vector = embed(text)
        cosines = " ".join(f"{float(vector @ other):.6f}" for other in before)
        print("\t".join([text, " ".join(f"{x:.6f}" for x in vector[:8]), cosines]))
        before.append(vector)
