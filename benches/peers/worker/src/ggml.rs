//! ggml: its fused attention and its products, in a graph of one operation as llama.cpp would compute it.

use crate::{Job, Place, unsupported};
use anyhow::{Result, ensure};
use attentive_peers_protocol::Task;
use llama_cpp_sys_2 as sys;
use std::ffi::CStr;
use std::ptr;

/// A graph of a single small operation would measure how long ggml takes to begin: this many are in one, as many as a
/// layer of a model has.
const NODES: usize = 16;
/// Operations with more work than this are alone in their graph.
const SMALL_OPERATIONS: usize = 50_000_000;
/// Rows of a mask are padded to a multiple of this.
const MASK_PAD: usize = 64;

/// Where weights lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weights {
    /// As in the file.
    Plain,
    /// In the layout that llama.cpp chooses when it loads a model, where it has one for them.
    Repacked,
}

/// ggml's version and the instructions it was built for.
pub(crate) fn version() -> String {
    // SAFETY: functions without arguments; the version is a constant of the library.
    let (version, features) = unsafe {
        let features = [
            ("AVX2", sys::ggml_cpu_has_avx2()),
            ("AVX-VNNI", sys::ggml_cpu_has_avx_vnni()),
            ("AVX-512", sys::ggml_cpu_has_avx512()),
            ("AVX-512-VNNI", sys::ggml_cpu_has_avx512_vnni()),
            ("AMX", sys::ggml_cpu_has_amx_int8()),
            ("NEON", sys::ggml_cpu_has_neon()),
            ("DOTPROD", sys::ggml_cpu_has_dotprod()),
            ("I8MM", sys::ggml_cpu_has_matmul_int8()),
        ];
        (CStr::from_ptr(sys::ggml_version()), features)
    };
    let mut text = version.to_string_lossy().into_owned();
    for (name, there) in features {
        if there != 0 {
            text.push(' ');
            text.push_str(name);
        }
    }
    text
}

pub(crate) fn prepare(task: &Task, place: &Place, weights: Weights) -> Result<Box<dyn Job>> {
    silence();
    match task {
        Task::Attention { .. } if weights == Weights::Plain => unsupported("the same as ggml"),
        Task::Attention { .. } => attention(task, place),
        Task::Product { .. } => product(task, place, weights),
        Task::Generation { .. } | Task::Embedding { .. } => unsupported("that is llama.cpp's"),
    }
}

/// No word of the library's own.
pub(crate) fn silence() {
    unsafe extern "C" fn nothing(_: sys::ggml_log_level, _: *const i8, _: *mut std::ffi::c_void) {}
    // SAFETY: the callback touches none of its arguments.
    unsafe { sys::llama_log_set(Some(nothing), ptr::null_mut()) };
}

/// Graphs over tensors that live as long as the process's task.
struct Graphs {
    backend: sys::ggml_backend_t,
    threadpool: sys::ggml_threadpool_t,
    contexts: Vec<*mut sys::ggml_context>,
    buffers: Vec<sys::ggml_backend_buffer_t>,
    out: *mut sys::ggml_tensor,
    one: *mut sys::ggml_cgraph,
    many: *mut sys::ggml_cgraph,
    nodes: usize,
}

impl Graphs {
    fn new(threads: usize) -> Self {
        // SAFETY: plain constructors; both objects are freed in `drop`, the pool after the backend that uses it.
        unsafe {
            let mut params = sys::ggml_threadpool_params_default(threads as i32);
            let threadpool = sys::ggml_threadpool_new(&mut params);
            let backend = sys::ggml_backend_cpu_init();
            sys::ggml_backend_cpu_set_n_threads(backend, threads as i32);
            sys::ggml_backend_cpu_set_threadpool(backend, threadpool);
            Self {
                backend,
                threadpool,
                contexts: Vec::new(),
                buffers: Vec::new(),
                out: ptr::null_mut(),
                one: ptr::null_mut(),
                many: ptr::null_mut(),
                nodes: 1,
            }
        }
    }

    /// A context for the descriptions of some tensors.
    fn context(&mut self) -> *mut sys::ggml_context {
        let params = sys::ggml_init_params {
            mem_size: 4 << 20,
            mem_buffer: ptr::null_mut(),
            no_alloc: true,
        };
        // SAFETY: a plain constructor; freed in `drop`.
        let context = unsafe { sys::ggml_init(params) };
        self.contexts.push(context);
        context
    }

    /// Memory for all tensors of a context.
    fn allocate(
        &mut self,
        context: *mut sys::ggml_context,
        kind: sys::ggml_backend_buffer_type_t,
    ) -> Result<()> {
        // SAFETY: the context was made by `context`, the kind is one of the CPU device's.
        let buffer = unsafe { sys::ggml_backend_alloc_ctx_tensors_from_buft(context, kind) };
        ensure!(!buffer.is_null(), "ggml has no memory for the tensors");
        self.buffers.push(buffer);
        Ok(())
    }

    /// Builds the graphs of `nodes` equal operations. All of them write to the result of the first.
    ///
    /// # Safety
    /// `node` makes a node in the context it is given, of tensors of this `Graphs`.
    unsafe fn build(
        &mut self,
        nodes: usize,
        node: &dyn Fn(*mut sys::ggml_context, usize) -> *mut sys::ggml_tensor,
    ) -> Result<()> {
        let first = self.context();
        self.out = node(first, 0);
        // SAFETY: the CPU backend has a default kind of memory, tensors and graphs are of live contexts.
        unsafe {
            let kind = sys::ggml_backend_get_default_buffer_type(self.backend);
            self.allocate(first, kind)?;
            self.one = sys::ggml_new_graph(first);
            sys::ggml_build_forward_expand(self.one, self.out);
            let rest = self.context();
            self.many = sys::ggml_new_graph(rest);
            self.nodes = nodes;
            for index in 0..nodes {
                let again = node(rest, index);
                // Views within the node have no memory of their own: they are those of their sources.
                (*again).data = (*self.out).data;
                (*again).buffer = (*self.out).buffer;
                sys::ggml_build_forward_expand(self.many, again);
            }
        }
        Ok(())
    }

    fn compute(&self, graph: *mut sys::ggml_cgraph) -> Result<()> {
        // SAFETY: backend and graph are live, every tensor of the graph has memory.
        let status = unsafe { sys::ggml_backend_graph_compute(self.backend, graph) };
        ensure!(status == sys::GGML_STATUS_SUCCESS, "ggml: status {status}");
        Ok(())
    }
}

impl Job for Graphs {
    fn run(&mut self, runs: usize) -> Result<()> {
        for _ in 0..runs / self.nodes {
            self.compute(self.many)?;
        }
        for _ in 0..runs % self.nodes {
            self.compute(self.one)?;
        }
        Ok(())
    }

    fn result(&mut self) -> Result<Vec<f32>> {
        // SAFETY: the result is a live f32 tensor of so many elements.
        unsafe {
            let mut values = vec![f32::NAN; sys::ggml_nelements(self.out) as usize];
            let bytes = size_of_val(&*values);
            sys::ggml_backend_tensor_get(self.out, values.as_mut_ptr().cast(), 0, bytes);
            Ok(values)
        }
    }
}

impl Drop for Graphs {
    fn drop(&mut self) {
        // SAFETY: each was made by the matching constructor and is freed once.
        unsafe {
            for &buffer in &self.buffers {
                sys::ggml_backend_buffer_free(buffer);
            }
            for &context in &self.contexts {
                sys::ggml_free(context);
            }
            sys::ggml_backend_free(self.backend);
            sys::ggml_threadpool_free(self.threadpool);
        }
    }
}

fn attention(task: &Task, place: &Place) -> Result<Box<dyn Job>> {
    let &Task::Attention {
        ref kv,
        causal,
        head_dim,
        group,
        q_len,
        kv_len,
    } = task
    else {
        return unsupported("not attention");
    };
    let kind = match kv.as_str() {
        "f32" => sys::GGML_TYPE_F32,
        "f16" => sys::GGML_TYPE_F16,
        "bf16" => sys::GGML_TYPE_BF16,
        _ => sys::GGML_TYPE_Q8_0,
    };
    if kind == sys::GGML_TYPE_Q8_0 && !head_dim.is_multiple_of(32) {
        return unsupported("Q8_0 needs heads of a multiple of 32");
    }
    let mut graphs = Graphs::new(place.threads);
    let inputs = graphs.context();
    let (d, heads, tokens, keys) = (head_dim as i64, group as i64, q_len as i64, kv_len as i64);
    // One query sees every key, whatever the mask.
    let masked = causal && q_len > 1;
    let mask_rows = q_len.next_multiple_of(MASK_PAD);
    // SAFETY: tensors are made in a live context and filled with exactly as many bytes as they hold.
    unsafe {
        let q = sys::ggml_new_tensor_3d(inputs, sys::GGML_TYPE_F32, d, heads, tokens);
        let k = sys::ggml_new_tensor_3d(inputs, kind, d, keys, 1);
        let v = sys::ggml_new_tensor_3d(inputs, kind, d, keys, 1);
        let mask = match masked {
            true => sys::ggml_new_tensor_2d(inputs, sys::GGML_TYPE_F16, keys, mask_rows as i64),
            false => ptr::null_mut(),
        };
        let memory = sys::ggml_backend_get_default_buffer_type(graphs.backend);
        graphs.allocate(inputs, memory)?;
        set(
            q,
            &place.floats("q.f32", q_len * group * head_dim)?,
            head_dim,
        );
        set(k, &place.floats("k.f32", kv_len * head_dim)?, head_dim);
        set(v, &place.floats("v.f32", kv_len * head_dim)?, head_dim);
        if masked {
            let seen = |at: usize| at % kv_len <= at / kv_len + (kv_len - q_len);
            let values = (0..mask_rows * kv_len).map(|at| match seen(at) {
                true => 0.0,
                false => f32::NEG_INFINITY,
            });
            set(mask, &values.collect::<Vec<f32>>(), kv_len);
        }
        let scale = 1.0 / (head_dim as f32).sqrt();
        let node = |context, _| {
            let q = sys::ggml_permute(context, q, 0, 2, 1, 3);
            let out = sys::ggml_flash_attn_ext(context, q, k, v, mask, scale, 0.0, 0.0);
            sys::ggml_flash_attn_ext_set_prec(out, sys::GGML_PREC_F32);
            out
        };
        let nodes = match 4 * q_len * group * kv_len * head_dim {
            small if small <= SMALL_OPERATIONS => NODES,
            _ => 1,
        };
        graphs.build(nodes, &node)?;
    }
    Ok(Box::new(graphs))
}

fn product(task: &Task, place: &Place, layout: Weights) -> Result<Box<dyn Job>> {
    let &Task::Product {
        ref format,
        rows,
        cols,
        n,
        copies,
    } = task
    else {
        return unsupported("not a product");
    };
    let kind = match format.as_str() {
        "f32" => sys::GGML_TYPE_F32,
        "f16" => sys::GGML_TYPE_F16,
        "i8" => sys::GGML_TYPE_Q8_0,
        "i4" => sys::GGML_TYPE_Q4_0,
        _ => return unsupported("no such groups"),
    };
    let mut graphs = Graphs::new(place.threads);
    let (weights, inputs) = (graphs.context(), graphs.context());
    // SAFETY: tensors are made in live contexts and filled with exactly as many bytes as they hold.
    unsafe {
        let matrix = || sys::ggml_new_tensor_2d(weights, kind, cols as i64, rows as i64);
        let matrices: Vec<_> = (0..copies).map(|_| matrix()).collect();
        let x = sys::ggml_new_tensor_2d(inputs, sys::GGML_TYPE_F32, cols as i64, n as i64);
        let plain = sys::ggml_backend_get_default_buffer_type(graphs.backend);
        let memory = match layout {
            Weights::Plain => plain,
            Weights::Repacked => match repacked(&mut graphs, kind, rows, cols) {
                Some(memory) => memory,
                None => return unsupported("no repacked layout for these weights here"),
            },
        };
        graphs.allocate(weights, memory)?;
        graphs.allocate(inputs, plain)?;
        let bytes = quantized(kind, &place.floats("weights.f32", rows * cols)?, cols);
        matrices
            .iter()
            .for_each(|&matrix| set_bytes(matrix, &bytes));
        set(x, &place.floats("x.f32", n * cols)?, cols);
        if copies == 1 {
            let node = |context, _| sys::ggml_mul_mat(context, matrices[0], x);
            let nodes = match 2 * rows * cols * n {
                small if small <= SMALL_OPERATIONS => NODES,
                _ => 1,
            };
            graphs.build(nodes, &node)?;
        } else {
            // One run is a graph of all copies.
            let node = |context, index: usize| sys::ggml_mul_mat(context, matrices[index], x);
            graphs.build(copies, &node)?;
            graphs.one = graphs.many;
            graphs.nodes = 1;
        }
    }
    Ok(Box::new(graphs))
}

/// The first of the device's special kinds of memory in which it can multiply such weights, as llama.cpp looks for it.
fn repacked(
    graphs: &mut Graphs,
    kind: sys::ggml_type,
    rows: usize,
    cols: usize,
) -> Option<sys::ggml_backend_buffer_type_t> {
    // SAFETY: the address is that of a function of this very type (ggml-backend.h), its list ends with a null; the
    // tensors are descriptions in a live context.
    unsafe {
        let device = sys::ggml_backend_get_device(graphs.backend);
        let registry = sys::ggml_backend_dev_backend_reg(device);
        let name = c"ggml_backend_dev_get_extra_bufts".as_ptr();
        let address = sys::ggml_backend_reg_get_proc_address(registry, name);
        if address.is_null() {
            return None;
        }
        let list: unsafe extern "C" fn(
            sys::ggml_backend_dev_t,
        ) -> *mut sys::ggml_backend_buffer_type_t = std::mem::transmute(address);
        let mut entry = list(device);
        let context = graphs.context();
        while !entry.is_null() && !(*entry).is_null() {
            let weights = sys::ggml_new_tensor_2d(context, kind, cols as i64, rows as i64);
            let x = sys::ggml_new_tensor_2d(context, sys::GGML_TYPE_F32, cols as i64, 512);
            let product = sys::ggml_mul_mat(context, weights, x);
            let buffer = sys::ggml_backend_buft_alloc_buffer(*entry, 0);
            (*weights).buffer = buffer;
            let takes = sys::ggml_backend_dev_supports_op(device, product);
            (*weights).buffer = ptr::null_mut();
            sys::ggml_backend_buffer_free(buffer);
            if takes {
                return Some(*entry);
            }
            entry = entry.add(1);
        }
    }
    None
}

/// Fills a tensor with these values in its own type.
///
/// # Safety
/// The tensor has memory for exactly `values`, in whole rows of `cols`.
unsafe fn set(tensor: *mut sys::ggml_tensor, values: &[f32], cols: usize) {
    // SAFETY: by this function's own promise; the rows' bytes are ggml's own count.
    unsafe {
        set_bytes(tensor, &quantized((*tensor).type_, values, cols));
    }
}

/// Fills a tensor with the bytes of its own type.
///
/// # Safety
/// The tensor has memory.
unsafe fn set_bytes(tensor: *mut sys::ggml_tensor, bytes: &[u8]) {
    // SAFETY: the tensor has memory, and the bytes are as many as ggml counts (asserted).
    unsafe {
        assert_eq!(bytes.len(), sys::ggml_nbytes(tensor));
        sys::ggml_backend_tensor_set(tensor, bytes.as_ptr().cast(), 0, bytes.len());
    }
}

/// Rows of `cols` values in a type of ggml's.
pub(crate) fn quantized(kind: sys::ggml_type, values: &[f32], cols: usize) -> Vec<u8> {
    let rows = values.len() / cols;
    // SAFETY: a pure function of the type and the length.
    let row_bytes = unsafe { sys::ggml_row_size(kind, cols as i64) };
    let mut bytes = vec![0; rows * row_bytes];
    if kind == sys::GGML_TYPE_F32 {
        bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
    } else {
        // SAFETY: source and destination are whole rows, as long as ggml says; no importance matrix is needed.
        unsafe {
            let (source, target) = (values.as_ptr(), bytes.as_mut_ptr().cast());
            sys::ggml_quantize_chunk(
                kind,
                source,
                target,
                0,
                rows as i64,
                cols as i64,
                ptr::null(),
            );
        }
    }
    bytes
}
