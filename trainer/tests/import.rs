//! Import: every type of numbers, tokens, turns, and files that are not as they should be.

use attentive::kernels::layout::WeightFormat;
use attentive::kernels::ops::embed::dequantize_row;
use attentive::kernels::{Backend, Vector};
use attentive::tokenizer::ENCODE_SCRATCH_LEN;
use attentive::{
    Attention, Block, Model, Role, Sampler, SamplerOptions, Session, SessionOptions, Window,
};
use attentive_trainer::chat::{Chat, Conversation, Ending};
use attentive_trainer::import::blocks::Dtype;
use attentive_trainer::import::gguf::Gguf;
use attentive_trainer::import::import;
use attentive_trainer::produce::{INT4, INT8};
use common::gguf::{DIM, END, File, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, Meta, code, random_bytes};

mod common;

fn imported(file: &File) -> Vec<Block> {
    match import(
        &file.bytes(),
        "small.gguf",
        "attentive import small.gguf",
        None,
    ) {
        Ok(imported) => imported.file,
        Err(error) => panic!("{error:#}"),
    }
}

/// The error holds every word.
#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let Err(error) = import(bytes, "bad.gguf", "attentive import bad.gguf", None) else {
        panic!("it was imported; expected an error with {words:?}");
    };
    let text = format!("{error:#}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text:?}");
    }
}

fn row(model: &Model<'_>, role: Role, layer: Option<usize>, row: usize) -> Vec<f32> {
    let matrix = model.matrix(role, layer).expect("a matrix");
    let mut out = vec![0.0; matrix.cols()];
    dequantize_row(Backend::SCALAR, &matrix, row, &mut out).expect("a row");
    out
}

fn dequantized(dtype: Dtype, bytes: &[u8], len: usize) -> Vec<f32> {
    let mut out = vec![0.0; len];
    dtype.dequantize(bytes, &mut out);
    out
}

#[test]
fn every_type_keeps_its_numbers_and_runs() {
    for dtype in Dtype::ALL {
        let source = File::llama(dtype);
        let file = imported(&source);
        let model = Model::parse(Block::bytes(&file)).expect("a model");
        model.verify().expect("sound");
        let format = model.tensors().next().expect("the embedding").format;
        let want = match dtype {
            Dtype::F16 => WeightFormat::F16,
            Dtype::Q4_0 => WeightFormat::I4Group32,
            Dtype::Q4_1 => WeightFormat::U4Group32,
            Dtype::Q5_0 | Dtype::Q8_0 => WeightFormat::I8Group32,
            _ => WeightFormat::F32,
        };
        assert_eq!(format, want, "{dtype:?}");
        // Rows as they lie in the file: of the embedding, and behind each other's in the glued matrices.
        let places = [
            (Role::TokenEmbedding, None, 7, "token_embd", 7),
            (
                Role::QkvWeight,
                Some(0),
                DIM + 2 * KV_HEADS * HEAD_DIM - 1,
                "blk.0.attn_v",
                KV_HEADS * HEAD_DIM - 1,
            ),
            (Role::UpWeight, Some(0), 3, "blk.0.ffn_gate", 3),
            (Role::UpWeight, Some(0), HIDDEN + 3, "blk.0.ffn_up", 3),
        ];
        for (role, layer, place, name, at) in places {
            let name = format!("{name}.weight");
            let tensor = source.tensors.iter().find(|tensor| tensor.name == name);
            let bytes =
                &tensor.expect("a tensor").bytes[dtype.bytes(DIM) * at..][..dtype.bytes(DIM)];
            let want = dequantized(dtype, bytes, DIM);
            assert!(want.iter().any(|x| *x != 0.0) && want.iter().all(|x| x.abs() < 4.0));
            assert_eq!(row(&model, role, layer, place), want, "{dtype:?} {name}");
        }
        let options = SessionOptions::new(16);
        let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
        let memory = Block::bytes_mut(&mut memory);
        let mut session = Session::new(&model, &options, memory, Backend::detect()).expect("room");
        session.prompt("ab 1").expect("tokens");
        assert!(session.logits().iter().all(|x| x.is_finite()), "{dtype:?}");
        assert!(session.logits().iter().any(|x| *x != 0.0), "{dtype:?}");
    }
}

#[test]
fn rows_that_rotate_as_neighbours_become_halves() {
    let source = File::llama(Dtype::F32);
    let file = imported(&source);
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    for (name, first, heads) in [("attn_q", 0, 4), ("attn_k", DIM, KV_HEADS)] {
        let name = format!("blk.0.{name}.weight");
        let tensor = source.tensors.iter().find(|tensor| tensor.name == name);
        let values = dequantized(
            Dtype::F32,
            &tensor.expect("a tensor").bytes,
            heads * HEAD_DIM * DIM,
        );
        for head in 0..heads {
            for pair in 0..HEAD_DIM / 2 {
                for half in 0..2 {
                    let from = head * HEAD_DIM + 2 * pair + half;
                    let to = first + head * HEAD_DIM + half * HEAD_DIM / 2 + pair;
                    let want = &values[from * DIM..][..DIM];
                    assert_eq!(
                        row(&model, Role::QkvWeight, Some(0), to),
                        want,
                        "{name} {from}"
                    );
                }
            }
        }
    }
    let gain = model.vector(Role::FinalNormGain, None).expect("aligned");
    assert!(matches!(gain, Some(Vector::F32(gain)) if gain.len() == DIM));
}

#[test]
fn glued_parts_of_different_types_keep_their_numbers() {
    for (other, want) in [
        (Dtype::Q8_0, WeightFormat::I8Group32),
        (Dtype::Q6_K, WeightFormat::F32),
    ] {
        let mut source = File::llama(Dtype::Q4_0);
        let tensor = source.tensor("blk.0.attn_v.weight");
        tensor.code = code(other);
        tensor.bytes = random_bytes(other, KV_HEADS * HEAD_DIM * DIM, 99);
        let last = dequantized(other, &tensor.bytes[..other.bytes(DIM)], DIM);
        let file = imported(&source);
        let model = Model::parse(Block::bytes(&file)).expect("a model");
        let qkv = model
            .tensors()
            .find(|tensor| tensor.shape.role == Role::QkvWeight);
        assert_eq!(qkv.expect("there").format, want);
        let place = DIM + KV_HEADS * HEAD_DIM;
        assert_eq!(row(&model, Role::QkvWeight, Some(0), place), last);
    }
}

/// What a file says of windows, caps and sinks is what the model has.
#[test]
fn windows_caps_and_sinks_come_along() {
    let window = |len, full_every| {
        Some(Window {
            len,
            keep: 0,
            full_every,
        })
    };
    let (len, pattern) = (
        "llama.attention.sliding_window",
        "llama.attention.sliding_window_pattern",
    );
    for (metadata, want) in [
        (vec![], None),
        (vec![(len, Meta::U32(0))], None),
        (vec![(len, Meta::U32(96))], window(96, 0)),
        (
            vec![(len, Meta::U32(96)), (pattern, Meta::U32(0))],
            window(96, 0),
        ),
        (
            vec![(len, Meta::U32(96)), (pattern, Meta::U32(6))],
            window(96, 6),
        ),
        (vec![(len, Meta::U32(96)), (pattern, Meta::U32(1))], None),
    ] {
        let mut source = File::llama(Dtype::Q8_0);
        for (key, value) in metadata {
            source.set(key, value);
        }
        let file = imported(&source);
        let model = Model::parse(Block::bytes(&file)).expect("a model");
        let attention = Attention {
            window: want,
            ..Attention::PLAIN
        };
        assert_eq!(model.config().attention, attention);
    }
    for dtype in [Dtype::F32, Dtype::F16] {
        let mut source = File::llama(Dtype::Q8_0);
        source.set("llama.attn_logit_softcapping", Meta::F32(30.0));
        source.push("blk.0.attn_sinks", 0, HEADS, dtype);
        let file = imported(&source);
        let model = Model::parse(Block::bytes(&file)).expect("a model");
        assert_eq!(model.config().attention.soft_cap, Some(30.0));
        let sinks = model.vector(Role::AttnSinks, Some(0)).expect("aligned");
        let bytes = &source.tensor("blk.0.attn_sinks.weight").bytes;
        let want = dequantized(dtype, bytes, HEADS);
        assert!(matches!(sinks, Some(Vector::F32(sinks)) if sinks == want));
    }
    let mut source = File::llama(Dtype::Q8_0);
    source.set(len, Meta::U32(96));
    source.set(pattern, Meta::Kinds(vec![1, 0]));
    refused(&source.bytes(), &["sliding_window_pattern", "an integer"]);
    source.set(pattern, Meta::U32(257));
    refused(&source.bytes(), &["window_full_every", "257"]);
    let mut source = File::llama(Dtype::Q8_0);
    source.set("llama.attn_logit_softcapping", Meta::F32(f32::NAN));
    refused(&source.bytes(), &["soft_cap"]);
}

#[test]
fn an_output_of_its_own_and_other_formats() {
    let mut source = File::llama(Dtype::F32);
    source.push("output", 259, DIM, Dtype::F32);
    for (formats, matrices) in [(INT8, WeightFormat::I8Row), (INT4, WeightFormat::I4Group32)] {
        let made = import(
            &source.bytes(),
            "small.gguf",
            "attentive import",
            Some(formats),
        );
        let file = made.expect("imported").file;
        let model = Model::parse(Block::bytes(&file)).expect("a model");
        assert!(!model.config().tied);
        let formats: Vec<_> = model.tensors().map(|tensor| tensor.format).collect();
        assert!(
            formats.contains(&matrices) && !formats.contains(&WeightFormat::F32),
            "{formats:?}"
        );
    }
}

#[test]
fn tokens_and_record_come_along() {
    let file = imported(&File::llama(Dtype::Q8_0));
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let ids = model.tokenizer().encode("ab 12<|im_end|>", &mut scratch);
    let ids: Result<Vec<u32>, _> = ids.expect("a tokenizer").collect();
    assert_eq!(ids.expect("tokens"), [256, 32, 49, 50, END]);
    assert_eq!(model.config().end_of_text, Some(END));
    // It does not ask for one.
    assert_eq!(model.config().begin_of_text, None);
    for word in ["a small model", "small.gguf", "Q8_0", "[chat]"] {
        assert!(model.provenance().contains(word), "{}", model.provenance());
    }
}

#[test]
fn a_template_becomes_the_texts_between() {
    let file = imported(&File::llama(Dtype::Q8_0));
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    let chat = Chat::of(&model).expect("chat texts");
    assert_eq!(
        chat.before_first,
        "<|im_start|>system\nYou are helpful<|im_end|>\n<|im_start|>user\n"
    );
    assert_eq!(chat.before_answer, "<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(chat.before_next, "<|im_end|>\n<|im_start|>user\n");
    let opening = chat
        .opening(Some("Be brief."))
        .expect("it takes instructions");
    assert_eq!(
        opening,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
    );

    let of = |template: &str| Chat::from_template(template, "<s>", "</s>");
    let mistral = "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}\
                   {{ '[INST] ' + m['content'] + ' [/INST]' }}\
                   {% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% else %}\
                   {{ raise_exception('only users and assistants') }}{% endif %}{% endfor %}";
    let chat = of(mistral).expect("a chain");
    assert_eq!(chat.before_first, "<s>[INST] ");
    assert_eq!(chat.before_next, "</s>[INST] ");
    assert!(chat.opening(Some("Be brief.")).is_err());
    // Not a chain: the last question only, what was said in capitals, no end, nonsense.
    for bad in [
        "{{ messages[-1]['content'] }}!",
        "{% for m in messages %}{{ loop.index }}{{ m['content'] }}{% endfor %}",
        "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}.{% endfor %}{% endfor %}",
        "{% for",
    ] {
        assert!(of(bad).is_err(), "{bad}");
    }
    let mut source = File::llama(Dtype::Q8_0);
    source.set("tokenizer.chat_template", Meta::Text("{% for"));
    let made = import(&source.bytes(), "x", "x", None).expect("imported without");
    assert!(
        made.report
            .iter()
            .any(|line| line.contains("no conversations")),
        "{:?}",
        made.report
    );
    let model = Model::parse(Block::bytes(&made.file)).expect("a model");
    assert_eq!(Chat::of(&model), None);
}

#[test]
fn a_conversation_is_one_growing_text() {
    let file = imported(&File::llama(Dtype::Q8_0));
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    let chat = Chat::of(&model).expect("chat texts");
    let options = SessionOptions::new(128);
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    let memory = Block::bytes_mut(&mut memory);
    let mut session = Session::new(&model, &options, memory, Backend::detect()).expect("room");
    let mut conversation = Conversation::new(&mut session, &chat, None).expect("a beginning");
    let mut sampler = Sampler::new(SamplerOptions::GREEDY);
    let mut answers = Vec::new();
    let mut ask = |conversation: &mut Conversation<'_, '_>, question: &str| {
        let mut answer: Vec<u8> = Vec::new();
        let ending = conversation.ask(question, 5, &mut sampler, |piece| {
            answer.extend(piece);
            Ok(())
        });
        answers.push(answer);
        ending.expect("an answer")
    };
    let first = ask(&mut conversation, "a<|im_end|>b");
    assert_ne!(first, Ending::Full);
    let before = conversation.len();
    assert_ne!(ask(&mut conversation, "ab"), Ending::Full);
    assert!(conversation.len() > before);
    // 128 tokens have room for no third question of that length, and refusing it changes nothing.
    let before = conversation.len();
    assert_eq!(ask(&mut conversation, &"x".repeat(128)), Ending::Full);
    assert_eq!(conversation.len(), before);
    conversation.reset();
    assert!(conversation.is_empty());
    assert_ne!(ask(&mut conversation, "a<|im_end|>b"), Ending::Full);
    assert_eq!(answers[0], answers[3]);
    // What was typed is text: only the template's own marks are special, three before the question and two after it.
    conversation.reset();
    let ending = conversation.ask("a<|im_end|>b", 0, &mut sampler, |_| Ok(()));
    assert_eq!(ending.expect("no answer"), Ending::Length);
    let special = |id: &&u32| model.tokenizer().is_special(**id);
    assert_eq!(session.tokens().iter().filter(special).count(), 5);
    let pieces = session
        .tokens()
        .iter()
        .map(|id| model.tokenizer().piece(*id));
    let text: Vec<u8> = pieces.flatten().copied().collect();
    let want = format!("{}a<|im_end|>b{}", chat.before_first, chat.before_answer);
    assert_eq!(String::from_utf8_lossy(&text), want);
}

#[test]
fn damaged_files_are_refused() {
    let good = File::llama(Dtype::Q4_0).bytes();
    refused(b"", &["ends inside the magic"]);
    refused(b"ATTN0123456789abcdefghij", &["not a GGUF file", "ATTN"]);
    let with = |at: usize, bytes: &[u8]| {
        let mut copy = good.clone();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        copy
    };
    refused(&with(4, &1u32.to_le_bytes()), &["version 1"]);
    refused(
        &with(8, &u64::MAX.to_le_bytes()),
        &["number of tensors", "18446744073709551615"],
    );
    refused(&with(16, &(1u64 << 60).to_le_bytes()), &["metadata pairs"]);
    refused(
        &with(24, &u64::MAX.to_le_bytes()),
        &["ends inside a metadata key"],
    );
    refused(
        &good[..good.len() - 1],
        &["truncated", "output_norm.weight"],
    );
    // Wherever it is cut, an error; and no change of a byte in the tables makes it panic.
    for len in (0..good.len()).step_by(7) {
        assert!(Gguf::parse(&good[..len]).is_err(), "{len}");
    }
    let mut read = 0;
    for at in 0..20_000.min(good.len()) {
        for change in [0x01, 0x80, 0xff] {
            let mut copy = good.clone();
            copy[at] ^= change;
            if let Ok(gguf) = Gguf::parse(&copy) {
                read += gguf.tensors().count().min(1);
            }
            if at % 97 == 0 {
                let _ = import(&copy, "x", "x", None);
            }
        }
    }
    assert!(
        read > 1000,
        "{read} of the changed files could be read: too few to say anything"
    );
}

#[test]
fn what_is_missing_or_unknown_is_named() {
    let changed = |change: &dyn Fn(&mut File)| {
        let mut file = File::llama(Dtype::Q4_0);
        change(&mut file);
        file.bytes()
    };
    let without = |name: &'static str| {
        changed(&move |file: &mut File| file.tensors.retain(|tensor| tensor.name != name))
    };
    refused(
        &without("blk.0.attn_k.weight"),
        &["blk.0.attn_k.weight is missing", "128 × 256"],
    );
    refused(
        &without("output_norm.weight"),
        &["output_norm.weight is missing"],
    );
    refused(
        &changed(&|file| file.tensor("blk.0.ffn_up.weight").dims = vec![128, 512]),
        &["blk.0.ffn_up.weight", "512 × 128", "expected 256 × 256"],
    );
    refused(
        &changed(&|file| file.tensor("blk.0.ffn_up.weight").dims = vec![100, 256]),
        &["blk.0.ffn_up.weight", "100", "Q4_0 blocks of 32"],
    );
    refused(
        &changed(&|file| file.tensor("blk.0.ffn_up.weight").dims = vec![1 << 40, 1 << 40]),
        &["blk.0.ffn_up.weight", "impossible shape"],
    );
    refused(
        &changed(&|file| file.tensor("blk.0.ffn_up.weight").dims.clear()),
        &["0 dimensions"],
    );
    refused(
        &changed(&|file| file.tensor("blk.0.ffn_up.weight").code = 10),
        &["blk.0.ffn_up.weight", "Q2_K", "supported", "Q4_0"],
    );
    refused(
        &changed(&|file| file.tensor("blk.0.ffn_up.weight").code = 77),
        &["code 77"],
    );
    refused(
        &changed(&|file| {
            let tensor = file.tensor("blk.0.attn_norm.weight");
            tensor.code = 2;
            tensor.bytes.truncate(Dtype::Q4_0.bytes(DIM));
        }),
        &["blk.0.attn_norm.weight", "Q4_0", "expected a float"],
    );
    refused(
        &changed(&|file| file.push("blk.0.attn_q_norm", 0, HEAD_DIM, Dtype::F32)),
        &["blk.0.attn_q_norm.weight", "no place"],
    );
    refused(
        &changed(&|file| file.push("token_embd", 259, DIM, Dtype::F32)),
        &["token_embd.weight twice"],
    );
    let set = |key: &'static str, value: fn() -> Meta| changed(&move |file| file.set(key, value()));
    refused(
        &set("general.architecture", || Meta::Text("gemma2")),
        &["gemma2", "llama"],
    );
    refused(
        &set("llama.block_count", || Meta::Text("one")),
        &["llama.block_count", "integer", "a text"],
    );
    refused(
        &set("llama.block_count", || Meta::U32(2)),
        &["blk.1.attn_norm.weight is missing"],
    );
    refused(
        &set("llama.block_count", || Meta::U32(9999)),
        &["layers is 9999"],
    );
    refused(
        &set("llama.attention.head_count", || Meta::U32(0)),
        &["head_count is 0"],
    );
    refused(
        &set("llama.rope.dimension_count", || Meta::U32(32)),
        &["dimension_count is 32", "64"],
    );
    refused(
        &set("llama.rope.scaling.type", || Meta::Text("yarn")),
        &["rope.scaling.type", "yarn"],
    );
    refused(
        &set("llama.expert_count", || Meta::U32(8)),
        &["expert_count", "experts"],
    );
    refused(
        &set("llama.logit_scale", || Meta::F32(2.0)),
        &["llama.logit_scale"],
    );
    refused(
        &set("general.alignment", || Meta::U32(24)),
        &["general.alignment"],
    );
    refused(
        &set("tokenizer.ggml.model", || Meta::Text("llama")),
        &["tokenizer.ggml.model", "gpt2"],
    );
    refused(
        &set("tokenizer.ggml.pre", || Meta::Text("tekken")),
        &["tekken", "smollm"],
    );
    refused(
        &set("tokenizer.ggml.merges", || {
            Meta::Texts(vec!["a zz".to_owned()])
        }),
        &["merge 0", "zz"],
    );
    refused(
        &set("tokenizer.ggml.token_type", || Meta::Kinds(vec![1, 2])),
        &["token_type", "259"],
    );
    refused(
        &set("tokenizer.ggml.tokens", || {
            Meta::Texts(vec!["one two".to_owned(); 259])
        }),
        &["token 0", "alphabet"],
    );
    assert!(
        import(
            &set("llama.rope.scaling.type", || Meta::Text("none")),
            "x",
            "x",
            None
        )
        .is_ok()
    );
}

/// The scale of a Q4_0 block that is no number.
#[test]
fn numbers_that_are_none_are_refused() {
    let mut file = File::llama(Dtype::Q4_0);
    file.tensor("blk.0.ffn_up.weight").bytes[..2].copy_from_slice(&0x7e00u16.to_le_bytes());
    refused(&file.bytes(), &["UpWeight"]);
}
