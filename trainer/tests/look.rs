//! Drawings of attention hold the weights that the core hands over, and nothing that a text could break.

mod common;

use attentive::kernels::Backend;
use attentive::kernels::layout::WeightFormat;
use attentive::pack::{PackError, Recipe, ScaleMethod, TokenizerParts};
use attentive::{
    Architecture, Attends, Attention, Biases, Block, Config, Ffn, Input, Model, Norm, NormPlace,
    Position, Session, SessionOptions, Source, TensorKind, integer,
};
use attentive_trainer::frontend::Frontend;
use attentive_trainer::look::svg::{self, Choice};
use attentive_trainer::look::{Maps, Subject, Texts, collect, page, patches};
use base64::Engine;
use serde_json::Value;
use std::process::Command;

const TEXT: &str = "It is a truth, <b>\"&'\u{e9}\u{1F600}";

fn of_text(text: &str) -> Texts<'_> {
    Texts {
        text: Some(text),
        other: None,
    }
}

fn default_model() -> Vec<u8> {
    std::fs::read(common::root().join("models/austen-1m-int8.attn")).expect("the default model")
}

/// Bytes at a multiple of 64.
fn aligned(bytes: &[u8]) -> Vec<Block> {
    let mut blocks = vec![Block::ZERO; Block::len_for(bytes.len())];
    Block::bytes_mut(&mut blocks)[..bytes.len()].copy_from_slice(bytes);
    blocks
}

fn collected(text: &str) -> Maps {
    let bytes = default_model();
    let blocks = aligned(&bytes);
    let model = Model::parse(&Block::bytes(&blocks)[..bytes.len()]).expect("a model");
    let mut maps =
        collect(Subject::Floats(&model), &of_text(text), Backend::detect()).expect("maps");
    assert_eq!(maps.len(), 1);
    maps.remove(0)
}

#[test]
fn maps_are_the_cores_rows() {
    let maps = collected(TEXT);
    let bytes = default_model();
    let blocks = aligned(&bytes);
    let model = Model::parse(&Block::bytes(&blocks)[..bytes.len()]).expect("a model");
    assert_eq!(
        (maps.layers, maps.heads),
        (model.config().layers, model.config().heads)
    );
    let mut scratch = [0; attentive::tokenizer::ENCODE_SCRATCH_LEN];
    let ids = model
        .tokenizer()
        .encode(TEXT, &mut scratch)
        .expect("tokens");
    let ids: Vec<u32> = ids.map(|id| id.expect("a token")).collect();
    assert_eq!(maps.queries.len(), ids.len());
    let options = SessionOptions::new(ids.len()).with_prefill_len(3);
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    let memory = Block::bytes_mut(&mut memory);
    let session = Session::new(&model, &options, memory, Backend::SCALAR);
    let mut room = vec![0.0; ids.len()];
    let mut rows = 0;
    let watched = session.expect("a session").watch(&ids, &mut room, |row| {
        rows += 1;
        let drawn = maps.row(row.layer, row.head, row.position);
        for (key, drawn) in drawn.iter().enumerate() {
            let weight = row.weights.get(key).copied().unwrap_or(0.0);
            assert!((drawn - weight).abs() < 1e-4, "{drawn} {weight}");
        }
    });
    watched.expect("a text");
    assert_eq!(rows, maps.layers * maps.heads * ids.len());
}

/// By the definition, in f64.
#[test]
fn rollouts_are_products_of_layers() {
    let maps = collected(TEXT);
    let n = maps.queries.len();
    let rollout = maps.rollout().expect("a text to itself");
    let mut product: Vec<Vec<f64>> = (0..n)
        .map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect())
        .collect();
    for layer in 0..maps.layers {
        let step = |q: usize, k: usize| {
            let heads = (0..maps.heads).map(|head| f64::from(maps.row(layer, head, q)[k]));
            0.5 * heads.sum::<f64>() / maps.heads as f64 + if q == k { 0.5 } else { 0.0 }
        };
        product = (0..n)
            .map(|q| {
                let sum: f64 = (0..n).map(|k| step(q, k)).sum();
                let cell = |j: usize| (0..n).map(|k| step(q, k) / sum * product[k][j]).sum();
                (0..n).map(cell).collect()
            })
            .collect();
        for (q, row) in product.iter().enumerate() {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            for (k, want) in row.iter().enumerate() {
                let got = f64::from(rollout[(layer * n + q) * n + k]);
                assert!((got - want).abs() < 1e-5, "{layer} {q} {k}: {got} {want}");
            }
        }
    }
}

/// What the page holds, decoded.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once(r#"id="data">"#).expect("data");
    let (data, _) = rest.split_once("</script>").expect("its end");
    assert!(!data.contains('<'), "something could end the script");
    serde_json::from_str(data).expect("JSON")
}

#[test]
fn a_page_holds_the_weights() {
    let maps = collected(TEXT);
    let page = page::draw(std::slice::from_ref(&maps), "a <model> & \"more\"");
    assert!(page.contains("<h1>Attention of a &lt;model&gt; &amp; &quot;more&quot;</h1>"));
    assert!(
        !page.contains("http"),
        "the page needs something from elsewhere"
    );
    let data = data(&page);
    let drawn = &data["maps"][0];
    assert_eq!(drawn["queries"], serde_json::json!(maps.queries));
    let decode = |name: &str| {
        let text = drawn[name].as_str().expect("base64");
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .expect("base64")
    };
    let n = maps.queries.len();
    let bytes = decode("weights");
    assert_eq!(bytes.len(), maps.layers * maps.heads * n * n);
    let rows = bytes.chunks(n).enumerate();
    for (index, row) in rows {
        let (layer, rest) = (index / (maps.heads * n), index % (maps.heads * n));
        let weights = maps.row(layer, rest / n, rest % n);
        for (byte, weight) in row.iter().zip(weights) {
            let error = f32::from(*byte) / 255.0 - weight.sqrt();
            assert!(error.abs() <= 0.5 / 255.0 + 1e-6, "{byte} for {weight}");
        }
    }
    assert_eq!(decode("rollout").len(), maps.layers * n * n);
}

/// Cells of an SVG's one map: (query, key) → shade.
fn cells(svg: &str) -> Vec<((usize, usize), usize)> {
    let mut cells = Vec::new();
    for path in svg.lines().filter(|line| line.starts_with("<path")) {
        let (class, rest) = path["<path class=\"s".len()..]
            .split_once('"')
            .expect("a class");
        let (_, d) = rest.split_once("d=\"").expect("a path");
        for cell in d
            .trim_end_matches("\"/>")
            .split('z')
            .filter(|cell| !cell.is_empty())
        {
            let (key, rest) = cell[1..].split_once(' ').expect("a key");
            let (query, rest) = rest.split_once('h').expect("a query");
            let (len, _) = rest.split_once('v').expect("a length");
            let number = |text: &str| text.parse::<usize>().expect("a number");
            for key in number(key)..number(key) + number(len) {
                cells.push(((number(query), key), number(class)));
            }
        }
    }
    cells
}

#[test]
fn a_drawing_shows_every_weight() {
    let maps = collected(TEXT);
    let choice = Choice {
        layer: Some(3),
        head: Some(1),
    };
    let drawing = svg::draw(&maps, choice).expect("a drawing");
    let cells = cells(&drawing);
    let n = maps.queries.len();
    for query in 0..n {
        for (key, weight) in maps.row(3, 1, query).iter().enumerate() {
            let drawn: Vec<usize> = cells
                .iter()
                .filter(|(at, _)| *at == (query, key))
                .map(|(_, shade)| *shade)
                .collect();
            match drawn[..] {
                [] => assert!(*weight < 0.25 / 144.0, "{weight} is not drawn"),
                [shade] => assert_eq!(shade, (12.0 * weight.sqrt()).ceil() as usize),
                _ => panic!("drawn twice"),
            }
        }
    }
    // Every `&` begins an entity, and what a text holds ends no element.
    for part in drawing.split('&').skip(1) {
        let entities = ["amp;", "lt;", "gt;", "quot;", "#39;"];
        assert!(
            entities.iter().any(|entity| part.starts_with(entity)),
            "{part}"
        );
    }
    assert!(drawing.contains("&lt;") && !drawing.contains("<b>"));
    // The bytes of the last character are tokens, none of which is UTF-8.
    assert!(
        maps.queries.iter().any(|label| label.contains("\\xf0")),
        "{:?}",
        maps.queries
    );
    let all = svg::draw(&maps, Choice::default()).expect("a drawing");
    assert_eq!(all.matches("<g ").count(), maps.layers * maps.heads);
    for (layer, head) in [(Some(maps.layers), None), (None, Some(maps.heads))] {
        let error = svg::draw(&maps, Choice { layer, head }).expect_err("no such map");
        assert!(error.to_string().contains("there is no"), "{error}");
    }
}

/// A small encoder–decoder of bytes with made-up weights.
fn translator() -> Vec<Block> {
    let config = Config {
        architecture: Architecture::EncoderDecoder(Source {
            layers: 3,
            len: 32,
            position: Position::Sinusoidal,
            input: Input::Tokens,
        }),
        vocab_len: 260,
        dim: 16,
        layers: 2,
        heads: 2,
        kv_heads: 2,
        head_dim: 8,
        hidden_dim: 24,
        context_len: 24,
        norm: Norm::Layer,
        norm_place: NormPlace::Post,
        norm_eps: 1e-5,
        final_norm: false,
        ffn: Ffn::Relu,
        position: Position::Sinusoidal,
        attention: Attention::PLAIN,
        tied: true,
        biases: Biases::NONE,
        embedding_scale: 4.0,
        begin_of_text: Some(258),
        end_of_text: Some(259),
    };
    let recipe = Recipe {
        config: &config,
        tokenizer: TokenizerParts::Bytes { offset: 0 },
        provenance: "",
        format: &|_| WeightFormat::F32,
    };
    let mut blocks = vec![Block::ZERO; Block::len_for(recipe.file_bytes().expect("a size"))];
    let mut number = 0u32;
    let written = recipe.write::<PackError>(Block::bytes_mut(&mut blocks), |mut tensor| {
        let gain = tensor.shape.kind == TensorKind::Vector;
        let values: Vec<f32> = (0..tensor.shape.rows * tensor.shape.cols)
            .map(|_| {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let x = (number >> 8) as f32 / (1 << 23) as f32 - 1.0;
                if gain { 1.0 + 0.2 * x } else { 0.6 * x }
            })
            .collect();
        tensor.write(&values, ScaleMethod::AbsMax)
    });
    written.expect("a file");
    blocks
}

#[test]
fn a_translators_three_attentions() {
    let blocks = translator();
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let texts = Texts {
        text: None,
        other: Some("a source"),
    };
    let found = collect(Subject::Floats(&model), &texts, Backend::detect()).expect("maps");
    let target = found[0].queries.clone();
    assert!(target.len() > 1 && target.len() <= 24, "{target:?}");
    let kinds: Vec<_> = found
        .iter()
        .map(|maps| {
            (
                maps.attends,
                maps.layers,
                maps.queries.len(),
                maps.keys.len(),
            )
        })
        .collect();
    let (n, m) = (target.len(), 8);
    let want = [
        (Attends::TextToSource, 2, n, m),
        (Attends::Text, 2, n, n),
        (Attends::Source, 3, m, m),
    ];
    assert_eq!(kinds, want);
    for maps in &found {
        for layer in 0..maps.layers {
            for query in 0..maps.queries.len() {
                let sum: f32 = maps.row(layer, 1, query).iter().sum();
                assert!(
                    (sum - 1.0).abs() < 1e-4,
                    "{:?} {layer} {query}: {sum}",
                    maps.attends
                );
            }
        }
    }
    assert!(found[0].rollout().is_none() && found[2].rollout().is_some());
    assert_eq!(svg::shown(&found), Some(&found[0]));
    assert_eq!(
        data(&page::draw(&found, "x"))["maps"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
    let given = Texts {
        text: Some("ab"),
        ..texts
    };
    let given = collect(Subject::Floats(&model), &given, Backend::detect()).expect("maps");
    assert_eq!(given[0].queries, ["[258]", "a", "b"]);
    let texts = of_text("ab");
    let error = collect(Subject::Floats(&model), &texts, Backend::detect()).expect_err("no source");
    assert!(error.to_string().contains("--source"), "{error}");
}

#[test]
fn the_command_draws_or_says_why_not() {
    let directory = common::directory("look");
    let model = common::root().join("models/austen-1m-int8.attn");
    let model = model.to_str().expect("a path");
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_attentive"))
            .current_dir(&directory)
            .args([&["attention", model], args].concat())
            .output()
            .expect("it starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text)
    };
    let drawn = run(&["--text", "It is", "--svg", "a.svg", "--html", "a.html"]);
    assert_eq!(drawn, (Some(0), String::new()));
    let size = |name: &str| std::fs::metadata(directory.join(name)).map_or(0, |m| m.len());
    assert!(size("a.svg") > 1000 && size("a.html") > 1000);
    let long = "word ".repeat(2000);
    for (args, words) in [
        (vec!["--text", "It is"], "--svg or --html"),
        (vec!["--svg", "b.svg"], "--text"),
        (vec!["--text", " ", "--svg", "b.svg"], "empty"),
        (vec!["--text", &long, "--svg", "b.svg"], "tokens"),
        (
            vec!["--text", "x", "--second", "y", "--svg", "b.svg"],
            "encoders",
        ),
        (
            vec!["--text", "x", "--source", "y", "--svg", "b.svg"],
            "encoder–decoders",
        ),
        (
            vec![
                "--text", "x", "--layer", "9", "--svg", "b.svg", "--html", "b.html",
            ],
            "no layer 9",
        ),
        (
            vec!["--text", "x", "--head", "9", "--svg", "b.svg"],
            "no head 9",
        ),
        (vec!["--text", "x", "--svg", "absent/b.svg"], "absent/b.svg"),
        (
            vec!["--text", "x", "--svg", "b.svg", "--backend", "abacus"],
            "abacus",
        ),
    ] {
        let (status, text) = run(&args);
        assert_eq!(status, Some(2), "{args:?}: {text}");
        assert!(
            text.contains(words) && !text.contains("panicked"),
            "{args:?}: {text}"
        );
    }
    assert_eq!(size("b.svg") + size("b.html"), 0);
}

/// A picture's and a clip's attention: every patch over what it shows, as much as the core's rows say.
#[test]
fn patches_lie_over_what_they_show() {
    for (model, kind, file, [layers, heads, columns, rows]) in [
        ("fashion", "picture", "fashion-boot.pgm", [4, 4, 7, 7]),
        ("keywords", "sound", "keyword-seven.wav", [4, 4, 49, 1]),
    ] {
        let path = common::root().join(format!("models/{model}-int8.attn"));
        let bytes = std::fs::read(&path).expect("a model");
        let blocks = aligned(&bytes);
        let parsed = Model::parse(&Block::bytes(&blocks)[..bytes.len()]).expect("a model");
        let frontend = Frontend::recorded(parsed.provenance()).expect("a record");
        let input = common::root().join("firmware-example/inputs").join(file);
        let thing = frontend.read(&input).expect("an input");
        let maps = patches(
            Subject::Floats(&parsed),
            &frontend,
            &thing,
            Backend::detect(),
        )
        .expect("maps");
        let maps = &maps[0];
        let board = maps.board.as_ref().expect("a board");
        assert_eq!(
            [maps.layers, maps.heads, board.columns, board.rows],
            [layers, heads, columns, rows]
        );
        let weights = maps.on_board(layers - 1, heads - 1);
        assert_eq!(weights.len(), columns * rows);
        let class: f32 = (0..maps.queries.len())
            .map(|query| maps.row(layers - 1, heads - 1, query)[0])
            .sum();
        let all = weights.iter().sum::<f32>() + class / maps.queries.len() as f32;
        assert!((all - 1.0).abs() < 1e-4, "{all}");
        let png = image_of(&board.png);
        assert_eq!(
            png,
            if kind == "picture" {
                (28, 28)
            } else {
                (98, 40)
            },
            "{kind}"
        );
        let drawn = svg::draw(maps, Choice::default()).expect("a drawing");
        let count = drawn.matches("<rect class=\"hot\"").count();
        assert_eq!(count, layers * heads * columns * rows);
        assert_eq!(
            drawn.matches("<use href=\"#picture\"/>").count(),
            layers * heads
        );
        let data = data(&page::draw(std::slice::from_ref(maps), model));
        assert_eq!(data["maps"][0]["board"]["columns"], columns);
        assert_eq!(data["maps"][0]["title"], format!("{kind} to itself"));
        let other = if kind == "picture" {
            "--sound"
        } else {
            "--picture"
        };
        for args in [["--text", "a text"], [other, file]] {
            let output = Command::new(env!("CARGO_BIN_EXE_attentive"))
                .arg("attention")
                .arg(&path)
                .args(args)
                .args(["--svg", "never.svg"])
                .output()
                .expect("it starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(&format!("--{kind}")), "{said}");
        }
    }
}

/// Columns and rows of a PNG, by its header.
fn image_of(png: &[u8]) -> (u32, u32) {
    assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes([png[at], png[at + 1], png[at + 2], png[at + 3]]);
    (number(16), number(20))
}

fn file(name: &str) -> Vec<Block> {
    let path = common::root().join("models").join(name);
    aligned(&std::fs::read(path).expect("a model"))
}

/// Half of what two models' rows differ by, on average: 0 where they are equal, 1 where they have nothing in common.
fn distance(floats: &[Maps], integers: &[Maps]) -> f32 {
    let mut sums = (0.0, 0.0);
    assert_eq!(floats.len(), integers.len());
    for (a, b) in floats.iter().zip(integers) {
        assert_eq!((&a.queries, &a.keys), (&b.queries, &b.keys));
        for layer in 0..a.layers {
            for (head, query) in
                (0..a.heads).flat_map(|h| (0..a.queries.len()).map(move |q| (h, q)))
            {
                let rows = a
                    .row(layer, head, query)
                    .iter()
                    .zip(b.row(layer, head, query));
                sums.0 += rows.map(|(a, b)| (a - b).abs()).sum::<f32>() / 2.0;
                sums.1 += 1.0;
            }
        }
    }
    sums.0 / sums.1
}

/// A model of the integer profile attends about as its floats do: texts, translations and pictures.
#[test]
fn integers_attend_about_as_floats_do() {
    let backend = Backend::detect();
    let of = |name: &str, texts: &Texts<'_>| {
        let (floats, integers) = (
            file(&format!("{name}-int8.attn")),
            file(&format!("{name}-integer.attn")),
        );
        let floats = Model::parse(Block::bytes(&floats)).expect("a model");
        let integers = integer::Model::parse(Block::bytes(&integers)).expect("a model");
        let floats = collect(Subject::Floats(&floats), texts, backend).expect("maps");
        let integers = collect(Subject::Integers(&integers), texts, backend).expect("maps");
        distance(&floats, &integers)
    };
    let words = of_text("It is a truth universally acknowledged, that a man must be in want.");
    let distance_of_words = of("austen-1m", &words);
    assert!(distance_of_words < 0.05, "{distance_of_words}");
    // What it writes is searched for by the one, and written token by token by the other.
    let pair = Texts {
        text: None,
        other: Some("Open the file."),
    };
    let distance_of_pairs = of("translation", &pair);
    assert!(distance_of_pairs < 0.05, "{distance_of_pairs}");

    let floats = file("fashion-int8.attn");
    let floats = Model::parse(Block::bytes(&floats)).expect("a model");
    let integers = file("fashion-integer.attn");
    let integers = integer::Model::parse(Block::bytes(&integers)).expect("a model");
    let frontend = Frontend::recorded(integers.provenance()).expect("a record");
    let boot = common::root().join("firmware-example/inputs/fashion-boot.pgm");
    let boot = frontend.read(&boot).expect("an input");
    let of_boot = |subject| patches(subject, &frontend, &boot, backend).expect("maps");
    let of_picture = distance(
        &of_boot(Subject::Floats(&floats)),
        &of_boot(Subject::Integers(&integers)),
    );
    assert!(of_picture < 0.1, "{of_picture}");
}
