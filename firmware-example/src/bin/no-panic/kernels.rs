//! The kernels called directly: also what no decoder needs, and shapes that do not fit.

use core::hint::black_box;

use attentive::kernels::layout::{KvDtype, KvShape};
use attentive::kernels::ops::attention::{
    AttentionShape, KvMut, Mask, Precision, append, attention, attention_scratch_len,
};
use attentive::kernels::ops::{convert, elementwise, embed, matmul, norm, position, softmax};
use attentive::kernels::{Backend, Matrix, MatrixData, ShapeError, Vector};
use half::{bf16, f16};

/// Buffers whose lengths the optimiser does not know.
struct Buffers<'a> {
    x: &'a mut [f32],
    y: &'a mut [f32],
    halves: &'a mut [f16],
    bytes: &'a mut [i8],
    scratch: &'a mut [f32],
}

/// Every operation once. Whether a shape fits does not matter here: `Err` is an answer, a panic is none.
pub(crate) fn all(backend: Backend) {
    let (mut x, mut y, mut scratch) = ([0.5; 64], [0.25; 64], [0.0; 256]);
    let (mut halves, mut bytes) = ([f16::ZERO; 64], [0; 64]);
    let mut buffers = Buffers {
        x: black_box(&mut x),
        y: black_box(&mut y),
        halves: black_box(&mut halves),
        bytes: black_box(&mut bytes),
        scratch: black_box(&mut scratch),
    };
    black_box(elementwise_and_norms(backend, &mut buffers).is_ok());
    black_box(positions_and_conversions(backend, &mut buffers).is_ok());
    black_box(products(backend, &mut buffers).is_ok());
    for mask in [Mask::Full, Mask::Causal, Mask::Window { len: 3, keep: 1 }] {
        black_box(attentions(backend, mask, &mut buffers).is_ok());
    }
}

fn elementwise_and_norms(backend: Backend, buffers: &mut Buffers<'_>) -> Result<(), ShapeError> {
    let Buffers { x, y, halves, .. } = buffers;
    elementwise::exp(backend, x);
    elementwise::gelu_tanh(backend, x);
    elementwise::gelu_erf(backend, x);
    elementwise::silu(backend, x);
    elementwise::relu(backend, x);
    softmax::softmax(backend, x);
    elementwise::swiglu(backend, x, y)?;
    elementwise::geglu(backend, x, y)?;
    elementwise::add(backend, x, y)?;
    for gain in black_box([Vector::F32(y), Vector::F16(halves)]) {
        let mut out = [0.0; 64];
        let out = black_box(&mut out);
        elementwise::add_bias(backend, x, &gain)?;
        norm::rms_norm(backend, x, &gain, black_box(1e-5), out)?;
        norm::layer_norm(backend, x, &gain, Some(&gain), black_box(1e-5), out)?;
    }
    Ok(())
}

fn positions_and_conversions(
    backend: Backend,
    buffers: &mut Buffers<'_>,
) -> Result<(), ShapeError> {
    let Buffers { x, y, halves, .. } = buffers;
    position::sinusoidal(black_box(1_000_000), x);
    position::rotary_frequencies(black_box(10_000.0), x);
    position::rotary_angles(black_box(1_000_000), x, buffers.scratch)?;
    for style in black_box([
        position::RotaryStyle::Half,
        position::RotaryStyle::Interleaved,
    ]) {
        position::rotary(
            backend,
            x,
            black_box(64),
            black_box(2),
            black_box(32),
            y,
            style,
        )?;
    }
    convert::f32_to_f16(backend, x, halves)?;
    convert::f16_to_f32(backend, halves, x)?;
    black_box(convert::quantize_i8(backend, x, buffers.bytes)?);
    Ok(())
}

fn products(backend: Backend, buffers: &mut Buffers<'_>) -> Result<(), ShapeError> {
    let Buffers { x, y, .. } = buffers;
    let mut words = [0; 64];
    let words = black_box(&mut words);
    let (rows, cols) = black_box((2, 32));
    for data in black_box([
        MatrixData::F32(buffers.scratch),
        MatrixData::F16(buffers.halves),
    ]) {
        if let Ok(matrix) = Matrix::new(rows, cols, data) {
            embed::dequantize_row(backend, &matrix, black_box(1), x)?;
            matmul::matmul(backend, &matrix, x, black_box(1), y, words)?;
        }
    }
    black_box(matmul::matmul_scratch_len(cols, black_box(3)));
    Ok(())
}

/// A cache for each element type: sixteen keys of two heads of eight.
struct Caches {
    floats: [[f32; 256]; 2],
    halves: [[f16; 256]; 2],
    brains: [[bf16; 256]; 2],
    keys: [u8; 256],
    values: [i8; 256],
    scales: [[f32; 32]; 2],
}

impl Caches {
    fn of(&mut self, kind: KvDtype) -> KvMut<'_> {
        let ([k, v], [half_k, half_v]) = (&mut self.floats, &mut self.halves);
        let [k_scales, v_scales] = &mut self.scales;
        match kind {
            KvDtype::F32 => KvMut::F32 { k, v },
            KvDtype::F16 => KvMut::F16 {
                k: half_k,
                v: half_v,
            },
            KvDtype::BF16 => {
                let [k, v] = &mut self.brains;
                KvMut::BF16 { k, v }
            }
            KvDtype::I8 => KvMut::I8 {
                k: &mut self.keys,
                k_scales,
                v: &mut self.values,
                v_scales,
            },
        }
    }
}

/// Writes into a cache of each type, then reads it.
fn attentions(backend: Backend, mask: Mask, buffers: &mut Buffers<'_>) -> Result<(), ShapeError> {
    let mut caches = Caches {
        floats: [[0.0; 256]; 2],
        halves: [[f16::ZERO; 256]; 2],
        brains: [[bf16::ZERO; 256]; 2],
        keys: [0; 256],
        values: [0; 256],
        scales: [[0.0; 32]; 2],
    };
    let caches = black_box(&mut caches);
    let Buffers { x, y, scratch, .. } = buffers;
    for kind in black_box([KvDtype::F32, KvDtype::F16, KvDtype::BF16, KvDtype::I8]) {
        let shape = KvShape::new(black_box(2), black_box(8), black_box(16))?;
        let (slot, tokens, heads, keys, stride) = black_box((15, 2, 4, 9, 32));
        let cache = black_box(caches.of(kind));
        append(backend, &shape, cache, slot, tokens, x, x, stride)?;
        let asked = AttentionShape {
            soft_cap: black_box(20.0),
            sinks: black_box(&[0.5; 4]),
            precision: black_box(Precision::Accurate),
            ..AttentionShape::new(&shape, heads, tokens, keys, mask)
        };
        black_box(attention_scratch_len(&shape, kind, heads, tokens));
        let cache = black_box(caches.of(kind));
        attention(
            backend,
            &shape,
            &asked,
            x,
            stride,
            cache.as_kv(),
            y,
            stride,
            scratch,
        )?;
    }
    Ok(())
}
