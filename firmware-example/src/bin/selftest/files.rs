//! Weights files: the one in flash, and a small one made here to be damaged.

use attentive::kernels::Backend;
use attentive::kernels::layout::WeightFormat;
use attentive::pack::{PackError, Recipe, ScaleMethod, TokenizerParts};
use attentive::{
    Architecture, Attention, Biases, Block, Config, Ffn, Model, Norm, NormPlace, Position, Sampler,
    SamplerOptions, Session, SessionOptions, WeightsError,
};
use firmware_example::MODEL;

use crate::{Bench, Fault, ensure};

/// The smallest model that has everything a file can damage.
const TINY: Config = Config {
    architecture: Architecture::Decoder,
    vocab_len: 256,
    dim: 8,
    layers: 1,
    heads: 1,
    kv_heads: 1,
    head_dim: 8,
    hidden_dim: 16,
    context_len: 32,
    norm: Norm::Layer,
    norm_place: NormPlace::Pre,
    norm_eps: 1e-5,
    final_norm: true,
    ffn: Ffn::Relu,
    position: Position::Sinusoidal,
    tied: true,
    biases: Biases::NONE,
    attention: Attention::PLAIN,
    embedding_scale: 1.0,
    begin_of_text: None,
    end_of_text: None,
};

pub(crate) fn verified(_: &mut Bench) -> Result<(), Fault> {
    Ok(MODEL.verify()?)
}

/// Lengths that end in the header, in the tables, among the tensors, and one byte early.
pub(crate) fn torn(_: &mut Bench) -> Result<(), Fault> {
    let file = MODEL.bytes();
    let last = file.len().saturating_sub(1);
    for len in (0..4096.min(last))
        .chain((4096..last).step_by(4096))
        .chain([last])
    {
        let head = file.get(..len).unwrap_or_default();
        ensure(Model::parse(head).is_err(), "a part of the file was taken")?;
    }
    Ok(())
}

pub(crate) fn changed(bench: &mut Bench) -> Result<(), Fault> {
    let file = tiny(bench)?;
    let tables_end = 128 + 32 * TINY.tensors_len();
    ensure(Model::parse(file).is_ok(), "the whole file was refused")?;
    for at in 0..tables_end {
        for change in [0x01, 0x80, 0xff] {
            flip(file, at, change);
            ensure(Model::parse(file).is_err(), "a changed file was taken")?;
            flip(file, at, change);
        }
    }
    ensure(Model::parse(file).is_ok(), "the whole file was refused")
}

/// The checksum of the tensors is `verify`'s business: without it such a file computes something, but harms nothing.
pub(crate) fn damaged(bench: &mut Bench) -> Result<(), Fault> {
    let len = tiny(bench)?.len();
    for at in [len - 64, len / 2, len / 3] {
        let file = tiny(bench)?;
        for change in 0..64 {
            flip(file, at + change, 0xff);
        }
        let model = Model::parse(Block::bytes(bench.file).get(..len).unwrap_or_default())?;
        ensure(
            matches!(model.verify(), Err(WeightsError::PayloadChecksum { .. })),
            "the damage was not noticed",
        )?;
        let options = SessionOptions::new(32);
        let mut session = Session::new(&model, &options, bench.session, Backend::BASELINE)?;
        session.prompt("It is a truth")?;
        let mut sampler = Sampler::new(SamplerOptions::GREEDY);
        // A step may find no number among the logits; that is an answer.
        let _ = session.step(&mut sampler);
        let _ = session.step(&mut sampler);
    }
    Ok(())
}

/// Writes the tiny model's file, with numbers that look random.
fn tiny(bench: &mut Bench) -> Result<&mut [u8], Fault> {
    let recipe = Recipe {
        config: &TINY,
        tokenizer: TokenizerParts::Bytes { offset: 0 },
        provenance: "data = \"none\"\n",
        format: &|_| WeightFormat::F32,
    };
    let len = recipe.file_bytes()?;
    let memory = Block::bytes_mut(bench.file).get_mut(..len);
    let file = memory.ok_or(Fault::Seen("the file is larger than its buffer"))?;
    let values = &mut *bench.values;
    recipe.write::<PackError>(file, |mut tensor| {
        let count = tensor.shape.rows * tensor.shape.cols;
        let values = values.get_mut(..count).unwrap_or_default();
        for (value, index) in values.iter_mut().zip(0u32..) {
            *value = index.wrapping_mul(2_654_435_761) as i32 as f32 / (1u32 << 31) as f32;
        }
        tensor.write(values, ScaleMethod::AbsMax)
    })?;
    Ok(file)
}

fn flip(file: &mut [u8], at: usize, bits: u8) {
    if let Some(byte) = file.get_mut(at) {
        *byte ^= bits;
    }
}
