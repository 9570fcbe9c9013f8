//! Attention that is looked at: its weights against a naive f64 model's, and that looking changes nothing.

use attentive::kernels::Backend;
use attentive::kernels::layout::{KvDtype, WeightFormat};
use attentive::{
    Attends, AttentionRow, Block, Config, Encoder, EncoderOptions, Model, Role, Session,
    SessionError, SessionOptions, WhenFull,
};

use crate::common::{
    BERT, LLAMA, ORIGINAL, Variant, pack_variant, random_values, reference, variants,
};
use crate::random_ids;

fn weights(config: &Config) -> impl Fn(Role, Option<usize>) -> Vec<f64> {
    let config = *config;
    move |role, layer| {
        let index = config.tensor_index(role, layer).expect("a tensor");
        let shape = config.tensor(index).expect("a shape");
        let values = random_values(&shape, 5);
        values.into_iter().map(f64::from).collect()
    }
}

/// A row that was handed over.
type Seen = (Attends, usize, usize, usize, Vec<f32>);

fn keep(rows: &mut Vec<Seen>) -> impl FnMut(&AttentionRow<'_>) + Send {
    |row| {
        let weights = row.weights.to_vec();
        rows.push((row.attends, row.layer, row.position, row.head, weights));
    }
}

/// The oracle's rows hold what a query sees, ours zeros behind it.
fn assert_rows(name: &str, config: &Config, got: &[Seen], want: &[reference::Row]) {
    assert_eq!(got.len(), want.len(), "{name}");
    for ((attends, layer, position, head, got), want) in got.iter().zip(want) {
        let (to_source, layer_of_all, token, want_head, want) = want;
        let is_source = *attends == Attends::Source;
        let layer = layer + if is_source { config.layers } else { 0 };
        assert_eq!(
            (layer, *position, head),
            (*layer_of_all, *token, want_head),
            "{name}"
        );
        assert_eq!(*to_source, *attends == Attends::TextToSource, "{name}");
        for (key, got) in got.iter().enumerate() {
            let want = want.get(key).copied().unwrap_or(0.0);
            let error = (f64::from(*got) - want).abs();
            assert!(
                error < 2e-4,
                "{name} {layer} {position} {head} {key}: {got} for {want}"
            );
        }
    }
}

fn session<T>(
    model: &Model<'_>,
    options: &SessionOptions,
    backend: Backend,
    then: impl FnOnce(&mut Session<'_>) -> T,
) -> T {
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(options))];
    let memory = Block::bytes_mut(&mut memory);
    let mut session = Session::new(model, options, memory, backend).expect("a session");
    then(&mut session)
}

#[test]
fn a_decoders_weights_are_the_oracles() {
    for Variant { name, config } in variants() {
        let ids = random_ids(&config, 21, 3);
        reference::take_rows();
        reference::logits(&config, &weights(&config), &ids);
        let want = reference::take_rows();
        let blocks = pack_variant(&config, WeightFormat::F32, 5);
        let model = Model::parse(Block::bytes(&blocks)).expect("a model");
        for backend in Backend::available() {
            // One batch: the rows of several would come one batch after the other.
            let options = SessionOptions::new(24).with_prefill_len(24);
            session(&model, &options, backend, |session| {
                session.prompt_tokens(&ids).expect("a prompt");
                let logits = session.logits().to_vec();
                session.reset();
                let (mut rows, mut room) = (Vec::new(), [0.0; 24]);
                let done = session.watch(&ids, &mut room, keep(&mut rows));
                done.expect("a prompt");
                assert!(session.logits() == logits, "{name} {}", backend.name());
                assert_rows(name, &config, &rows, &want);
            });
        }
    }
}

#[test]
fn an_encoders_weights_are_the_oracles() {
    let ids = random_ids(&BERT, 19, 3);
    reference::take_rows();
    reference::encode(&BERT, &weights(&BERT), &ids, &[]);
    let want = reference::take_rows();
    let blocks = pack_variant(&BERT, WeightFormat::F32, 5);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    for (kv, backend) in Backend::available().flat_map(|b| [(KvDtype::F32, b), (KvDtype::F16, b)]) {
        let options = EncoderOptions::new(32).with_kv(kv);
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
        let memory = Block::bytes_mut(&mut memory);
        let mut encoder = Encoder::new(&model, &options, memory, backend).expect("an encoder");
        encoder.run_tokens(&ids, &[]).expect("a run");
        let vector = encoder.embedding().expect("a vector").to_vec();
        let (mut rows, mut room) = (Vec::new(), [0.0; 19]);
        let done = encoder.watch(&ids, &[], &mut room, keep(&mut rows));
        done.expect("a run");
        assert!(encoder.embedding().expect("a vector") == vector);
        if kv == KvDtype::F32 {
            assert_rows("bert", &BERT, &rows, &want);
        }
        let (need, have) = (19 * 4, 18 * 4);
        let short = encoder.watch(&ids, &[], &mut room[..18], |_| ());
        assert_eq!(short, Err(SessionError::Memory { need, have }));
    }
}

#[test]
fn a_translators_weights_are_the_oracles() {
    let (source, ids) = (random_ids(&ORIGINAL, 33, 3), random_ids(&ORIGINAL, 12, 4));
    reference::take_rows();
    reference::translate(&ORIGINAL, &weights(&ORIGINAL), &source, &ids);
    let want = reference::take_rows();
    let of_source = want
        .iter()
        .take_while(|row| row.1 >= ORIGINAL.layers)
        .count();
    // The oracle sees a layer's queries attend to the text, then all to the source: as here.
    let blocks = pack_variant(&ORIGINAL, WeightFormat::F32, 5);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    for backend in Backend::available() {
        let options = SessionOptions::new(16).with_source_len(40);
        session(&model, &options, backend, |session| {
            session.read_tokens(&source).expect("a source");
            session.prompt_tokens(&ids).expect("a prompt");
            let logits = session.logits().to_vec();
            let (mut rows, mut room) = (Vec::new(), [0.0; 40]);
            let done = session.watch_source(&source, &mut room, keep(&mut rows));
            done.expect("a source");
            assert_rows("source", &ORIGINAL, &rows, &want[..of_source]);
            rows.clear();
            let done = session.watch(&ids, &mut room, keep(&mut rows));
            done.expect("a prompt");
            assert!(session.logits() == logits);
            assert_rows("text", &ORIGINAL, &rows, &want[of_source..]);
        });
    }
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let blocks = pack_variant(&LLAMA, WeightFormat::I8Row, 5);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let options = SessionOptions::new(16).with_when_full(WhenFull::Ring);
    session(&model, &options, Backend::detect(), |session| {
        let mut room = [0.0; 16];
        let mut count = 0;
        let done = session.watch(&[1; 10], &mut room, |_| count += 1);
        done.expect("a prompt");
        assert_eq!(count, 10 * LLAMA.layers * LLAMA.heads);
        let (need, have) = (17, 16);
        let turned = session.watch(&[1; 7], &mut room, |_| ());
        assert_eq!(turned, Err(SessionError::ContextFull { need, have }));
        assert_eq!(session.position(), 10);
        let family = session.watch_source(&[1], &mut room, |_| ());
        assert_eq!(family, Err(SessionError::Family));
    });
}
