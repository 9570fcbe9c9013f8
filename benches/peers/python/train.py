"""Milliseconds of a training step of PyTorch on the decoder of a task file of the trainer.

    python train.py TASK.toml THREADS STEPS

The model is the trainer's (trainer/src/network.rs): token embedding shared with the output, RMS norms before each half
of a layer, rotary positions on halves of a head, causal attention, SwiGLU, no biases, no dropout; random tokens, AdamW,
gradients clipped by their norm. A step is the whole batch at once, which is what PyTorch does best.
"""

import sys
import time
import tomllib

import torch
from torch import nn
from torch.nn import functional


class Layer(nn.Module):
    def __init__(self, dim, heads, hidden):
        super().__init__()
        self.heads = heads
        self.attn_norm, self.ffn_norm = nn.RMSNorm(dim, eps=1e-5), nn.RMSNorm(dim, eps=1e-5)
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.up, self.down = nn.Linear(dim, 2 * hidden, bias=False), nn.Linear(hidden, dim, bias=False)

    def forward(self, x, cos, sin):
        batch, length, dim = x.shape
        qkv = self.qkv(self.attn_norm(x)).view(batch, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        heads = functional.scaled_dot_product_attention(turn(q, cos, sin), turn(k, cos, sin), v, is_causal=True)
        x = x + self.out(heads.transpose(1, 2).reshape(batch, length, dim))
        gate, up = self.up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)


def turn(x, cos, sin):
    """Rotary positions: element i of a head turns with element i + half."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat([low * cos - high * sin, low * sin + high * cos], dim=-1)


class Decoder(nn.Module):
    def __init__(self, shape):
        super().__init__()
        dim, head_dim, length = shape["dim"], shape["dim"] // shape["heads"], shape["context_len"]
        self.embedding = nn.Embedding(shape["vocab_len"], dim)
        nn.init.normal_(self.embedding.weight, std=0.02)
        layers = [Layer(dim, shape["heads"], shape["hidden_dim"]) for _ in range(shape["layers"])]
        self.layers, self.norm = nn.ModuleList(layers), nn.RMSNorm(dim, eps=1e-5)
        angles = torch.outer(torch.arange(length), 10_000.0 ** (-torch.arange(0, head_dim, 2) / head_dim))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens):
        length = tokens.shape[1]
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length])
        return functional.linear(self.norm(x), self.embedding.weight)


def main():
    path, threads, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    with open(path, "rb") as file:
        task = tomllib.load(file)
    shape, training = task["model"], task["training"]
    torch.manual_seed(training["seed"])
    model = Decoder(shape)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training["learning_rate"], weight_decay=training["weight_decay"]
    )
    batch, length = training["batch"], training["seq_len"]
    for step in range(steps):
        text = torch.randint(shape["vocab_len"], (batch, length + 1))
        start = time.perf_counter()
        logits = model(text[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), training["clip"])
        optimizer.step()
        seconds = time.perf_counter() - start
        print(f"step {step}: {seconds * 1e3:.0f} ms, {batch * length / seconds:.0f} tokens/s", flush=True)
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{parameters} parameters, {threads} threads, torch {torch.__version__}, loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
