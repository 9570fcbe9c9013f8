"""Trains a run that `attentive prepare` wrote, with PyTorch's DistributedDataParallel, on as many processes and machines
as torchrun starts; `attentive import DIRECTORY` then makes measured weights files of it.

    pip install torch safetensors numpy
    attentive prepare trainer/tasks/translation.toml --out RUN
    torchrun --nproc-per-node 2 trainer/pytorch/train.py RUN
    attentive import RUN

The model is the one that the core runs, from the same weights before the first step, with the task's schedule. Every
process takes its share of a step's sequences; gradients are averaged over all targets of all processes. With --logits the
logits of the first validation sequences are written too, for a comparison.
"""

import argparse
import json
import math
import os
import pathlib
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file


class Model(torch.nn.Module):
    """A decoder, an encoder or an encoder-decoder of attentive (src/config.rs says what each choice means)."""

    def __init__(self, about, weights):
        super().__init__()
        self.m = about["model"]
        self.names = {name: name.replace(".", "_") for name, _ in about["tensors"]}
        for name, dims in about["tensors"]:
            value = weights[f"weight/{name}"].reshape(dims)
            self.register_parameter(self.names[name], torch.nn.Parameter(value))

    def p(self, role, layer=None):
        name = role if layer is None else f"layers.{layer}.{role}"
        return getattr(self, self.names[name]) if name in self.names else None


    def linear(self, x, role, layer=None):
        return F.linear(x, self.p(f"{role}Weight", layer), self.p(f"{role}Bias", layer))

    def norm(self, x, role, layer=None):
        gain, bias = self.p(f"{role}Gain", layer), self.p(f"{role}Bias", layer)
        if self.m["norm"] == "layer":
            return F.layer_norm(x, x.shape[-1:], gain, bias, self.m["norm_eps"])
        return F.rms_norm(x, x.shape[-1:], gain, self.m["norm_eps"])

    def drop(self, x, rate):
        return F.dropout(x, rate, self.training)

    def placed(self, x, role):
        n = x.shape[1]
        if self.m["position"] == "learned":
            return x + self.p(role)[:n]
        if self.m["position"] == "sinusoidal":
            dim = x.shape[2]
            place = torch.arange(n, dtype=torch.float64)[:, None]
            angle = place * 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
            table = torch.stack([angle.sin(), angle.cos()], -1).reshape(n, -1)[:, :dim]
            return x + table.to(x.dtype)
        return x

    def rotated(self, x):
        kind = self.m["position"]
        if not kind.startswith("rotary"):
            return x
        n, width = x.shape[-2:]
        frequency = self.m["rotary_base"] ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        angle = torch.arange(n, dtype=torch.float64)[:, None] * frequency
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        a, b = (x[..., : width // 2], x[..., width // 2 :]) if kind == "rotary_half" else (x[..., ::2], x[..., 1::2])
        a, b = a * cos - b * sin, b * cos + a * sin
        return torch.cat([a, b], -1) if kind == "rotary_half" else torch.stack([a, b], -1).flatten(-2)

    def heads(self, x, count):
        return x.unflatten(-1, (count, self.m["head_dim"])).transpose(1, 2)

    def attend(self, q, k, v, mask):
        groups = self.m["heads"] // self.m["kv_heads"]
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2).flatten(2)

    def feed(self, x, layer):
        up, kind = self.linear(x, "Up", layer), self.m["ffn"]
        if kind in ("swiglu", "geglu"):
            gate, up = up.chunk(2, -1)
            hidden = (F.silu(gate) if kind == "swiglu" else F.gelu(gate, approximate="tanh")) * up
        else:
            act = {
                "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
                "gelu_erf": F.gelu,
                "relu": F.relu,
                "silu": F.silu,
            }
            hidden = act[kind](up)
        return self.linear(hidden, "Down", layer)

    def stack(self, x, layers, mask, rate, heard=None, heard_mask=None):
        heads, kv_heads, width = self.m["heads"], self.m["kv_heads"], self.m["head_dim"]

        def own(x, layer):
            q, k, v = self.linear(x, "Qkv", layer).split([heads * width, kv_heads * width, kv_heads * width], -1)
            q, k = self.rotated(self.heads(q, heads)), self.rotated(self.heads(k, kv_heads))
            return self.linear(self.attend(q, k, self.heads(v, kv_heads), mask), "Out", layer)

        def cross(x, layer):
            q = self.heads(self.linear(x, "CrossQ", layer), heads)
            k, v = self.linear(heard, "CrossKv", layer).chunk(2, -1)
            out = self.attend(q, self.heads(k, kv_heads), self.heads(v, kv_heads), heard_mask)
            return self.linear(out, "CrossOut", layer)

        blocks = [("AttnNorm", own), ("CrossNorm", cross), ("FfnNorm", self.feed)]
        for layer in layers:
            for norm, block in blocks:
                if block is cross and heard is None:
                    continue
                if self.m["norm_place"] == "pre":
                    x = x + self.drop(block(self.norm(x, norm, layer), layer), rate)
                else:
                    x = self.norm(x + self.drop(block(x, layer), rate), norm, layer)
        return x

    def forward(self, batch, rate):
        """Logits of every target, in the order of the batch's targets."""
        m = self.m
        embedding, scale = self.p("TokenEmbedding"), m["embedding_scale"]
        tokens, lens = batch["inputs"], batch["lens"]
        seen = torch.arange(tokens.shape[1])[None] < lens[:, None]
        x = embedding[tokens] * scale
        if m["patch"]:
            x = torch.cat([x[:, :1], self.linear(batch["patches"], "Patch")], 1)
        x = self.drop(self.embedded(self.placed(x, "PositionEmbedding")), rate)
        heard = heard_mask = None
        if m["family"] == "encoder-decoder":
            sources = batch["sources"]
            heard_mask = (torch.arange(sources.shape[1])[None] < batch["source_lens"][:, None])[:, None, None]
            heard = self.drop(self.placed(embedding[sources] * scale, "SourcePositionEmbedding"), rate)
            layers = range(m["layers"], m["layers"] + m["source_layers"])
            heard = self.stack(heard, layers, heard_mask, rate)
            heard = self.norm(heard, "SourceNorm") if m["final_norm"] else heard
        mask = seen[:, None, None]
        if m["family"] != "encoder":
            mask = mask & torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).tril()
        x = self.stack(x, range(m["layers"]), mask, rate, heard, heard_mask)
        x = self.norm(x, "FinalNorm") if m["final_norm"] else x
        if m["family"] == "encoder":
            pooled = x[:, 0] if m["pooling"] == "first" else (x * seen[..., None]).sum(1) / lens[:, None]
            return self.linear(pooled, "Head")
        output = embedding if m["tied"] else self.p("OutputWeight")
        return F.linear(x[seen], output, self.p("OutputBias"))

    def embedded(self, x):
        return self.norm(x, "EmbeddingNorm") if self.p("EmbeddingNormGain") is not None else x


class Data:
    """The sequences of a file that `attentive prepare` wrote."""

    def __init__(self, path):
        self.all = load_file(path)
        self.starts = {key: self.begin(self.all[key]) for key in ("lens", "source_lens")}
        # One target for each token, or one for each sequence.
        self.per_token = len(self.all["targets"]) == len(self.all["inputs"])

    @staticmethod
    def begin(lens):
        return torch.cat([torch.zeros(1, dtype=torch.int64), lens.cumsum(0)])

    def __len__(self):
        return len(self.all["lens"])

    def batch(self, indices):
        def rows(values, starts, lens):
            parts = [values[starts[i] : starts[i] + lens[i]] for i in indices]
            return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)

        lens, starts = self.all["lens"], self.starts["lens"]
        out = {"inputs": rows(self.all["inputs"], starts, lens), "lens": lens[indices]}
        if self.per_token:
            out["targets"] = torch.cat([self.all["targets"][starts[i] : starts[i] + lens[i]] for i in indices])
        else:
            out["targets"] = self.all["targets"][indices]
        if len(self.all["source_lens"]):
            lens, starts = self.all["source_lens"], self.starts["source_lens"]
            out["sources"] = rows(self.all["sources"], starts, lens)
            out["source_lens"] = lens[indices]
        if "patches" in self.all:
            # There is one patch less than there are tokens.
            shift = torch.arange(len(starts))
            out["patches"] = rows(self.all["patches"], starts - shift, lens - 1)
        return out


def learning_rate(training, done):
    most = training["learning_rate"]
    least, warmup = most * training["final_share"], training["warmup_share"]
    if done < warmup:
        return most * max(done / warmup, 0.01)
    rest = min((done - warmup) / max(1 - warmup, 1e-9), 1.0)
    return least + (most - least) * 0.5 * (1 + math.cos(math.pi * rest))


def write(path, save):
    """Whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    save(partial)
    partial.replace(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--steps", type=int, help="steps of the optimizer [default: the task's]")
    parser.add_argument("--logits", type=int, default=0, help="write the logits of so many validation sequences")
    args = parser.parse_args()
    about = json.loads((args.directory / "model.json").read_text())
    training = about["training"]
    steps = args.steps or training.get("steps")
    if not steps:
        parser.error("the task's run ends by the clock: give --steps")
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    if training["batch"] % world:
        parser.error(f"a step's {training['batch']} sequences are no multiple of the {world} processes")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
    torch.manual_seed(training["seed"] + rank)
    with safe_open(args.directory / "checkpoint.safetensors", "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys() if name.startswith("weight/")}
    model = Model(about, weights)
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": training["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, betas=tuple(training["betas"]))
    train, validation = Data(args.directory / "train.safetensors"), Data(args.directory / "validation.safetensors")
    share, start, done, epoch = training["batch"] // world, time.monotonic(), 0, 0
    order, generator = [], torch.Generator()

    def measure():
        model.eval()
        sums = torch.zeros(3, dtype=torch.float64)
        with torch.no_grad():
            for at in range(rank * share, len(validation), share * world):
                batch = validation.batch(list(range(at, min(at + share, len(validation)))))
                logits = model(batch, 0.0)
                loss = F.cross_entropy(logits, batch["targets"], reduction="sum")
                right = (logits.argmax(-1) == batch["targets"]).sum()
                sums += torch.tensor([loss.item(), right.item(), len(batch["targets"])], dtype=torch.float64)
        model.train()
        dist.all_reduce(sums)
        return sums[0] / sums[2], sums[1] / sums[2]

    model.train()
    while done < steps:
        while len(order) < training["batch"]:
            order += torch.randperm(len(train), generator=generator.manual_seed(training["seed"] + epoch)).tolist()
            epoch += 1
        step, order = order[: training["batch"]], order[training["batch"] :]
        batch = train.batch(step[rank * share : (rank + 1) * share])
        logits = parallel(batch, training["dropout"])
        loss = F.cross_entropy(logits, batch["targets"], reduction="sum")
        count = torch.tensor(float(len(batch["targets"])))
        dist.all_reduce(count)
        # DistributedDataParallel divides the sum of the gradients by the number of processes.
        (loss * world / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training["clip"])
        for group in adam.param_groups:
            group["lr"] = learning_rate(training, done / steps)
        adam.step()
        adam.zero_grad()
        done += 1
        if done % training["evaluate_every"] == 0 or done == steps:
            nats, right = measure()
            if rank == 0:
                speed = done * training["batch"] / (time.monotonic() - start)
                print(
                    f"step {done:>6}  validation loss {nats:.3f}  accuracy {100 * right:.2f} %  "
                    f"{speed:.0f} sequences/s",
                    flush=True,
                )
    if rank == 0:
        tensors = {name: model.p(name).detach().contiguous() for name, _ in about["tensors"]}
        path = args.directory / "pytorch.safetensors"
        write(path, lambda partial: save_file(tensors, partial, {"steps": str(done)}))
        if args.logits:
            model.eval()
            with torch.no_grad():
                logits = [model(validation.batch([i]), 0.0).tolist() for i in range(args.logits)]
            write(args.directory / "logits.json", lambda partial: partial.write_text(json.dumps(logits)))
        print(f"wrote {path}; `attentive import {args.directory}` makes weights files of it")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
