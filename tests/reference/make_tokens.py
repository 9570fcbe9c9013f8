"""Makes the data of tests/tokenizer_reference.rs: vocabularies, lines, and the tokens that the reference gives.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3
    python3 tests/reference/make_tokens.py --train TEXT --lines LINES --out DIRECTORY [--small] [--bert tokenizer.json]

TEXT trains the vocabularies, LINES (UTF-8, each ended by a newline) are what is encoded. WordPiece is compared with Hugging
Face's `tokenizers`, unigram models with `sentencepiece`. With --small the vocabularies are small, and a table of a few
replacements stands in for nmt_nfkc, which takes 240 kB. `tests/data/tokenizers/README.md` has the command of the committed
data.
"""

import argparse
import os
import shutil
import tempfile

import sentencepiece
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Hexadecimal, as --normalization_rule_tsv has it: whitespace, ligatures, full width, one composition, one removal.
RULES = [("9", "20"), ("A0", "20"), ("3000", "20"), ("FB01", "66 69"), ("65 301", "E9"), ("A8", "20 308"), ("AD", "")]
RULES += [(f"{0xFF01 + i:X}", f"{0x21 + i:X}") for i in range(94)]


def write(directory, name, text):
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, name), "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def write_ids(directory, ids):
    write(directory, "ids.txt", "".join(" ".join(map(str, line)) + "\n" for line in ids))


def word_piece(out, name, tokenizer, lines, lowercase, decode):
    directory = os.path.join(out, name)
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    write(directory, "vocab.txt", "".join(piece + "\n" for piece, _ in vocab))
    write(directory, "model.txt", f"kind = {'uncased' if lowercase else 'cased'}\n")
    encoded = tokenizer.encode_batch(lines, add_special_tokens=False)
    write_ids(directory, [line.ids for line in encoded])
    decoder = tokenizers.decoders.WordPiece(prefix="##", cleanup=True)
    if decode:
        texts = [decoder.decode([t for t in line.tokens if t not in SPECIALS]) for line in encoded]
        write(directory, "decoded.txt", "".join(text + "\n" for text in texts))


def trained_word_piece(path, vocab_len, lowercase):
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_len, special_tokens=SPECIALS, limit_alphabet=vocab_len // 2, show_progress=False
    )
    tokenizer.train([path], trainer)
    return tokenizer


def fields(message):
    """Numbers and values of a protocol buffer's fields."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            length = {1: 8, 5: 4}.get(key & 7) or varint()
            yield key >> 3, message[at : at + length]
            at += length


def unigram(out, name, train, lines, **options):
    directory = os.path.join(out, name)
    with tempfile.TemporaryDirectory() as work:
        prefix = os.path.join(work, "model")
        sentencepiece.SentencePieceTrainer.train(
            input=train, model_prefix=prefix, model_type="unigram", num_threads=1, minloglevel=1,
            unk_surface="<unk>", **options
        )
        model = open(prefix + ".model", "rb").read()
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    normalizer = dict(fields(next(value for number, value in fields(model) if number == 3)))
    charsmap = normalizer.get(2, b"")
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "charsmap.bin"), "wb") as file:
        file.write(charsmap)
    rows = []
    for id in range(processor.get_piece_size()):
        kind = "normal"
        for other in ["unknown", "control", "byte", "unused"]:
            if getattr(processor, f"is_{other}")(id):
                kind = other
        piece = processor.id_to_piece(id)
        text = bytes([int(piece[3:5], 16)]) if kind == "byte" else piece.replace("\u2581", " ").encode()
        rows.append(f"{kind}\t{processor.get_score(id)!r}\t{text.hex()}\n")
    write(directory, "pieces.tsv", "".join(rows))
    flags = f"dummy_prefix = {normalizer.get(3, 1)}\ncollapse = {normalizer.get(4, 1)}\n"
    write(directory, "model.txt", "kind = unigram\n" + flags)
    ids = processor.encode(lines)
    compare(name, processor, charsmap, normalizer, lines, ids, options.get("byte_fallback", False))
    write_ids(directory, ids)
    write(directory, "decoded.txt", "".join(processor.decode(line).replace("\n", " ") + "\n" for line in ids))


def compare(name, processor, charsmap, normalizer, lines, ids, byte_fallback):
    """How many lines `tokenizers` sees otherwise: it replaces the first match of a grapheme, not the longest of a text.

    Where both find the same tokens in another order, their scores are equal: sentencepiece adds up in f32, so that what was
    rounded before decides, and tokenizers in f64, which is exact. There `ids` become those of tokenizers.
    """
    pieces = [(processor.id_to_piece(id), processor.get_score(id)) for id in range(processor.get_piece_size())]
    other = tokenizers.Tokenizer(models.Unigram(pieces, processor.unk_id(), byte_fallback))
    steps = [normalizers.Precompiled(charsmap)] if charsmap else []
    if normalizer.get(4, 1):
        steps += [normalizers.Strip(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    other.normalizer = normalizers.Sequence(steps)
    other.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    theirs = [line.ids for line in other.encode_batch(lines)]
    differ = [i for i, (a, b) in enumerate(zip(ids, theirs)) if a != b]
    ties = [i for i in differ if sorted(ids[i]) == sorted(theirs[i])]
    for i in ties:
        ids[i] = theirs[i]
    print(f"{name}: of {len(lines)} lines {len(ties)} have ties, and tokenizers gives others in {len(differ) - len(ties)}")
    if os.environ.get("SHOW"):
        for i in differ[:: max(1, len(differ) // int(os.environ["SHOW"]))]:
            print(i, ascii(lines[i][:100]), [processor.id_to_piece(x) for x in ids[i]][:12], other.encode(lines[i]).tokens[:12])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", required=True)
    parser.add_argument("--lines", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--bert", help="a published tokenizer.json without case")
    options = parser.parse_args()
    out, train = options.out, options.train
    with open(options.lines, encoding="utf-8", newline="\n") as file:
        lines = file.read().split("\n")[:-1]
    if not os.path.exists(os.path.join(out, "lines.txt")):
        os.makedirs(out, exist_ok=True)
        shutil.copy(options.lines, os.path.join(out, "lines.txt"))
    vocab_len = 2000 if options.small else 16000
    for name, lowercase in [("wordpiece-uncased", True), ("wordpiece-cased", False)]:
        word_piece(out, name, trained_word_piece(train, vocab_len, lowercase), lines, lowercase, decode=True)
    if options.bert:
        tokenizer = tokenizers.Tokenizer.from_file(options.bert)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        word_piece(out, "bert", tokenizer, lines, True, decode=True)
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write("".join(f"{key}\t{value}\n" for key, value in RULES))
        rules.flush()
        if options.small:
            normalize = {"normalization_rule_tsv": rules.name}
        else:
            normalize = {"normalization_rule_name": "nmt_nfkc"}
        common = {"vocab_size": vocab_len, "character_coverage": 0.98 if options.small else 0.995}
        unigram(out, "unigram", train, lines, **common, **normalize)
        unigram(
            out, "unigram-bytes", train, lines, **common, byte_fallback=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False,
        )


main()
