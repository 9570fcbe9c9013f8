//! llama.cpp: a whole model, read from a GGUF file as its own tools would.

use crate::{Job, Place, ggml, unsupported};
use anyhow::{Context, Result, bail, ensure};
use attentive_peers_protocol::{Llama, Task};
use llama_cpp_sys_2 as sys;
use std::ffi::CString;
use std::path::Path;
use std::ptr;

/// Longest text: prompt and answer.
const CONTEXT: u32 = 256;

/// The crate that carries it has no other name for it.
pub(crate) fn version() -> String {
    format!("llama-cpp-sys-2 0.1.161, ggml {}", ggml::version())
}

pub(crate) fn prepare(task: &Task, place: &Place) -> Result<Box<dyn Job>> {
    let Task::Generation {
        gguf,
        model,
        prompt_len,
        answer,
    } = task
    else {
        return unsupported("whole models only; its kernels are ggml's");
    };
    ggml::silence();
    if let Some(model) = model {
        write(model, place, gguf)?;
    }
    let path = place.dir.join("prompt.u32");
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let (words, _) = bytes.as_chunks::<4>();
    let prompt: Vec<i32> = words.iter().map(|&word| i32::from_le_bytes(word)).collect();
    ensure!(
        prompt.len() == *prompt_len,
        "the prompt has {} tokens, not {prompt_len}",
        prompt.len()
    );
    Ok(Box::new(Generation::new(
        gguf,
        prompt,
        *answer,
        place.threads,
    )?))
}

struct Generation {
    model: *mut sys::llama_model,
    context: *mut sys::llama_context,
    vocab_len: usize,
    prompt: Vec<i32>,
    answer: usize,
}

impl Generation {
    fn new(gguf: &Path, prompt: Vec<i32>, answer: usize, threads: usize) -> Result<Self> {
        let path = CString::new(gguf.to_str().context("a path that is no text")?)?;
        // SAFETY: a path that ends with a null; the parameters are the library's own defaults with a few changed.
        unsafe {
            sys::llama_backend_init();
            let mut params = sys::llama_model_default_params();
            params.n_gpu_layers = 0;
            let model = sys::llama_model_load_from_file(path.as_ptr(), params);
            ensure!(
                !model.is_null(),
                "llama.cpp does not read {}",
                gguf.display()
            );
            let mut params = sys::llama_context_default_params();
            params.n_ctx = CONTEXT;
            params.n_batch = CONTEXT;
            params.n_threads = threads as i32;
            params.n_threads_batch = threads as i32;
            params.no_perf = true;
            let context = sys::llama_init_from_model(model, params);
            if context.is_null() {
                sys::llama_model_free(model);
                bail!("llama.cpp makes no context for {}", gguf.display());
            }
            let vocab_len = sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(model)) as usize;
            Ok(Self {
                model,
                context,
                vocab_len,
                prompt,
                answer,
            })
        }
    }

    fn forget(&mut self) {
        // SAFETY: the context is live.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.context), false) };
    }

    /// Logits after these tokens, which follow those that were decoded before.
    fn decode(&mut self, tokens: &mut [i32]) -> Result<&[f32]> {
        // SAFETY: the batch borrows the tokens for this call; the last of them has logits, vocab_len of them, which
        // live until the next call, so no longer than the borrow of `self`.
        unsafe {
            let batch = sys::llama_batch_get_one(tokens.as_mut_ptr(), tokens.len() as i32);
            let status = sys::llama_decode(self.context, batch);
            ensure!(status == 0, "llama_decode: status {status}");
            let logits = sys::llama_get_logits_ith(self.context, -1);
            ensure!(!logits.is_null(), "llama.cpp has no logits");
            Ok(std::slice::from_raw_parts(logits, self.vocab_len))
        }
    }

    fn read(&mut self) -> Result<&[f32]> {
        self.forget();
        let mut prompt = self.prompt.clone();
        self.decode(&mut prompt)
    }

    fn write(&mut self) -> Result<()> {
        self.forget();
        let mut token = self.prompt[0];
        let answer = self.answer;
        let mut logits = self.decode(&mut [token])?;
        for _ in 0..answer {
            let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            token = best.map_or(0, |(token, _)| token as i32);
            logits = self.decode(&mut [token])?;
        }
        Ok(())
    }
}

impl Job for Generation {
    fn run(&mut self, runs: usize) -> Result<()> {
        for _ in 0..runs {
            match self.answer {
                0 => self.read().map(|_| ())?,
                _ => self.write()?,
            }
        }
        Ok(())
    }

    fn result(&mut self) -> Result<Vec<f32>> {
        Ok(self.read()?.to_vec())
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        // SAFETY: each was made by the matching constructor and is freed once, the context before its model.
        unsafe {
            sys::llama_free(self.context);
            sys::llama_model_free(self.model);
        }
    }
}

/// Writes a model as a GGUF file without a tokenizer, by way of a temporary one.
fn write(model: &Llama, place: &Place, gguf: &Path) -> Result<()> {
    let kind = match model.weights.as_str() {
        "i8" => sys::GGML_TYPE_Q8_0,
        "i4" => sys::GGML_TYPE_Q4_0,
        _ => return unsupported("models of Q8_0 and Q4_0 only"),
    };
    let lens = model.tensors.iter().map(|tensor| tensor.rows * tensor.cols);
    let values = place.floats("tensors.f32", lens.sum())?;
    let part = gguf.with_extension("part");
    let path = CString::new(part.to_str().context("a path that is no text")?)?;
    let file = File::new();
    file.describe(model);
    // The file's descriptions borrow these until it is written.
    let mut data = Vec::new();
    let mut rest = values.as_slice();
    for tensor in &model.tensors {
        let (own, others) = rest.split_at(tensor.rows * tensor.cols);
        rest = others;
        let kind = if tensor.rows == 1 {
            sys::GGML_TYPE_F32
        } else {
            kind
        };
        let bytes = ggml::quantized(kind, own, tensor.cols);
        file.add(&tensor.name, kind, tensor.rows, tensor.cols, &bytes)?;
        data.push(bytes);
    }
    // SAFETY: the path ends with a null, and the data of every tensor are still there.
    let done = unsafe { sys::gguf_write_to_file(file.gguf, path.as_ptr(), false) };
    drop(data);
    ensure!(done, "{} cannot be written", part.display());
    std::fs::rename(&part, gguf).with_context(|| gguf.display().to_string())
}

/// A GGUF file in the making.
struct File {
    gguf: *mut sys::gguf_context,
    tensors: *mut sys::ggml_context,
}

impl File {
    fn new() -> Self {
        let params = sys::ggml_init_params {
            mem_size: 4 << 20,
            mem_buffer: ptr::null_mut(),
            no_alloc: true,
        };
        // SAFETY: plain constructors; both are freed in `drop`.
        unsafe {
            Self {
                gguf: sys::gguf_init_empty(),
                tensors: sys::ggml_init(params),
            }
        }
    }

    fn describe(&self, model: &Llama) {
        // SAFETY: the file is live, keys and values end with a null.
        unsafe {
            let text = |key: &std::ffi::CStr, value: &std::ffi::CStr| {
                sys::gguf_set_val_str(self.gguf, key.as_ptr(), value.as_ptr());
            };
            text(c"general.architecture", c"llama");
            text(c"general.name", c"random numbers");
            text(c"tokenizer.ggml.model", c"none");
            for (key, value) in [
                (c"llama.vocab_size", model.vocab_len),
                (c"llama.context_length", model.context_len),
                (c"llama.embedding_length", model.dim),
                (c"llama.block_count", model.layers),
                (c"llama.feed_forward_length", model.hidden_dim),
                (c"llama.attention.head_count", model.heads),
                (c"llama.attention.head_count_kv", model.kv_heads),
                (c"llama.attention.key_length", model.head_dim),
                (c"llama.attention.value_length", model.head_dim),
                (c"llama.rope.dimension_count", model.head_dim),
            ] {
                sys::gguf_set_val_u32(self.gguf, key.as_ptr(), value as u32);
            }
            let number = |key: &std::ffi::CStr, value| {
                sys::gguf_set_val_f32(self.gguf, key.as_ptr(), value);
            };
            number(c"llama.attention.layer_norm_rms_epsilon", model.norm_eps);
            number(c"llama.rope.freq_base", model.rope_base);
        }
    }

    /// The data must stay until the file is written.
    fn add(
        &self,
        name: &str,
        kind: sys::ggml_type,
        rows: usize,
        cols: usize,
        data: &[u8],
    ) -> Result<()> {
        let name = CString::new(name)?;
        // SAFETY: live contexts, a name that ends with a null, and as many bytes as the tensor has (asserted).
        unsafe {
            let tensor = match rows {
                1 => sys::ggml_new_tensor_1d(self.tensors, kind, cols as i64),
                _ => sys::ggml_new_tensor_2d(self.tensors, kind, cols as i64, rows as i64),
            };
            assert_eq!(sys::ggml_nbytes(tensor), data.len());
            sys::ggml_set_name(tensor, name.as_ptr());
            sys::gguf_add_tensor(self.gguf, tensor);
            sys::gguf_set_tensor_data(self.gguf, name.as_ptr(), data.as_ptr().cast());
        }
        Ok(())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: each was made by the matching constructor and is freed once.
        unsafe {
            sys::gguf_free(self.gguf);
            sys::ggml_free(self.tensors);
        }
    }
}
