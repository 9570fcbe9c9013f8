//! What is done to each token alone: embedding, products, the feed-forward block, the end.

use super::{Fit, NORM_COST, Of, Pass, Setting, Stage, What};
use crate::config::Pooling;
use crate::error::SessionError;
use crate::integer::memory::{Memory, part, part_mut, row, row_mut, short};
use crate::kernels::integer::{
    Function, Product, add, embed, gated, norm, plain, product_linked, to_i8,
};
use crate::tensors::Role;

impl<'m> Pass<'m> {
    pub(super) fn embed<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let (model, config) = (setting.model, setting.model.config());
        let dim = config.dim;
        let patch = config.patch();
        let is_patch = Of::<F>::PATCHES && patch > 0 && self.token > 0;
        // The token before the patches goes alone.
        let batch = match patch > 0 && self.token == 0 {
            true => 1,
            false => self.batch(),
        };
        let mut cost = 0usize;
        if self.index == 0 {
            let ids = match self.what {
                What::Source => &*memory.source,
                What::Next { .. } | What::Whole => &*memory.tokens,
            };
            let tokens = self.token..self.token.saturating_add(batch);
            for token in tokens.clone() {
                row_mut(memory.x, token, dim)?.fill(0);
            }
            if !is_patch {
                let table = model.table(Role::TokenEmbedding)?;
                for token in tokens {
                    let position = self.first.saturating_add(token);
                    let index = position.saturating_sub(setting.forgotten);
                    let id = ids.get(index).copied().unwrap_or_default();
                    embed(&table, id as usize, row_mut(memory.x, token, dim)?)?;
                }
            }
            cost = batch.saturating_mul(NORM_COST * dim);
        }
        if is_patch {
            let matrix = self.matrix(setting, Role::PatchWeight, None)?;
            let from = self.token.saturating_sub(1).saturating_mul(patch);
            let input = part(memory.q, from, batch.saturating_mul(patch))?;
            cost =
                cost.saturating_add(
                    self.add_rows(setting, &matrix, input, memory.sums, memory.x)? as usize,
                );
            if self.index < dim {
                return Ok(cost as u32);
            }
        }
        let (place, role) = match (self.what, config.source()) {
            (What::Source, Some(source)) => (&source.position, Role::SourcePositionEmbedding),
            _ => (&config.position, Role::PositionEmbedding),
        };
        if Of::<F>::TABLE && place.is_added() {
            let table = model.table(role)?;
            for token in self.token..self.token.saturating_add(batch) {
                let position = self.first.saturating_add(token);
                embed(&table, position, row_mut(memory.x, token, dim)?)?;
            }
        }
        self.skip(batch, Stage::Embed, |pass| pass.to(Stage::Qkv));
        Ok(cost as u32)
    }

    /// A block of rows of a product, added to the residual stream of as many tokens as there is input for.
    pub(super) fn add_rows<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        matrix: &Product<'m>,
        input: &[i8],
        sums: &mut [i32],
        x: &mut [i16],
    ) -> Result<u32, SessionError> {
        let batch = input.len().checked_div(matrix.cols()).unwrap_or(1);
        let block = self.block(batch, matrix.rows(), matrix.cols());
        let n = block.len();
        let sums = part_mut(sums, 0, batch.saturating_mul(n))?;
        product_linked::<Of<F>>(setting.backend, matrix, input, block.start, sums)?;
        for (lane, sums) in sums.chunks_exact(n.max(1)).enumerate() {
            let x = row_mut(x, self.token.saturating_add(lane), matrix.rows())?;
            add(part_mut(x, block.start, n)?, sums);
        }
        self.index = block.end;
        Ok(sums.len().saturating_mul(matrix.cols()) as u32)
    }

    pub(super) fn up<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let config = setting.model.config();
        let (dim, hidden) = (config.dim, config.hidden_dim);
        let batch = self.batch();
        if !self.is_normed {
            let parameters = self.parts(setting)?.ffn_norm;
            return self.norm(&parameters, dim, memory);
        }
        let parts = self.parts(setting)?;
        let (matrix, multiplier) = (parts.up, parts.scalars.hidden);
        let is_gated = Of::<F>::GATED && config.ffn.is_gated();
        // A gate is a row more for each.
        let rows = if is_gated { 2 } else { 1 };
        let block = self.block(batch.saturating_mul(rows), hidden, dim);
        let n = block.len();
        let function = config.function();
        let input = part(memory.y, 0, batch.saturating_mul(dim))?;
        let results = batch.saturating_mul(n);
        let have = memory.sums.len();
        let (gate, up) = (memory.sums)
            .split_at_mut_checked(results)
            .ok_or(short(results, have))?;
        product_linked::<Of<F>>(setting.backend, &matrix, input, block.start, gate)?;
        if is_gated {
            let up = part_mut(up, 0, results)?;
            let first = block.start.saturating_add(hidden);
            product_linked::<Of<F>>(setting.backend, &matrix, input, first, up)?;
        }
        for lane in 0..batch {
            let out = row_mut(memory.hidden, lane, hidden)?;
            let out = part_mut(out, block.start, n)?;
            let gate = row(gate, lane, n)?;
            let up = if is_gated { row(up, lane, n)? } else { &[] };
            match is_gated {
                true => bend::<F>(function, |f| gated(f, gate, up, multiplier, out))?,
                false if Of::<F>::PLAIN => {
                    bend::<F>(function, |f| plain(f, gate, multiplier, out))?;
                }
                false => return Err(SessionError::NotLinked),
            }
        }
        self.index = block.end;
        if self.index >= hidden {
            self.to(Stage::Down);
        }
        let results = results.saturating_mul(rows);
        Ok(results.saturating_mul(dim) as u32)
    }

    /// A block of a decoder's logits, after its last token.
    pub(super) fn logits<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let (model, config) = (setting.model, setting.model.config());
        let y = part_mut(memory.y, 0, config.dim)?;
        let mut cost = 0;
        if self.index == 0 {
            let x = row(memory.x, self.len.saturating_sub(1), config.dim)?;
            norm(x, &model.norm(Role::FinalNormGain, None)?, y)?;
            cost = NORM_COST * config.dim;
        }
        let role = match config.tied {
            true => Role::TokenEmbedding,
            false => Role::OutputWeight,
        };
        let matrix = self.matrix(setting, role, None)?;
        let block = self.block(1, config.vocab_len, config.dim);
        let out = part_mut(memory.logits, block.start, block.len())?;
        product_linked::<Of<F>>(setting.backend, &matrix, y, block.start, out)?;
        self.index = block.end;
        if self.index >= config.vocab_len {
            self.to(Stage::Done);
        }
        Ok(cost.saturating_add(block.len().saturating_mul(config.dim)) as u32)
    }

    /// An encoder's token: normed, then pooled or put through the head.
    pub(super) fn finals<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let (model, config) = (setting.model, setting.model.config());
        let dim = config.dim;
        let reading = config.reading().ok_or(SessionError::Family)?;
        let x = row(memory.x, self.token, dim)?;
        let y = part_mut(memory.y, 0, dim)?;
        norm(x, &model.norm(Role::FinalNormGain, None)?, y)?;
        let cost = NORM_COST * dim;
        match reading.pooling {
            Pooling::First => {
                self.to(Stage::Head);
                return Ok(cost as u32);
            }
            Pooling::Mean if Of::<F>::MEAN => {
                let sums = part_mut(memory.sums, 0, dim)?;
                if self.token == 0 {
                    sums.fill(0);
                }
                for (sum, &y) in sums.iter_mut().zip(&*y) {
                    *sum = sum.wrapping_add(i32::from(y));
                }
                self.skip(1, Stage::Final, |pass| pass.to(Stage::Head));
                if self.stage == Stage::Head {
                    pool(model.pooling(), self.len, sums, y);
                }
                return Ok(cost as u32);
            }
            Pooling::Mean => return Err(SessionError::NotLinked),
            Pooling::None => {}
        }
        let matrix = self.matrix(setting, Role::HeadWeight, None)?;
        let rows = matrix.rows();
        let out = row_mut(memory.logits, self.token, rows)?;
        product_linked::<Of<F>>(setting.backend, &matrix, y, 0, out)?;
        self.skip(1, Stage::Final, |pass| pass.to(Stage::Done));
        Ok(cost.saturating_add(rows.saturating_mul(dim)) as u32)
    }

    pub(super) fn head<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let matrix = self.matrix(setting, Role::HeadWeight, None)?;
        let block = self.block(1, matrix.rows(), matrix.cols());
        let out = part_mut(memory.logits, block.start, block.len())?;
        let input = part(memory.y, 0, matrix.cols())?;
        product_linked::<Of<F>>(setting.backend, &matrix, input, block.start, out)?;
        self.index = block.end;
        if self.index >= matrix.rows() {
            self.to(Stage::Done);
        }
        Ok(block.len().saturating_mul(matrix.cols()) as u32)
    }
}

/// Calls with a function that the compiler knows, so that it links the tables of no other.
#[inline(always)]
fn bend<F: Fit>(function: Function, call: impl FnOnce(Function)) -> Result<(), SessionError> {
    match function {
        Function::Silu if Of::<F>::function(Function::Silu) => call(Function::Silu),
        Function::GeluTanh if Of::<F>::function(Function::GeluTanh) => call(Function::GeluTanh),
        Function::GeluErf if Of::<F>::function(Function::GeluErf) => call(Function::GeluErf),
        Function::Relu if Of::<F>::function(Function::Relu) => call(Function::Relu),
        _ => return Err(SessionError::NotLinked),
    }
    Ok(())
}

/// The mean of `n` tokens, in steps of its own.
fn pool(pooling: u32, n: usize, sums: &[i32], out: &mut [i8]) {
    let factor = i64::from(pooling.checked_div(n as u32).unwrap_or(0));
    for (out, &sum) in out.iter_mut().zip(sums) {
        let mean = i64::from(sum).wrapping_mul(factor).wrapping_add(1 << 15) >> 16;
        *out = to_i8(mean.clamp(-128, 127) as i32);
    }
}
