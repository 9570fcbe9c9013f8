"""Texts and times of clips by `attentive transcribe` and by faster-whisper, in turns, on as many cores.

    pip install faster-whisper
    python3 benches/peers/python/whisper.py --attentive target/trainer/attentive --attn whisper/base.attn \
        --ctranslate2 whisper/base --language en CLIP.wav ...

Both take the likeliest next token, or with --beams the likeliest of several texts, and do not go on from the text before;
with --times both tell when what was said. Each
clip counts with the least of all rounds. The real-time factor is seconds of work for a second of sound.
"""

import argparse
import json
import os
import subprocess
import time

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--attentive", required=True, help="the program, as cargo built it")
parser.add_argument("--attn", required=True, help="the weights file that `attentive import` made")
parser.add_argument("--ctranslate2", required=True, help="the directory that it was made of")
parser.add_argument("--compute-type", default="float32", help="how faster-whisper computes: float32, int8 …")
parser.add_argument("--language", required=True)
parser.add_argument("--times", action="store_true", help="with the beginning and the end of each part")
parser.add_argument("--beams", type=int, default=1, help="texts that are pursued at once")
parser.add_argument("--cores", type=int, default=1)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("clips", nargs="+")
arguments = parser.parse_args()
if arguments.rounds < 1 or arguments.cores < 1:
    parser.error("--rounds and --cores should be at least 1")

# Before anything starts threads: what is started from here has these cores, too.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
import ctranslate2  # noqa: E402
import faster_whisper  # noqa: E402

model = faster_whisper.WhisperModel(
    arguments.ctranslate2,
    device="cpu",
    compute_type=arguments.compute_type,
    cpu_threads=arguments.cores,
    local_files_only=True,
)


def parts(segments):
    return [(round(begin, 2), round(end, 2), text.strip()) for begin, end, text in segments]


def ours():
    command = [arguments.attentive, "transcribe", arguments.attn, "--language", arguments.language, "--json"]
    command += ["--beams", str(arguments.beams)] + ["--times"] * arguments.times + arguments.clips
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in map(json.loads, said.splitlines()):
        segments = [(part["start"], part["end"], part["text"]) for part in line.get("segments", [])]
        yield line["text"].strip(), parts(segments), line["seconds"], line["sound_seconds"]


def theirs():
    for clip in arguments.clips:
        begun = time.perf_counter()
        segments, _ = model.transcribe(
            clip,
            language=arguments.language,
            beam_size=arguments.beams,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=not arguments.times,
        )
        segments = [(segment.start, segment.end, segment.text) for segment in segments]
        seconds = time.perf_counter() - begun
        text = "".join(text for _, _, text in segments).strip()
        yield text, parts(segments) if arguments.times else [], seconds


rounds = []
for number in range(arguments.rounds):
    rounds.append((list(ours()), list(theirs())))
    print(f"round {number + 1} of {arguments.rounds}", flush=True)

names = [f"faster-whisper {faster_whisper.__version__} (CTranslate2 {ctranslate2.__version__}, {arguments.compute_type})"]
print(f"\nattentive beside {names[0]}, {arguments.cores} of this machine's cores, least of {arguments.rounds} rounds\n")
print("| clip | seconds of sound | attentive, s | faster-whisper, s | same text" + (" and times |" if arguments.times else " |"))
print("|---|---|---|---|---|")
sums = [0.0, 0.0, 0.0]
same = 0
for index, clip in enumerate(arguments.clips):
    text, segments, _, sound = rounds[0][0][index]
    other, other_segments, _ = rounds[0][1][index]
    least = [min(each[side][index][2] for each in rounds) for side in (0, 1)]
    is_same = text == other and segments == other_segments
    same += is_same
    sums = [a + b for a, b in zip(sums, [sound, *least])]
    print(f"| {os.path.basename(clip)} | {sound:.1f} | {least[0]:.2f} | {least[1]:.2f} | {'yes' if is_same else 'no'} |")
    if not is_same:
        print(f"  ours:   {text} {segments}\n  theirs: {other} {other_segments}")
sound, mine, other = sums
print(
    f"\n{same} of {len(arguments.clips)} the same; real-time factor {mine / sound:.3f} beside {other / sound:.3f}: "
    f"attentive is {other / mine:.2f} times as fast"
)
