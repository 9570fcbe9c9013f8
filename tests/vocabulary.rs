//! WordPiece and unigram models without a reference: what is put around texts, what no table can make them do, and
//! that a window sees as far as a search through the whole text.

mod common;

use attentive::kernels::layout::WeightFormat;
use attentive::pack::{PackError, Recipe, TokenizerParts, UnigramParts, WordPieceParts};
use attentive::tokenizer::{BertText, ENCODE_SCRATCH_LEN, Spaces, Template, Wrapped};
use attentive::{Block, Config, Model, TokenizeError, Tokenizer};
use common::{LLAMA, Random, pack_unigram, pack_word_piece, random_values};

const TEXT: &str = "The text's  \u{e9}te\u{301} [SEP] texts\u{4e2d}!";

fn encode(tokenizer: &Tokenizer<'_>, text: &str) -> Vec<u32> {
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let tokens = tokenizer.encode(text, &mut scratch);
    let tokens: Result<_, _> = tokens.expect("a tokenizer").collect();
    tokens.expect("tokens")
}

fn decode(tokenizer: &Tokenizer<'_>, ids: &[u32]) -> String {
    let bytes = tokenizer.decode(ids).flatten().copied().collect();
    String::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn word_piece_wraps_one_text_or_two() {
    let file = pack_word_piece(&LLAMA, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    model.verify().expect("sound tables");
    let tokenizer = model.tokenizer();
    assert_eq!(tokenizer.name(), "wordpiece");
    let ids = encode(tokenizer, TEXT);
    // the text ' s ete [SEP] text ##s [UNK] ! in the order of `common::word_piece`.
    assert_eq!(ids, [5, 6, 8, 7, 10, 3, 6, 9, 1, 11]);
    assert_eq!(decode(tokenizer, &ids), "the text ' s ete texts!");
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let mut out = [0; 8];
    let mut wrapped = |second, len: usize| {
        let wrapped = tokenizer.encode_wrapped("Text!", second, &mut scratch, &mut out[..len]);
        wrapped.map(|wrapped| (wrapped, out[..wrapped.len].to_vec()))
    };
    let alone = Wrapped {
        len: 4,
        second_at: 4,
    };
    assert_eq!(wrapped(None, 8), Ok((alone, vec![2, 6, 11, 3])));
    let both = Wrapped {
        len: 7,
        second_at: 4,
    };
    assert_eq!(
        wrapped(Some("the texts"), 8).map(|(wrapped, ids)| (wrapped.second_at, ids)),
        Ok((4, vec![2, 6, 11, 3, 5, 6, 9, 3]))
    );
    assert_eq!(
        wrapped(Some("the texts"), 7),
        Err(TokenizeError::Tokens { have: 7 })
    );
    assert_eq!(
        wrapped(Some("the"), 7).map(|(wrapped, _)| wrapped),
        Ok(Wrapped { len: 6, ..both })
    );
    assert!(tokenizer.template().types);
}

#[test]
fn plain_text_holds_no_special_token() {
    let file = pack_word_piece(&LLAMA, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let tokens = model.tokenizer().encode_plain("text[SEP]", &mut scratch);
    let tokens: Result<Vec<u32>, _> = tokens.expect("a tokenizer").collect();
    // The brackets and the letters between are words that the vocabulary has not.
    assert_eq!(tokens, Ok(vec![6, 1, 1, 1]));
}

#[test]
fn a_long_word_is_one_unknown_token_and_costs_no_more() {
    let file = pack_word_piece(&LLAMA, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    assert_eq!(encode(model.tokenizer(), &"\u{e9}".repeat(1 << 16)), [1]);
    assert_eq!(encode(model.tokenizer(), &"e\u{301}".repeat(101)), [1]);
}

/// Pieces over two letters, with scores between which ties are frequent.
fn random_pieces(random: &mut Random) -> (Vec<Vec<u8>>, Vec<f32>) {
    let mut pieces = vec![b"<unk>".to_vec(), b"a".to_vec()];
    let has_b = random.below(2) == 0;
    if has_b {
        pieces.push(b"b".to_vec());
    }
    for _ in 0..random.below(30) {
        let longest = [3, 20, 60][random.below(3)];
        let len = 2 + random.below(longest);
        let piece: Vec<u8> = (0..len).map(|_| b"aaab "[random.below(5)]).collect();
        if !pieces.contains(&piece) {
            pieces.push(piece);
        }
    }
    let scores = pieces.iter().map(|_| -0.25 * (1 + random.below(40)) as f32);
    let scores = scores.collect();
    (pieces, scores)
}

/// The likeliest cut of a whole text, of equals the first found from the left.
fn naive(pieces: &[Vec<u8>], scores: &[f32], text: &[u8]) -> Vec<u32> {
    let unknown = scores[1..].iter().fold(f32::MAX, |a, b| a.min(*b)) - 10.0;
    let mut best: Vec<Option<(f64, usize, u32)>> = vec![None; text.len() + 1];
    best[0] = Some((0.0, 0, 0));
    for at in 0..text.len() {
        let Some((score, ..)) = best[at] else {
            continue;
        };
        let mut offer = |len: usize, piece: f32, id: u32| {
            let sum = score + f64::from(piece);
            if best[at + len].is_none_or(|(other, ..)| sum > other) {
                best[at + len] = Some((sum, at, id));
            }
        };
        let mut found: Vec<usize> = (1..pieces.len())
            .filter(|id| text[at..].starts_with(&pieces[*id]))
            .collect();
        found.sort_by_key(|id| pieces[*id].len());
        for id in &found {
            offer(pieces[*id].len(), scores[*id], *id as u32);
        }
        if found.iter().all(|id| pieces[*id].len() > 1) {
            offer(1, unknown, 0);
        }
    }
    let (mut ids, mut at) = (Vec::new(), text.len());
    while at > 0 {
        let (_, from, id) = best[at].expect("a way");
        ids.push(id);
        at = from;
    }
    ids.reverse();
    ids.dedup_by(|a, b| *a == 0 && *b == 0);
    ids
}

#[test]
fn a_window_sees_as_far_as_the_whole_text() {
    let mut random = Random(3);
    for round in 0..300 {
        let (pieces, scores) = random_pieces(&mut random);
        let file = pack_unigram(
            &LLAMA,
            &pieces,
            &scores,
            Spaces {
                dummy_prefix: false,
                collapse: false,
            },
        );
        let model = Model::parse(Block::bytes(&file)).expect("a model");
        model.verify().expect("sound tables");
        let text: String = (0..random.below(1500))
            .map(|_| b"aaabbc "[random.below(7)] as char)
            .collect();
        let want = naive(&pieces, &scores, text.as_bytes());
        assert_eq!(
            encode(model.tokenizer(), &text),
            want,
            "round {round}, {text:?}"
        );
        if !want.contains(&0) {
            assert_eq!(decode(model.tokenizer(), &want), text);
        }
    }
}

#[test]
fn a_window_that_nothing_decides_is_decided() {
    // Pieces of 1, 63 and 64 bytes with equal scores: where a text begins stays open to its end.
    let pieces = [
        b"<unk>".to_vec(),
        vec![b'a'],
        vec![b'a'; 63],
        vec![b'a'; 64],
    ];
    let file = pack_unigram(
        &LLAMA,
        &pieces,
        &[0.0, -100.0, -1.0, -1.0],
        Spaces {
            dummy_prefix: true,
            collapse: true,
        },
    );
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    let ids = encode(model.tokenizer(), &"a".repeat(10_000));
    let bytes: usize = ids
        .iter()
        .map(|id| model.tokenizer().piece(*id).len())
        .sum();
    // The space before the text has no piece.
    assert!(ids[0] == 0 && bytes == 10_000 + 5, "{bytes}");
}

#[test]
fn spaces_are_kept_or_collapsed() {
    let pieces = [b"<unk>".to_vec(), b" ".to_vec(), b"a".to_vec()];
    for (dummy_prefix, collapse, text, want) in [
        (true, true, "  a   a  ", &[1, 2, 1, 2][..]),
        (true, false, " a  a ", &[1, 1, 2, 1, 1, 2, 1]),
        (false, true, " a \u{2581}a ", &[2, 1, 1, 2]),
        (false, false, "  ", &[1, 1]),
        (true, true, "   ", &[]),
        (true, true, "", &[]),
    ] {
        let spaces = Spaces {
            dummy_prefix,
            collapse,
        };
        let file = pack_unigram(&LLAMA, &pieces, &[0.0, -1.0, -1.0], spaces);
        let model = Model::parse(Block::bytes(&file)).expect("a model");
        assert_eq!(encode(model.tokenizer(), text), want, "{spaces:?} {text:?}");
    }
}

#[test]
fn a_character_without_a_token_is_told_once() {
    let pieces: [&[u8]; 2] = [b"a", b" "];
    let parts = UnigramParts {
        unknown: None,
        ..unigram(&pieces, &[-1.0, -1.0])
    };
    let file = common::pack_with(
        &LLAMA,
        WeightFormat::F32,
        TokenizerParts::Unigram(parts),
        |shape| random_values(shape, 1),
    );
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let tokens = model
        .tokenizer()
        .encode("a\u{e9}a", &mut scratch)
        .expect("a tokenizer");
    let tokens: Vec<_> = tokens.take(10).collect();
    assert!(
        tokens.contains(&Err(TokenizeError::Byte { byte: 0xc3 })) && tokens.len() < 5,
        "{tokens:?}"
    );
}

fn unigram<'a>(pieces: &'a [&'a [u8]], scores: &'a [f32]) -> UnigramParts<'a> {
    UnigramParts {
        spaces: Spaces {
            dummy_prefix: false,
            collapse: false,
        },
        charsmap: &[],
        pieces,
        scores,
        unmatched: &[],
        byte_ids: None,
        unknown: Some(0),
        specials: &[],
        template: Template::NONE,
    }
}

fn refusal(parts: TokenizerParts<'_>) -> PackError {
    let config = Config { ..LLAMA };
    let recipe = Recipe {
        config: &config,
        tokenizer: parts,
        provenance: "",
        format: &|_| WeightFormat::F32,
    };
    let bytes = match recipe.file_bytes() {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    let mut blocks = vec![Block::ZERO; Block::len_for(bytes)];
    let written = recipe.write::<PackError>(Block::bytes_mut(&mut blocks), |_| Ok(()));
    written.expect_err("a refusal")
}

#[test]
fn tables_that_no_file_can_hold_are_refused() {
    let long = [b'a'; 65];
    let pieces: [&[u8]; 3] = [b"<unk>", b"a", &long];
    let scores = [0.0, -1.0, -1.0];
    let parts = unigram(&pieces, &scores);
    let (most, have) = (64, 65);
    let refused = |parts: UnigramParts<'_>| refusal(TokenizerParts::Unigram(parts));
    assert_eq!(refused(parts), PackError::PieceLen { id: 2, most, have });
    let pieces: [&[u8]; 3] = [b"<unk>", b"a", b"a"];
    let parts = UnigramParts {
        pieces: &pieces,
        ..parts
    };
    assert!(matches!(
        refused(parts),
        PackError::PieceTwice { id: 1 | 2 }
    ));
    let pieces: [&[u8]; 3] = [b"<unk>", b"a", b"b"];
    let parts = UnigramParts {
        pieces: &pieces,
        ..parts
    };
    for score in [128.0, f32::NEG_INFINITY, f32::NAN] {
        let scores = [0.0, -1.0, score];
        assert_eq!(
            refused(UnigramParts {
                scores: &scores,
                ..parts
            }),
            PackError::Score { id: 2 }
        );
    }
    let few = UnigramParts {
        scores: &scores[..2],
        ..parts
    };
    assert_eq!(refused(few), PackError::ScoresLen { need: 3, have: 2 });
    let (vocab_len, have) = (3, 3);
    let unknown = UnigramParts {
        unknown: Some(3),
        ..parts
    };
    assert_eq!(refused(unknown), PackError::Token { vocab_len, have });
    let torn = UnigramParts {
        charsmap: &[1, 0],
        ..parts
    };
    assert!(matches!(refused(torn), PackError::Tokenizer(_)));
    let word_piece = WordPieceParts {
        text: BertText::CASED,
        pieces: &pieces,
        unknown: 0,
        specials: &[],
        template: Template {
            first: Some(3),
            ..Template::NONE
        },
    };
    assert_eq!(
        refusal(TokenizerParts::WordPiece(word_piece)),
        PackError::Token { vocab_len, have }
    );
}

/// Whatever the tables hold, encoding and decoding return, with no more tokens than the text can have.
#[test]
fn changed_tables_never_panic() {
    let mut random = Random(4);
    let (pieces, scores) = random_pieces(&mut random);
    let spaces = Spaces {
        dummy_prefix: true,
        collapse: true,
    };
    let files = [
        pack_word_piece(&LLAMA, WeightFormat::F32, 1),
        pack_unigram(&LLAMA, &pieces, &scores, spaces),
        common::pack_unigram_full(&LLAMA),
    ];
    let text = format!("{TEXT} {}\u{fb01}\u{a8} \u{ff21}", "abaab".repeat(200));
    let mut counts = [0; 3];
    for file in &files {
        let bytes = Block::bytes(file);
        let word = |at: usize| u32::from_le_bytes(bytes[at..][..4].try_into().expect("four bytes"));
        let (at, len) = (word(24) as usize, word(36) as usize);
        for _ in 0..1500 {
            let mut copy = file.clone();
            let section = &mut Block::bytes_mut(&mut copy)[at..][..len];
            // Half of the changes in the headers.
            let reach = [64, len][random.below(2)];
            for _ in 0..=random.below(6) {
                section[random.below(reach)] = [random.next() as u8, 0, 0xff][random.below(3)];
            }
            let Ok(model) = Model::parse(Block::bytes(&copy)) else {
                counts[0] += 1;
                continue;
            };
            let tokenizer = model.tokenizer();
            counts[1 + usize::from(tokenizer.check().is_ok())] += 1;
            let mut scratch = [0; ENCODE_SCRATCH_LEN];
            let tokens = tokenizer.encode(&text, &mut scratch).expect("a tokenizer");
            let ids: Vec<u32> = tokens.take(200_000).flatten().collect();
            // A replacement has at most 63 bytes, each of which a token.
            assert!(ids.len() <= 64 * text.len(), "{} tokens", ids.len());
            let parts: usize = tokenizer.decode(&ids).map(<[u8]>::len).sum();
            assert!(parts <= ids.len() * len);
            let mut out = [0; 64];
            let _ = tokenizer.encode_wrapped(&text, Some("a"), &mut scratch, &mut out);
        }
    }
    assert!(
        counts.iter().all(|count| *count > 200),
        "refused, unsound, sound: {counts:?}"
    );
}
