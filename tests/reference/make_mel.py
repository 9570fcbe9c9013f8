"""Makes tests/data/whisper_mel.csv: frames of a signal as faster-whisper hears it.

    pip install faster-whisper==1.2.1
    python3 tests/reference/make_mel.py > tests/data/whisper_mel.csv
"""

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor

SAMPLES = 16_000


def signal():
    """A rising tone, a second one that comes and goes, and noise; tests/frontend.rs computes the same."""
    out, state = np.zeros(SAMPLES), 12345
    for i in range(SAMPLES):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        noise = ((state >> 16) & 0x7FFF) / 32768.0 - 0.5
        t = i / 16000
        gate = (i // 4000) % 2
        out[i] = 0.3 * np.sin(2 * np.pi * (300 + 400 * t) * t) + 0.2 * np.sin(2 * np.pi * 2500 * t) * gate + 0.01 * noise
    return out.astype(np.float32)


frames = FeatureExtractor(feature_size=80)(signal(), padding=0)
for index in (0, 1, 2, 31, 50, 97, 98, 99):
    print(",".join([str(index)] + [f"{x:.6f}" for x in frames[:, index]]))
