"""Runs the peers that come as Python packages, at the driver's word.

The protocol is that of the package `attentive-peers-protocol`: one JSON object a line on standard input and output.
Times are taken here, so neither the pipe nor the driver is in them; the interpreter's few microseconds a call are.
"""

import importlib.util
import json
import os
import sys
import time

import numpy as np


class Unsupported(Exception):
    """The peer has no such operation."""


def floats(directory, name, *shape):
    values = np.fromfile(os.path.join(directory, name), dtype="<f4")
    if values.size != np.prod(shape):
        raise ValueError(f"{name} holds {values.size} floats, not {shape}")
    return values.reshape(shape)


def sums_pairs_in_16_bits():
    """Whether int8 products go through vpmaddubsw, whose sums of two products saturate. Then PyTorch and ONNX Runtime ask
    their users for a bit less: activations (`reduce_range`) in the one, weights in the other."""
    features = np._core._multiarray_umath.__cpu_features__
    return bool(features.get("AVX2")) and not features.get("AVX512_ICL")


def quantized_rows(weights):
    """int8 with a scale for each row."""
    scales = np.maximum(np.abs(weights).max(axis=1), 1e-30) / (63 if sums_pairs_in_16_bits() else 127)
    return np.round(weights / scales[:, None]).astype(np.int8), scales.astype(np.float32)


def quantized_groups(weights, group=32):
    """Numbers 0..15 around 8 with a scale for each row and 32 columns, (rows, groups, 32) and (rows, groups)."""
    rows, cols = weights.shape
    groups = weights.reshape(rows, cols // group, group)
    most = np.take_along_axis(groups, np.abs(groups).argmax(axis=2)[:, :, None], axis=2)
    scales = most / -8
    scales[scales == 0] = 1
    numbers = np.clip(np.round(groups / scales) + 8, 0, 15).astype(np.uint8)
    return numbers, scales[:, :, 0].astype(np.float32)


class Torch:
    """PyTorch: scaled_dot_product_attention, linear, and its quantized linear layers."""

    def __init__(self):
        import warnings

        warnings.filterwarnings("ignore")
        import torch

        self.torch = torch
        torch.set_grad_enabled(False)

    def version(self):
        return f"{self.torch.__version__} {self.torch.backends.cpu.get_cpu_capability()}"

    def prepare(self, task, directory, threads):
        self.torch.set_num_threads(threads)
        if task["task"] == "attention":
            return self.attention(task, directory)
        if task["task"] == "product":
            return self.product(task, directory)
        raise Unsupported("kernels only")

    def attention(self, task, directory):
        torch = self.torch
        kinds = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
        if task["kv"] not in kinds:
            raise Unsupported("no quantized keys and values")
        kind = kinds[task["kv"]]
        dim, group, q_len, kv_len = (task[key] for key in ("head_dim", "group", "q_len", "kv_len"))
        q = torch.from_numpy(floats(directory, "q.f32", q_len, group, dim))
        q = q.transpose(0, 1).unsqueeze(0).contiguous().to(kind)
        k = torch.from_numpy(floats(directory, "k.f32", 1, 1, kv_len, dim)).to(kind).expand(1, group, kv_len, dim)
        v = torch.from_numpy(floats(directory, "v.f32", 1, 1, kv_len, dim)).to(kind).expand(1, group, kv_len, dim)
        # One query sees every key, whatever the mask.
        causal = task["causal"] and q_len > 1
        attend = torch.nn.functional.scaled_dot_product_attention

        def run():
            return attend(q, k, v, is_causal=causal)

        return run, lambda out: out[0].transpose(0, 1).float().numpy()

    def product(self, task, directory):
        torch = self.torch
        rows, cols, n = task["rows"], task["cols"], task["n"]
        weights = floats(directory, "weights.f32", rows, cols)
        x = torch.from_numpy(floats(directory, "x.f32", n, cols))
        one = self.linear(task["format"], weights, x)
        steps = [one()] + [one() for _ in range(task["copies"] - 1)]

        def run():
            for step in steps:
                out = step()
            return out

        return run, lambda out: out.float().numpy()

    def linear(self, kind, weights, x):
        """A function that makes one more copy of the weights, and returns the product with it."""
        torch = self.torch
        if kind == "f32":

            def one():
                w = torch.from_numpy(weights.copy())
                return lambda: torch.nn.functional.linear(x, w)

        elif kind == "f16":
            half = x.half()

            def one():
                w = torch.from_numpy(weights).half()
                return lambda: torch.nn.functional.linear(half, w)

        elif kind == "i8":
            scales = torch.from_numpy(np.abs(weights).max(axis=1).astype(np.float64) / 127)
            zeros = torch.zeros(len(weights), dtype=torch.int64)
            rounded = torch.quantize_per_channel(torch.from_numpy(weights), scales, zeros, 0, torch.qint8)
            linear, reduced = torch.ops.quantized.linear_dynamic, sums_pairs_in_16_bits()

            def one():
                w = torch.ops.quantized.linear_prepack(rounded, None)
                return lambda: linear(x, w, reduced)

        elif kind == "i4":
            numbers, scales = quantized_groups(weights)
            numbers = torch.from_numpy(numbers.reshape(weights.shape).astype(np.int32))
            scales = torch.from_numpy(scales.T.copy())
            scales = torch.stack([scales, torch.zeros_like(scales)], dim=2).bfloat16().contiguous()
            half = x.bfloat16()
            pack, multiply = (
                torch.ops.aten._convert_weight_to_int4pack_for_cpu,
                torch.ops.aten._weight_int4pack_mm_for_cpu,
            )

            def one():
                w = pack(numbers, 2)
                return lambda: multiply(half, w, 32, scales)

        else:
            raise Unsupported("f32, f16, int8 and int4 only")
        return one


class OnnxRuntime:
    """ONNX Runtime: its fused attention, MatMul, DynamicQuantizeMatMul and MatMulNBits."""

    def __init__(self):
        import onnx
        import onnxruntime

        self.onnx = onnx
        self.runtime = onnxruntime
        onnxruntime.set_default_logger_severity(3)

    def version(self):
        return self.runtime.__version__

    def prepare(self, task, directory, threads):
        if task["task"] == "attention":
            return self.attention(task, directory, threads)
        if task["task"] == "product":
            return self.product(task, directory, threads)
        if task["task"] == "embedding":
            return self.embedding(task, directory, threads)
        raise Unsupported("kernels and encoders only")

    def options(self, threads):
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        return options

    def embedding(self, task, directory, threads):
        providers = ["CPUExecutionProvider"]
        session = self.runtime.InferenceSession(task["onnx"], self.options(threads), providers=providers)
        tokens = np.fromfile(os.path.join(directory, "tokens.u32"), dtype="<u4").astype(np.int64)[None, :]
        known = {
            "input_ids": tokens,
            "attention_mask": np.ones_like(tokens),
            "token_type_ids": np.zeros_like(tokens),
        }
        inputs = {each.name: known[each.name] for each in session.get_inputs()}
        output = session.get_outputs()[0].name

        def vector(out):
            of_text = out[0] if out.ndim == 2 else out[0].mean(axis=0)
            return of_text / np.linalg.norm(of_text)

        return lambda: session.run([output], inputs)[0], vector

    def session(self, nodes, inputs, outputs, initializers, threads):
        """A function that runs the graph on inputs and into outputs that are bound once."""
        helper, proto = self.onnx.helper, self.onnx.TensorProto
        graph = helper.make_graph(
            nodes,
            "case",
            [helper.make_tensor_value_info(name, proto.FLOAT, value.shape) for name, value in inputs.items()],
            [helper.make_tensor_value_info(name, proto.FLOAT, shape) for name, shape in outputs.items()],
            [self.onnx.numpy_helper.from_array(value, name) for name, value in initializers.items()],
        )
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        session = self.runtime.InferenceSession(
            model.SerializeToString(), self.options(threads), providers=["CPUExecutionProvider"]
        )
        binding = session.io_binding()
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value)
        results = {name: self.runtime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
                   for name, shape in outputs.items()}
        for name, value in results.items():
            binding.bind_ortvalue_output(name, value)
        last = list(results.values())[-1]

        def run():
            session.run_with_iobinding(binding)
            return last

        return run

    def attention(self, task, directory, threads):
        if task["kv"] != "f32":
            raise Unsupported("f32 only on CPUs")
        dim, group, q_len, kv_len = (task[key] for key in ("head_dim", "group", "q_len", "kv_len"))
        causal = int(task["causal"] and q_len > 1)
        inputs = {
            "q": floats(directory, "q.f32", 1, q_len, group * dim),
            "k": floats(directory, "k.f32", 1, kv_len, dim),
            "v": floats(directory, "v.f32", 1, kv_len, dim),
        }
        make = self.onnx.helper.make_node
        if group == 1:
            node = make(
                "MultiHeadAttention", ["q", "k", "v"], ["out"], domain="com.microsoft",
                num_heads=1, unidirectional=causal,
            )
        else:
            node = make("Attention", ["q", "k", "v"], ["out"], q_num_heads=group, kv_num_heads=1, is_causal=causal)
        run = self.session([node], inputs, {"out": (1, q_len, group * dim)}, {}, threads)
        return run, lambda out: out.numpy()

    def product(self, task, directory, threads):
        rows, cols, n, copies = (task[key] for key in ("rows", "cols", "n", "copies"))
        weights = floats(directory, "weights.f32", rows, cols)
        inputs = {"x": floats(directory, "x.f32", n, cols)}
        make = self.onnx.helper.make_node
        nodes, parts, outputs = [], {}, {}
        if task["format"] == "i8":
            numbers, scales = quantized_rows(weights)
        elif task["format"] == "i4":
            numbers, scales = quantized_groups(weights)
        for at in range(copies):
            names = [f"w{at}", f"s{at}", f"z{at}"]
            if task["format"] == "f32":
                parts[names[0]] = weights.T.copy()
                node = make("MatMul", ["x", names[0]], [f"y{at}"])
            elif task["format"] == "i8":
                parts[names[0]], parts[names[1]] = numbers.T.copy(), scales
                node = make(
                    "DynamicQuantizeMatMul", ["x", *names[:2]], [f"y{at}"], domain="com.microsoft"
                )
            elif task["format"] == "i4":
                parts[names[0]] = numbers[:, :, 0::2] | (numbers[:, :, 1::2] << 4)
                parts[names[1]] = scales
                node = make(
                    "MatMulNBits", ["x", *names[:2]], [f"y{at}"], domain="com.microsoft",
                    K=cols, N=rows, bits=4, block_size=32, accuracy_level=4,
                )
            else:
                raise Unsupported("f32, int8 and int4 only")
            # Were they equal, they might be folded into one: each copy differs in an element, by what hardly counts.
            if at > 0:
                own = parts[names[0]].reshape(-1)
                own[at] = own[at] ^ 1 if own.dtype != np.float32 else own[at] * 1.001
            nodes.append(node)
            outputs[f"y{at}"] = (n, rows)
        run = self.session(nodes, inputs, outputs, parts, threads)
        return run, lambda out: out.numpy()


class Peers:
    """Those that are installed."""

    ALL = {"torch": Torch, "onnxruntime": OnnxRuntime}

    def __init__(self):
        self.peers = {name: kind() for name, kind in self.ALL.items() if importlib.util.find_spec(name)}
        self.jobs = {}

    def answer(self, request):
        kind = request["request"]
        if kind == "hello":
            peers = [{"name": name, "version": peer.version()} for name, peer in self.peers.items()]
            return {"reply": "peers", "peers": peers}
        if kind == "clear":
            self.jobs.clear()
            return {"reply": "ready"}
        name = request["peer"]
        if kind == "set_up":
            peer = self.peers[name]
            run, result = peer.prepare(request["task"], request["dir"], request["threads"])
            out = np.ascontiguousarray(result(run()), dtype="<f4")
            out.tofile(os.path.join(request["dir"], request["out"]))
            self.jobs[name] = run
            return {"reply": "ready"}
        run, runs = self.jobs[name], range(request["runs"])
        if request["warm"]:
            run()
        start = time.perf_counter()
        for _ in runs:
            run()
        return {"reply": "seconds", "seconds": time.perf_counter() - start}


def main():
    # What libraries print must not come between the replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peers = Peers()
    for line in sys.stdin:
        try:
            reply = peers.answer(json.loads(line))
        except Unsupported as error:
            reply = {"reply": "unsupported", "reason": str(error)}
        except Exception as error:  # One peer's failure is the driver's to report, whatever it is.
            reply = {"reply": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
