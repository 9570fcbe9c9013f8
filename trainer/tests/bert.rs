//! BERT's directories: a tiny one against f64, broken ones, and all-MiniLM-L6-v2 against PyTorch.
//!
//! ```text
//! ATTENTIVE_MINILM=DIRECTORY cargo test --profile trainer -p attentive-trainer --test bert
//! ```
//! The directory holds the published model: `config.json`, `model.safetensors`, `tokenizer.json`, `modules.json` and
//! `1_Pooling/config.json`. `reference/minilm.py` made what is beside it.

mod common;

use attentive::kernels::Backend;
use attentive::kernels::layout::WeightFormat;
use attentive::{Block, Encoder, EncoderOptions, Model};
use attentive_trainer::import::{bert, onnx};
use attentive_trainer::package::Formats;
use attentive_trainer::random::Random;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;

const DIM: usize = 16;
const HEADS: usize = 2;
const HIDDEN: usize = 24;
const WORDS: [&str; 9] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "house", "##s", "burns",
];
const CONFIG: &str = r#"{
    "model_type": "bert", "vocab_size": 9, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 12, "type_vocab_size": 2, "hidden_act": "gelu",
    "layer_norm_eps": 1e-12
}"#;

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn tensors() -> Tensors {
    let layer = "encoder.layer.0.";
    let embeddings = "embeddings.";
    let linear = |name: &str, rows, cols| {
        vec![
            (format!("{layer}{name}.weight"), vec![rows, cols]),
            (format!("{layer}{name}.bias"), vec![rows]),
        ]
    };
    let norm = |name: String| {
        vec![
            (format!("{name}.weight"), vec![DIM]),
            (format!("{name}.bias"), vec![DIM]),
        ]
    };
    let table = |name: &str, rows| vec![(format!("{embeddings}{name}.weight"), vec![rows, DIM])];
    let shapes = [
        table("word_embeddings", WORDS.len()),
        table("position_embeddings", 12),
        table("token_type_embeddings", 2),
        norm(format!("{embeddings}LayerNorm")),
        linear("attention.self.query", DIM, DIM),
        linear("attention.self.key", DIM, DIM),
        linear("attention.self.value", DIM, DIM),
        linear("attention.output.dense", DIM, DIM),
        norm(format!("{layer}attention.output.LayerNorm")),
        linear("intermediate.dense", HIDDEN, DIM),
        linear("output.dense", DIM, HIDDEN),
        norm(format!("{layer}output.LayerNorm")),
    ];
    let mut random = Random::new(7);
    let mut draw = || random.below(2001) as f32 / 1000.0 - 1.0;
    shapes
        .into_iter()
        .flatten()
        .map(|(name, shape)| {
            let values = (0..shape.iter().product()).map(|_| draw()).collect();
            (name, (shape, values))
        })
        .collect()
}

/// A directory of sentence-transformers with these tensors.
fn write(directory: &Path, config: &str, tensors: &Tensors) {
    let bytes: BTreeMap<&String, Vec<u8>> = tensors
        .iter()
        .map(|(name, (_, values))| (name, values.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views = tensors.iter().map(|(name, (shape, _))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).expect("a tensor");
        (name.clone(), view)
    });
    let file = safetensors::serialize(views, None).expect("a file");
    let text = |path: &str, text: &str| {
        std::fs::write(directory.join(path), text).expect("written");
    };
    std::fs::write(directory.join("model.safetensors"), file).expect("written");
    text("config.json", config);
    text("vocab.txt", &WORDS.join("\n"));
    text(
        "modules.json",
        r#"[{"type": "sentence_transformers.models.Transformer", "path": ""},
            {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
            {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"}]"#,
    );
    std::fs::create_dir_all(directory.join("1_Pooling")).expect("a directory");
    text(
        "1_Pooling/config.json",
        r#"{"word_embedding_dimension": 16, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#,
    );
}

/// The mean of the tokens' vectors, of unit length.
fn oracle(tensors: &Tensors, ids: &[usize]) -> Vec<f64> {
    let x = hidden(tensors, ids, &vec![0; ids.len()]);
    let mean: Vec<f64> = (0..DIM)
        .map(|i| x.iter().skip(i).step_by(DIM).sum::<f64>())
        .collect();
    let length = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
    mean.iter().map(|x| x / length).collect()
}

/// The vectors of tokens, from the definition.
fn hidden(tensors: &Tensors, ids: &[usize], kinds: &[usize]) -> Vec<f64> {
    let get = |name: &str| -> Vec<f64> {
        let (_, values) = &tensors[name];
        values.iter().map(|x| f64::from(*x)).collect()
    };
    let norm = |x: &mut [f64], name: &str| {
        let (gain, bias) = (get(&format!("{name}.weight")), get(&format!("{name}.bias")));
        for row in x.chunks_mut(DIM) {
            let mean = row.iter().sum::<f64>() / DIM as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / DIM as f64;
            for (i, x) in row.iter_mut().enumerate() {
                *x = (*x - mean) / (variance + 1e-12).sqrt() * gain[i] + bias[i];
            }
        }
    };
    let linear = |x: &[f64], cols: usize, name: &str| -> Vec<f64> {
        let name = format!("encoder.layer.0.{name}");
        let (weight, bias) = (get(&format!("{name}.weight")), get(&format!("{name}.bias")));
        let row = |x: &[f64]| -> Vec<f64> {
            let dot = |w: &[f64]| -> f64 { w.iter().zip(x).map(|(w, x)| w * x).sum() };
            let products = weight.chunks(cols).map(dot);
            products.zip(&bias).map(|(y, b)| y + b).collect()
        };
        x.chunks(cols).flat_map(row).collect()
    };
    let (words, places) = (
        get("embeddings.word_embeddings.weight"),
        get("embeddings.position_embeddings.weight"),
    );
    let types = get("embeddings.token_type_embeddings.weight");
    let mut x: Vec<f64> = ids
        .iter()
        .enumerate()
        .flat_map(|(at, id)| (0..DIM).map(move |i| (at, *id, i)))
        .map(|(at, id, i)| words[id * DIM + i] + places[at * DIM + i] + types[kinds[at] * DIM + i])
        .collect();
    norm(&mut x, "embeddings.LayerNorm");
    let [q, k, v] =
        ["query", "key", "value"].map(|part| linear(&x, DIM, &format!("attention.self.{part}")));
    let width = DIM / HEADS;
    let mut seen = vec![0.0; x.len()];
    for head in 0..HEADS {
        let at = |token: usize, i: usize| token * DIM + head * width + i;
        for token in 0..ids.len() {
            let score = |key: usize| {
                let dot: f64 = (0..width).map(|i| q[at(token, i)] * k[at(key, i)]).sum();
                (dot / (width as f64).sqrt()).exp()
            };
            let scores: Vec<f64> = (0..ids.len()).map(score).collect();
            let sum: f64 = scores.iter().sum();
            for (key, score) in scores.iter().enumerate() {
                for i in 0..width {
                    seen[at(token, i)] += score / sum * v[at(key, i)];
                }
            }
        }
    }
    let add = |x: &mut [f64], y: Vec<f64>| x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    add(&mut x, linear(&seen, DIM, "attention.output.dense"));
    norm(&mut x, "encoder.layer.0.attention.output.LayerNorm");
    let mut inner = linear(&x, DIM, "intermediate.dense");
    let gelu = |x: f64| x * 0.5 * (1.0 + libm::erf(x / std::f64::consts::SQRT_2));
    inner.iter_mut().for_each(|x| *x = gelu(*x));
    add(&mut x, linear(&inner, HIDDEN, "output.dense"));
    norm(&mut x, "encoder.layer.0.output.LayerNorm");
    x
}

/// Vectors of texts.
fn embed(file: &[Block], len: usize, texts: &[&str]) -> Vec<Vec<f32>> {
    let model = Model::parse(Block::bytes(file)).expect("a model");
    let options = EncoderOptions::new(len);
    let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
    let memory = Block::bytes_mut(&mut memory);
    let mut encoder =
        Encoder::new(&model, &options, memory, Backend::detect()).expect("an encoder");
    let mut embed = |text: &&str| {
        encoder.run_text(text, None).expect("a run");
        encoder.embedding().expect("a vector").to_vec()
    };
    texts.iter().map(&mut embed).collect()
}

#[test]
fn a_directory_equals_the_oracle() {
    let directory = common::directory("bert");
    let mut tensors = tensors();
    write(&directory, CONFIG, &tensors);
    let import = |directory: &Path| {
        bert::import(directory, "tiny", "a test", Formats::F32, None).expect("a model")
    };
    let texts = ["The houses", "the house burns houses"];
    let plain = embed(&import(&directory), 12, &texts);
    let tokens: [&[usize]; 2] = [&[2, 5, 6, 7, 3], &[2, 5, 6, 8, 6, 7, 3]];
    for (vector, ids) in plain.iter().zip(tokens) {
        for (have, need) in vector.iter().zip(oracle(&tensors, ids)) {
            assert!((f64::from(*have) - need).abs() < 1e-5, "{have} for {need}");
        }
    }
    // Models with a head have the same encoder under a longer name.
    tensors = tensors
        .into_iter()
        .map(|(name, tensor)| (format!("bert.{name}"), tensor))
        .collect();
    write(&directory, CONFIG, &tensors);
    assert_eq!(embed(&import(&directory), 12, &texts), plain);
    // Sentence-transformers' own limit: fewer positions, the same vectors.
    let limit = directory.join("sentence_bert_config.json");
    std::fs::write(&limit, r#"{"max_seq_length": 7, "do_lower_case": false}"#).expect("written");
    let shorter = import(&directory);
    let model = Model::parse(Block::bytes(&shorter)).expect("a model");
    assert_eq!(model.config().context_len, 7);
    assert_eq!(embed(&shorter, 7, &texts), plain);
    // Whoever wants more asks for it.
    let wanted = |context| bert::import(&directory, "tiny", "a test", Formats::F32, Some(context));
    let longer = wanted(11).expect("a model");
    let model = Model::parse(Block::bytes(&longer)).expect("a model");
    assert_eq!(model.config().context_len, 11);
    let error = format!("{:#}", wanted(13).expect_err("refused"));
    assert!(
        error.contains("--context") && error.contains("12"),
        "{error}"
    );
    std::fs::write(&limit, r#"{"max_seq_length": "long"}"#).expect("written");
    let error = bert::import(&directory, "tiny", "a test", Formats::F32, None).err();
    let error = format!("{:#}", error.expect("refused"));
    assert!(error.contains("sentence_bert_config.json"), "{error}");
    std::fs::remove_file(&limit).expect("it was there");
}

/// A message of protocol buffers, field by field.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 128 {
            self.0.push(value as u8 | 128);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn texts(self, field: u64, texts: &[&str]) -> Self {
        texts
            .iter()
            .fold(self, |this, text| this.bytes(field, text.as_bytes()))
    }
}

fn onnx_tensor(name: &str, dims: &[usize], kind: u64, raw: &[u8]) -> Vec<u8> {
    let message = dims.iter().fold(Message::default(), |message, dim| {
        message.number(1, *dim as u64)
    });
    message.number(2, kind).texts(8, &[name]).bytes(9, raw).0
}

fn onnx_node(op: &str, inputs: &[&str], output: &str) -> Message {
    Message::default()
        .texts(1, inputs)
        .texts(2, &[output])
        .texts(4, &[op])
}

fn onnx_constant(output: &str, kind: u64, raw: &[u8]) -> Vec<u8> {
    let tensor = onnx_tensor("", &[], kind, raw);
    let attribute = Message::default().texts(1, &["value"]).bytes(5, &tensor);
    onnx_node("Constant", &[], output).bytes(5, &attribute.0).0
}

/// As PyTorch exports: matrices lose their names and lie across; `ops` are made besides.
fn onnx(tensors: &Tensors, ops: &[&str]) -> Vec<u8> {
    let mut graph = Message::default();
    for (number, (name, (shape, values))) in tensors.iter().enumerate() {
        let stays = !name.starts_with("encoder") || name.ends_with("bias") || name.contains("Norm");
        let full = format!("model.0.auto_model.{name}");
        let raw = |values: &mut dyn Iterator<Item = f32>| -> Vec<u8> {
            values.flat_map(f32::to_le_bytes).collect()
        };
        let tensor = if stays {
            onnx_tensor(&full, shape, 1, &raw(&mut values.iter().copied()))
        } else {
            let (rows, cols) = (shape[0], shape[1]);
            let across = (0..cols).flat_map(|col| (0..rows).map(move |row| (row, col)));
            let mut across = across.map(|(row, col)| values[row * cols + col]);
            let matrix = format!("onnx::MatMul_{number}");
            let (product, sum) = (format!("product{number}"), format!("sum{number}"));
            let bias = full.replace(".weight", ".bias");
            graph = graph
                .bytes(1, &onnx_node("MatMul", &["x", &matrix], &product).0)
                .bytes(1, &onnx_node("Add", &[&bias, &product], &sum).0);
            onnx_tensor(&matrix, &[cols, rows], 1, &raw(&mut across))
        };
        graph = graph.bytes(5, &tensor);
    }
    let whole = |number: usize| (number as i64).to_le_bytes();
    graph = graph
        .bytes(1, &onnx_constant("heads", 7, &whole(HEADS)))
        .bytes(1, &onnx_constant("width", 7, &whole(DIM / HEADS)))
        .bytes(
            1,
            &onnx_node("Concat", &["n", "len", "heads", "width"], "shape").0,
        )
        .bytes(1, &onnx_constant("epsilon", 1, &1e-12f32.to_le_bytes()))
        .bytes(1, &onnx_node("Add", &["variance", "epsilon"], "above").0)
        .bytes(1, &onnx_node("Sqrt", &["above"], "deviation").0);
    for op in ops {
        graph = graph.bytes(1, &onnx_node(op, &["x"], op).0);
    }
    Message::default().number(1, 8).bytes(7, &graph.0).0
}

/// The same vectors from ONNX, and every truncation refused.
#[test]
fn an_onnx_file_equals_the_oracle() {
    let directory = common::directory("bert-onnx");
    let tensors = tensors();
    let path = directory.join("tiny.onnx");
    std::fs::write(directory.join("vocab.txt"), WORDS.join("\n")).expect("written");
    let pools = ["Erf", "ReduceSum", "Clip", "ReduceL2"];
    let whole = onnx(&tensors, &pools);
    std::fs::write(&path, &whole).expect("written");
    let import = || onnx::import(&path, "tiny", "a test", Formats::F32, None);
    let file = import().expect("a model");
    let texts = ["The houses", "the house burns houses"];
    let tokens: [&[usize]; 2] = [&[2, 5, 6, 7, 3], &[2, 5, 6, 8, 6, 7, 3]];
    for (vector, ids) in embed(&file, 12, &texts).iter().zip(tokens) {
        for (have, need) in vector.iter().zip(oracle(&tensors, ids)) {
            assert!((f64::from(*have) - need).abs() < 1e-5, "{have} for {need}");
        }
    }
    for len in (0..whole.len()).step_by(7) {
        std::fs::write(&path, &whole[..len]).expect("written");
        assert!(import().is_err(), "{len} of {}", whole.len());
    }
    let refused = |tensors: &Tensors, ops: &[&str], words: &[&str]| {
        std::fs::write(&path, onnx(tensors, ops)).expect("written");
        let error = format!("{:#}", import().expect_err("refused"));
        for word in words {
            assert!(error.contains(word), "{error}");
        }
    };
    refused(&tensors, &pools[1..], &["activation"]);
    let without = |name: &str| {
        let mut tensors = tensors.clone();
        assert!(tensors.remove(name).is_some());
        tensors
    };
    let key = "encoder.layer.0.attention.self.key";
    let fewer = without(&format!("{key}.weight"));
    refused(&fewer, &pools, &[&format!("{key}.weight is missing")]);
    let fewer = without("embeddings.word_embeddings.weight");
    refused(&fewer, &pools, &["word_embeddings"]);
}

/// Adds a linear map with made-up numbers.
fn with_linear(tensors: &mut Tensors, name: &str, rows: usize) {
    let mut random = Random::new(rows as u64 + 40);
    let mut draw = |len: usize| -> Vec<f32> {
        (0..len)
            .map(|_| random.below(2001) as f32 / 1000.0 - 1.0)
            .collect()
    };
    tensors.insert(
        format!("{name}.weight"),
        (vec![rows, DIM], draw(rows * DIM)),
    );
    tensors.insert(format!("{name}.bias"), (vec![rows], draw(rows)));
}

/// That map of one vector.
fn linear(tensors: &Tensors, name: &str, x: &[f64]) -> Vec<f64> {
    let (_, weight) = &tensors[&format!("{name}.weight")];
    let (_, bias) = &tensors[&format!("{name}.bias")];
    let dot = |w: &[f32]| -> f64 { w.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum() };
    let rows = weight.chunks(DIM).zip(bias);
    rows.map(|(w, b)| dot(w) + f64::from(*b)).collect()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|x| x.exp()).sum();
    logits.iter().map(|x| x.exp() / sum).collect()
}

/// A head's directory: the encoder under its long name, no modules.
fn write_head(directory: &Path, kind: &str, tensors: &Tensors) {
    let head = format!(
        r#""architectures": ["{kind}"], "id2label": {{"0": "no", "1": "yes", "2": "maybe"}}, "#
    );
    write(
        directory,
        &CONFIG.replace("\"model_type\"", &format!("{head}\"model_type\"")),
        tensors,
    );
    std::fs::remove_file(directory.join("modules.json")).expect("it was there");
}

#[test]
fn heads_equal_the_oracle() {
    let directory = common::directory("bert-heads");
    let mut tensors: Tensors = tensors()
        .into_iter()
        .map(|(name, tensor)| (format!("bert.{name}"), tensor))
        .collect();
    with_linear(&mut tensors, "bert.pooler.dense", DIM);
    let plain: Tensors = tensors
        .iter()
        .map(|(name, tensor)| (name.trim_start_matches("bert.").to_owned(), tensor.clone()))
        .collect();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_attentive"))
            .current_dir(&directory)
            .args(args)
            .output()
            .expect("it starts");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let json = |args: &[&str]| -> serde_json::Value {
        let (status, out, error) = run(args);
        assert_eq!(status, Some(0), "{args:?}: {error}");
        serde_json::from_str(&out).expect("JSON")
    };
    let near = |have: &serde_json::Value, need: f64| {
        let have = have.as_f64().expect("a number");
        assert!((have - need).abs() < 1e-4, "{have} for {need}");
    };
    let names = ["no", "yes", "maybe"];
    let best = |logits: &[f64]| {
        (0..logits.len())
            .max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
            .expect("one")
    };

    // Classes, of a pair: [CLS] the house [SEP] burns [SEP].
    with_linear(&mut tensors, "classifier", 3);
    write_head(&directory, "BertForSequenceClassification", &tensors);
    assert_eq!(run(&["import", ".", "--out", "classes.attn"]).0, Some(0));
    let got = json(&[
        "classify",
        "classes.attn",
        "--text",
        "the house",
        "--second",
        "burns",
    ]);
    let x = hidden(&plain, &[2, 5, 6, 3, 8, 3], &[0, 0, 0, 0, 1, 1]);
    let pooled: Vec<f64> = linear(&tensors, "bert.pooler.dense", &x[..DIM])
        .iter()
        .map(|x| x.tanh())
        .collect();
    let logits = linear(&tensors, "classifier", &pooled);
    assert_eq!(got["label"], names[best(&logits)]);
    for (name, share) in names.iter().zip(softmax(&logits)) {
        near(&got["probabilities"][name], share);
    }
    let several = run(&[
        "classify",
        "classes.attn",
        "--text",
        "the",
        "--text",
        "house",
    ]);
    assert_eq!(several.1.lines().count(), 2);

    // Tags of each token.
    write_head(&directory, "BertForTokenClassification", &tensors);
    assert_eq!(run(&["import", ".", "--out", "tags.attn"]).0, Some(0));
    let got = json(&["classify", "tags.attn", "--text", "the houses"]);
    let x = hidden(&plain, &[2, 5, 6, 7, 3], &[0; 5]);
    for (tag, (token, x)) in got["tags"].as_array().expect("tags").iter().zip(
        ["[CLS]", "the", "house", "##s", "[SEP]"]
            .iter()
            .zip(x.chunks(DIM)),
    ) {
        let logits = linear(&tensors, "classifier", x);
        assert_eq!(
            (&tag["token"], &tag["tag"]),
            (&(*token).into(), &names[best(&logits)].into())
        );
        near(&tag["probability"], softmax(&logits)[best(&logits)]);
    }

    // Answers: [CLS] burns [SEP] the house house [SEP].
    with_linear(&mut tensors, "qa_outputs", 2);
    write_head(&directory, "BertForQuestionAnswering", &tensors);
    assert_eq!(run(&["import", ".", "--out", "spans.attn"]).0, Some(0));
    let ids = [2, 8, 3, 5, 6, 6, 3];
    let x = hidden(&plain, &ids, &[0, 0, 0, 1, 1, 1, 1]);
    let logits: Vec<Vec<f64>> = x
        .chunks(DIM)
        .map(|x| linear(&tensors, "qa_outputs", x))
        .collect();
    for most in [1, 2, 30] {
        let spans =
            (3..6).flat_map(|first| (first..6.min(first + most)).map(move |last| (first, last)));
        let score = |(first, last): (usize, usize)| logits[first][0] + logits[last][1];
        let span = spans
            .max_by(|a, b| score(*a).total_cmp(&score(*b)))
            .expect("one");
        let most = most.to_string();
        let got = json(&[
            "answer",
            "spans.attn",
            "--question",
            "burns",
            "--passage",
            "the house house",
            "--tokens",
            &most,
            "--json",
        ]);
        near(&got["score"], score(span));
        assert_eq!(
            (&got["first"], &got["last"]),
            (&(span.0 - 3).into(), &(span.1 - 3).into())
        );
    }
    let refused = |args: &[&str], word: &str| {
        let (status, out, error) = run(args);
        assert_eq!((status, out.as_str()), (Some(2), ""), "{args:?}: {error}");
        assert!(error.contains(word), "{args:?}: no {word:?} in {error}");
    };
    refused(
        &["classify", "spans.attn", "--text", "the"],
        "neither classes nor tags",
    );
    refused(&["classify", "classes.attn"], "--text");
    refused(&["classify", "classes.attn", "--text", " "], "empty");
    refused(
        &["classify", "classes.attn", "--text", &"the ".repeat(20)],
        "tokens",
    );
    refused(
        &[
            "answer",
            "classes.attn",
            "--question",
            "x",
            "--passage",
            "y",
        ],
        "finds no answers",
    );
    refused(
        &["answer", "spans.attn", "--question", " ", "--passage", "y"],
        "question is empty",
    );
    refused(
        &["answer", "spans.attn", "--question", "the", "--passage", ""],
        "passage is empty",
    );
    refused(
        &[
            "answer",
            "spans.attn",
            "--question",
            &"the ".repeat(20),
            "--passage",
            "the",
        ],
        "shorten",
    );
    // A passage is read in windows.
    let long = "the ".repeat(20);
    let (status, out, error) = run(&[
        "answer",
        "spans.attn",
        "--question",
        "the",
        "--passage",
        &long,
    ]);
    assert!(status == Some(0) && out.starts_with("the"), "{error}");
    refused(&["embed", "spans.attn", "--text", "the"], "embedding");
    let decoder = common::root().join("models/austen-1m-int8.attn");
    let decoder = decoder.to_str().expect("a path in UTF-8");
    refused(&["classify", decoder, "--text", "the"], "is a decoder");
    refused(
        &["answer", decoder, "--question", "x", "--passage", "y"],
        "is a decoder",
    );
    // A head that is missing.
    tensors.remove("qa_outputs.bias");
    write_head(&directory, "BertForQuestionAnswering", &tensors);
    refused(
        &["import", ".", "--out", "none.attn"],
        "qa_outputs.bias is missing",
    );
}

#[test]
fn broken_directories_are_refused() {
    let directory = common::directory("broken-bert");
    let good = tensors();
    let refused = |words: &[&str]| {
        let out = directory.join("out.attn");
        let output = Command::new(env!("CARGO_BIN_EXE_attentive"))
            .args(["import", "--out"])
            .args([&out, &directory])
            .output()
            .expect("it starts");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        for word in words {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
        assert!(!out.exists(), "a file was written: {text}");
    };
    write(&directory, &CONFIG.replace("\"bert\"", "\"gptj\""), &good);
    refused(&["gptj", "bert"]);
    write(&directory, &CONFIG.replace("gelu", "swiglu"), &good);
    refused(&["swiglu", "gelu_new"]);
    write(
        &directory,
        &CONFIG.replace("\"vocab_size\": 9", "\"vocab_size\": 8"),
        &good,
    );
    refused(&["9", "8"]);
    let name = "encoder.layer.0.intermediate.dense.weight";
    let mut tensors = good.clone();
    tensors.remove(name);
    write(&directory, CONFIG, &tensors);
    refused(&[name, "missing", "[24, 16]"]);
    tensors.insert(name.to_owned(), (vec![16, 24], vec![0.0; 16 * 24]));
    write(&directory, CONFIG, &tensors);
    refused(&[name, "[16, 24]", "[24, 16]"]);
    write(&directory, CONFIG, &good);
    let path = directory.join("model.safetensors");
    let whole = std::fs::read(&path).expect("a file");
    std::fs::write(&path, &whole[..whole.len() - 5]).expect("written");
    refused(&["model.safetensors", "truncated"]);
    std::fs::write(&path, &whole).expect("written");
    std::fs::remove_file(directory.join("vocab.txt")).expect("it was there");
    refused(&["vocab.txt", "tokenizer.json"]);
}

#[test]
fn commands_know_the_family() {
    let directory = common::directory("bert-commands");
    write(&directory, CONFIG, &tensors());
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_attentive"))
            .current_dir(&directory)
            .args(args)
            .output()
            .expect("it starts");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        (output.status.code(), out, error)
    };
    assert_eq!(run(&["import", ".", "--out", "tiny.attn"]).0, Some(0));
    for args in [
        &["generate", "tiny.attn", "--prompt", "the house"][..],
        &["eval", "tiny.attn", "--text", "vocab.txt"],
    ] {
        let (status, _, error) = run(args);
        assert!(
            status == Some(2) && error.contains("is an encoder"),
            "{args:?}: {error}"
        );
    }
    let decoder = common::root().join("models/austen-1m-int8.attn");
    let decoder = decoder.to_str().expect("a path in UTF-8");
    let (status, _, error) = run(&["embed", decoder, "--text", "the house"]);
    assert!(
        status == Some(2) && error.contains("is a decoder"),
        "{error}"
    );
    let (status, out, error) = run(&[
        "embed",
        "tiny.attn",
        "--text",
        "the house",
        "--text",
        "burns",
    ]);
    assert_eq!(status, Some(0), "{error}");
    let vectors: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(vectors.len(), 2);
    assert_eq!(vectors[0]["tokens"], 4);
    assert_eq!(vectors[0]["embedding"].as_array().map(Vec::len), Some(DIM));
    let (_, out, _) = run(&[
        "embed",
        "tiny.attn",
        "--similar",
        "--text",
        "the",
        "--text",
        "the",
    ]);
    let pair: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert!((pair["cosine"].as_f64().expect("a number") - 1.0).abs() < 1e-6);
    for (args, word) in [
        (&["embed", "tiny.attn"][..], "--text"),
        (&["embed", "tiny.attn", "--text", " "], "empty"),
        (&["embed", "tiny.attn", "--similar", "--text", "the"], "two"),
        (
            &[
                "embed",
                "tiny.attn",
                "--text",
                "the the the the the the the the the the the",
            ],
            "the text",
        ),
    ] {
        let (status, out, error) = run(args);
        assert_eq!((status, out.as_str()), (Some(2), ""), "{args:?}: {error}");
        assert!(error.contains(word), "{args:?}: {error}");
    }
}

#[test]
fn minilm_is_pytorchs() {
    let Some(path) = std::env::var_os("ATTENTIVE_MINILM") else {
        // Not captured, so that a run without the model says so.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: set ATTENTIVE_MINILM to the directory of all-MiniLM-L6-v2 to compare with PyTorch"
        );
        return;
    };
    let reference: Vec<Vec<&str>> = include_str!("reference/minilm.tsv")
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let texts: Vec<&str> = reference.iter().map(|fields| fields[0]).collect();
    let numbers = |field: &str| -> Vec<f64> {
        let numbers = field.split_whitespace().map(str::parse);
        numbers.collect::<Result<_, _>>().expect("numbers")
    };
    let groups = Formats {
        matrices: WeightFormat::I8Group32,
        embedding: WeightFormat::I8Group32,
        vectors: WeightFormat::F32,
    };
    for (formats, bound) in [(Formats::F32, 1e-5), (groups, 2e-2)] {
        let file =
            bert::import(Path::new(&path), "minilm", "a test", formats, None).expect("a model");
        let context_len = |model: Model<'_>| model.config().context_len;
        let len = Model::parse(Block::bytes(&file)).map(context_len);
        let vectors = embed(&file, len.expect("a model"), &texts);
        for (index, fields) in reference.iter().enumerate() {
            for (have, need) in vectors[index].iter().zip(numbers(fields[1])) {
                assert!(
                    (f64::from(*have) - need).abs() < bound,
                    "{:?}: {have}",
                    texts[index]
                );
            }
            let cosines = vectors[..index].iter().map(|other| -> f64 {
                let products = other.iter().zip(&vectors[index]);
                products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            });
            for (have, need) in cosines.zip(numbers(fields[2])) {
                assert!(
                    (have - need).abs() < bound,
                    "{:?}: {have} for {need}",
                    texts[index]
                );
            }
        }
    }
}

/// ```text
/// ATTENTIVE_MINILM_L3=FILE.onnx cargo test --profile trainer -p attentive-trainer --test bert
/// ```
#[test]
fn minilm_l3_is_onnx_runtimes() {
    let Some(path) = std::env::var_os("ATTENTIVE_MINILM_L3") else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: set ATTENTIVE_MINILM_L3 to paraphrase-MiniLM-L3-v2's ONNX file to compare with ONNX Runtime"
        );
        return;
    };
    let reference = include_str!("reference/minilm_l3.tsv").lines();
    let reference: Vec<(&str, &str)> = reference
        .map(|line| line.split_once('\t').expect("a text and a vector"))
        .collect();
    let texts: Vec<&str> = reference.iter().map(|(text, _)| *text).collect();
    let file = onnx::import(Path::new(&path), "l3", "a test", Formats::F32, None).expect("a model");
    let vectors = embed(&file, 512, &texts);
    for (vector, (text, numbers)) in vectors.iter().zip(&reference) {
        let numbers = numbers.split_whitespace().map(|x| x.parse::<f64>());
        for (have, need) in vector.iter().zip(numbers) {
            let need = need.expect("a number");
            assert!(
                (f64::from(*have) - need).abs() < 2e-5,
                "{text:?}: {have} {need}"
            );
        }
    }
}
