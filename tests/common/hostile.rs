//! Using a model that may lie: whatever its bytes hold, each call returns.

use attentive::kernels::Backend;
use attentive::kernels::layout::KvDtype;
use attentive::tokenizer::ENCODE_SCRATCH_LEN;
use attentive::{Block, Model, Sampler, SamplerOptions, Session, SessionOptions, WhenFull};

/// Where the header keeps the checksum of itself, the configuration and the table.
const HEADER_CRC_AT: usize = 60;

/// Makes the header's checksum that of the (changed) header and tables, so that a reader has to look further.
pub(crate) fn repair_checksum(file: &mut [u8]) {
    let Some(tensors_len) = file.get(40..44).and_then(|b| b.try_into().ok()) else {
        return;
    };
    let table_len = 32 * u32::from_le_bytes(tensors_len) as usize;
    let table_at = 128 + if has_attention_record(file) { 64 } else { 0 };
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let mut digest = crc.digest();
    let (Some(header), Some(tables)) = (
        file.get(..HEADER_CRC_AT),
        file.get(64..table_len.saturating_add(table_at)),
    ) else {
        return;
    };
    digest.update(header);
    digest.update(tables);
    let sum = digest.finalize().to_le_bytes();
    file[HEADER_CRC_AT..][..4].copy_from_slice(&sum);
}

/// Whether bit 9 of the configuration's flags says that a second record follows it.
fn has_attention_record(file: &[u8]) -> bool {
    file.get(97).is_some_and(|byte| byte & 2 != 0)
}

/// Parses the file (which begins at a multiple of 64) and, if it passes, runs everything on it. Whether it passed.
pub(crate) fn exercise(file: &[u8], text: &str) -> bool {
    let Ok(model) = Model::parse(file) else {
        return false;
    };
    let _ = model.verify();
    assert_eq!(model.tensors().count(), model.config().tensors_len());
    for id in [0, 1, 255, 256, model.config().vocab_len as u32, u32::MAX] {
        let _ = model.tokenizer().piece(id);
    }
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let mut out = [0; 32];
    let tokenizer = model.tokenizer();
    let _ = tokenizer.encode_wrapped(text, Some("two"), &mut scratch, &mut out);
    assert!(tokenizer.decode(&out).count() <= 2 * out.len());
    for (kv, when_full) in [
        (KvDtype::F32, WhenFull::Error),
        (KvDtype::F16, WhenFull::Ring),
        (KvDtype::I8, WhenFull::Ring),
    ] {
        let options = SessionOptions::new(24)
            .with_kv(kv)
            .with_prefill_len(5)
            .with_when_full(when_full);
        let bytes = model.session_bytes(&options);
        // Not more than a device would have; a large one is not the question here.
        if bytes > 16 << 20 {
            continue;
        }
        let mut memory = vec![Block::ZERO; Block::len_for(bytes)];
        let session = Session::new(
            &model,
            &options,
            Block::bytes_mut(&mut memory),
            Backend::detect(),
        );
        let Ok(mut session) = session else { continue };
        let mut sampler = Sampler::new(SamplerOptions {
            top_k: 5,
            top_p: 0.9,
            repetition_penalty: 1.2,
            ..SamplerOptions::DEFAULT
        });
        let _ = session.step(&mut sampler);
        let _ = session.prompt(text);
        let _ = session.prompt_tokens(&[0, u32::MAX]);
        let _ = session.prompt_tokens(&[0, 1, 2]);
        for _ in 0..6 {
            let _ = session.step(&mut sampler);
        }
        let _ = session.score(&[0; 9], |_, _| ());
        session.reset();
        let _ = session.prompt(text);
        assert!(session.tokens().len() <= session.context_len());
    }
    true
}
