//! Small GGUF files, made piece by piece, so that any piece can be wrong.

use attentive_trainer::import::blocks::Dtype;

/// Kinds of metadata values with their codes.
pub(crate) enum Meta {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(&'static str),
    Texts(Vec<String>),
    Kinds(Vec<i32>),
}

/// A tensor: name, dimensions (columns first), code of its type, bytes.
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dims: Vec<u64>,
    pub(crate) code: u32,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct File {
    pub(crate) metadata: Vec<(&'static str, Meta)>,
    pub(crate) tensors: Vec<Tensor>,
}

pub(crate) const DIM: usize = 256;
pub(crate) const HEADS: usize = 4;
pub(crate) const KV_HEADS: usize = 2;
pub(crate) const HEAD_DIM: usize = DIM / HEADS;
pub(crate) const HIDDEN: usize = 256;
/// 256 bytes, `ab`, two that mark turns.
pub(crate) const VOCAB: usize = 259;
/// `<|im_end|>`, which ends a text.
pub(crate) const END: u32 = 258;

/// SmolLM2's.
pub(crate) const TEMPLATE: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' \
     %}{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + \
     message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' \
     }}{% endif %}";

/// Numbers near 0.05 in any type: random bytes with scales of that size.
pub(crate) fn random_bytes(dtype: Dtype, len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    match dtype {
        Dtype::F32 => {
            let number = |x: u32| (x >> 8) as f32 / 1.6e8 - 0.05;
            (0..len)
                .flat_map(|_| number(next()).to_le_bytes())
                .collect()
        }
        // 0x24.. and 0xa4.. are near ±0.016 in f16; 0x3d.. and 0xbd.. near ±0.05 in bf16.
        Dtype::F16 => (0..len)
            .flat_map(|_| [next() as u8, 0x24 | (next() as u8 & 0x80)])
            .collect(),
        Dtype::BF16 => (0..len)
            .flat_map(|_| [next() as u8, 0x3d | (next() as u8 & 0x80)])
            .collect(),
        _ => {
            let mut bytes: Vec<u8> = (0..dtype.bytes(len)).map(|_| next() as u8).collect();
            // Scale and minimum; Q6_K has its scale at the end.
            let (places, high): (&[usize], u8) = match dtype {
                Dtype::Q4_1 | Dtype::Q5_1 => (&[1, 3], 0x1c),
                Dtype::Q4_K | Dtype::Q5_K => (&[1, 3], 0x04),
                Dtype::Q6_K => (&[209], 0x02),
                Dtype::Q8_0 => (&[1], 0x0c),
                _ => (&[1], 0x1c),
            };
            for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
                for &place in places {
                    block[place] = high;
                }
            }
            bytes
        }
    }
}

pub(crate) fn code(dtype: Dtype) -> u32 {
    (0..64)
        .find(|&code| Dtype::of(code) == Some(dtype))
        .expect("every type has a code")
}

impl File {
    /// A model of one layer with every matrix in `dtype`.
    pub(crate) fn llama(dtype: Dtype) -> Self {
        let printable = |byte: u8| {
            let mut chars = (0u32..).filter_map(char::from_u32);
            chars
                .find(|c| attentive::pack::alphabet_byte(*c) == Some(byte))
                .map(String::from)
        };
        let mut tokens: Vec<String> = (0..=255).filter_map(printable).collect();
        tokens.extend(["ab", "<|im_start|>", "<|im_end|>"].map(str::to_owned));
        let mut kinds = vec![1; VOCAB];
        kinds[257..].fill(3);
        let kv = KV_HEADS * HEAD_DIM;
        let mut file = Self {
            metadata: vec![
                ("general.architecture", Meta::Text("llama")),
                ("general.name", Meta::Text("a small model")),
                ("llama.block_count", Meta::U32(1)),
                ("llama.context_length", Meta::U32(128)),
                ("llama.embedding_length", Meta::U32(DIM as u32)),
                ("llama.feed_forward_length", Meta::U32(HIDDEN as u32)),
                ("llama.attention.head_count", Meta::U32(HEADS as u32)),
                ("llama.attention.head_count_kv", Meta::U32(KV_HEADS as u32)),
                ("llama.attention.layer_norm_rms_epsilon", Meta::F32(1e-5)),
                ("llama.rope.freq_base", Meta::F32(50_000.0)),
                ("llama.rope.dimension_count", Meta::U32(HEAD_DIM as u32)),
                ("tokenizer.ggml.model", Meta::Text("gpt2")),
                ("tokenizer.ggml.pre", Meta::Text("smollm")),
                ("tokenizer.ggml.tokens", Meta::Texts(tokens)),
                ("tokenizer.ggml.token_type", Meta::Kinds(kinds)),
                ("tokenizer.ggml.merges", Meta::Texts(vec!["a b".to_owned()])),
                ("tokenizer.ggml.bos_token_id", Meta::U32(257)),
                ("tokenizer.ggml.eos_token_id", Meta::U32(END)),
                ("tokenizer.ggml.add_bos_token", Meta::Bool(false)),
                ("tokenizer.chat_template", Meta::Text(TEMPLATE)),
            ],
            tensors: Vec::new(),
        };
        for (name, rows, cols) in [
            ("token_embd", VOCAB, DIM),
            ("blk.0.attn_norm", 0, DIM),
            ("blk.0.attn_q", DIM, DIM),
            ("blk.0.attn_k", kv, DIM),
            ("blk.0.attn_v", kv, DIM),
            ("blk.0.attn_output", DIM, DIM),
            ("blk.0.ffn_norm", 0, DIM),
            ("blk.0.ffn_gate", HIDDEN, DIM),
            ("blk.0.ffn_up", HIDDEN, DIM),
            ("blk.0.ffn_down", DIM, HIDDEN),
            ("output_norm", 0, DIM),
        ] {
            file.push(name, rows, cols, if rows == 0 { Dtype::F32 } else { dtype });
        }
        file
    }

    /// Adds a tensor of random numbers; 0 rows make a vector.
    pub(crate) fn push(&mut self, name: &str, rows: usize, cols: usize, dtype: Dtype) {
        let mut dims = vec![cols as u64];
        dims.extend((rows > 0).then_some(rows as u64));
        let seed = self.tensors.len() as u32 + 1;
        self.tensors.push(Tensor {
            name: format!("{name}.weight"),
            dims,
            code: code(dtype),
            bytes: random_bytes(dtype, rows.max(1) * cols, seed),
        });
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Tensor {
        let found = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        found.expect("such a tensor")
    }

    pub(crate) fn set(&mut self, key: &'static str, value: Meta) {
        self.metadata.retain(|(name, _)| *name != key);
        self.metadata.push((key, value));
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            text(&mut out, key);
            match value {
                Meta::U32(value) => {
                    out.extend(4u32.to_le_bytes());
                    out.extend(value.to_le_bytes());
                }
                Meta::F32(value) => {
                    out.extend(6u32.to_le_bytes());
                    out.extend(value.to_le_bytes());
                }
                Meta::Bool(value) => {
                    out.extend(7u32.to_le_bytes());
                    out.push(u8::from(*value));
                }
                Meta::Text(value) => {
                    out.extend(8u32.to_le_bytes());
                    text(&mut out, value);
                }
                Meta::Texts(values) => {
                    out.extend(9u32.to_le_bytes());
                    out.extend(8u32.to_le_bytes());
                    out.extend((values.len() as u64).to_le_bytes());
                    values.iter().for_each(|value| text(&mut out, value));
                }
                Meta::Kinds(values) => {
                    out.extend(9u32.to_le_bytes());
                    out.extend(5u32.to_le_bytes());
                    out.extend((values.len() as u64).to_le_bytes());
                    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                }
            }
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            out.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
            out.extend(tensor.code.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset = (offset + tensor.bytes.len() as u64).next_multiple_of(32);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&tensor.bytes);
        }
        out
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
