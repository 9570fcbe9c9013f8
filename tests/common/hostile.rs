//! Using a model that may lie: whatever its bytes hold, each call returns.

use attentive::kernels::Backend;
use attentive::kernels::layout::KvDtype;
use attentive::tokenizer::ENCODE_SCRATCH_LEN;
use attentive::{
    BeamOptions, Block, Encoder, EncoderOptions, Model, Sampler, SamplerOptions, Session,
    SessionOptions, WhenFull,
};

/// Where the header keeps the checksum of itself, the configuration and the table.
const HEADER_CRC_AT: usize = 60;

/// Makes the header's checksum that of the (changed) header and tables, so that a reader has to look further.
pub(crate) fn repair_checksum(file: &mut [u8]) {
    let Some(tensors_len) = file.get(40..44).and_then(|b| b.try_into().ok()) else {
        return;
    };
    let table_len = 32 * u32::from_le_bytes(tensors_len) as usize;
    let table_at = 128 + 64 * further_records(file);
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

/// How many records follow the configuration's, by bits 9 to 11 of its flags.
fn further_records(file: &[u8]) -> usize {
    file.get(97)
        .map_or(0, |byte| (byte & 0b1110).count_ones() as usize)
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
        let (source_len, beams) = match (model.config().source(), when_full) {
            (Some(_), WhenFull::Error) => (9, 2),
            (Some(_), WhenFull::Ring) => (9, 0),
            (None, WhenFull::Error) => (0, 2),
            (None, WhenFull::Ring) => (0, 0),
        };
        let options = SessionOptions::new(24)
            .with_kv(kv)
            .with_prefill_len(5)
            .with_when_full(when_full)
            .with_source_len(source_len)
            .with_beams(beams);
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
        let _ = session.read(text);
        let _ = session.read_tokens(&[u32::MAX]);
        let _ = session.read_tokens(&[0, 1, 2]);
        let _ = session.read_frames(&[0.5; 60]);
        let _ = session.prompt(text);
        let _ = session.prompt_tokens(&[0, u32::MAX]);
        let _ = session.prompt_tokens(&[0, 1, 2]);
        for _ in 0..6 {
            let _ = session.step(&mut sampler);
        }
        let _ = session.score(&[0; 9], |_, _| ());
        let found = session.search(&BeamOptions::new(4));
        assert!(found.is_err() || beams > 0);
        session.reset();
        let _ = session.prompt(text);
        assert!(session.tokens().len() <= session.context_len());
    }
    let options = EncoderOptions::new(12);
    let bytes = model.encoder_bytes(&options);
    if bytes <= 16 << 20 {
        let mut memory = vec![Block::ZERO; Block::len_for(bytes)];
        let memory = Block::bytes_mut(&mut memory);
        if let Ok(mut encoder) = Encoder::new(&model, &options, memory, Backend::detect()) {
            let _ = encoder.run_text(text, Some("two"));
            let _ = encoder.run_tokens(&[0, 1, 2], &[0, u32::MAX, 1]);
            let _ = encoder.run_tokens(&[0, 1, 2], &[]);
            assert!(encoder.hidden().len() == 3 * model.config().dim || encoder.is_empty());
            let _ = encoder.span(0..9, 3);
            let patch = model.config().reading().map_or(0, |r| r.patch.min(1 << 12));
            let _ = encoder.run_patches(&vec![0.5; 3 * patch]);
        }
    }
    true
}
