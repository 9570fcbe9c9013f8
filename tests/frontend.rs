//! Log-mel frames against f64 from the definition, and against a reference implementation's; patches of pictures.

use attentive::frontend::{
    IntegerListener, Levels, Listener, Mel, MelError, MelSpec, MelTables, PatchSpec,
};
use std::f64::consts::TAU;

/// Signal of `tests/reference/make_mel.py`.
fn signal(len: usize) -> Vec<f32> {
    let mut state = 12345_u32;
    let sample = |i: usize| {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0x7fff_ffff;
        let noise = f64::from((state >> 16) & 0x7fff) / 32768.0 - 0.5;
        let t = i as f64 / 16_000.0;
        let gate = (i / 4000 % 2) as f64;
        let rising = 0.3 * (TAU * (300.0 + 400.0 * t) * t).sin();
        (rising + 0.2 * (TAU * 2500.0 * t).sin() * gate + 0.01 * noise) as f32
    };
    (0..len).map(sample).collect()
}

/// Energies in the bands, from the definition.
fn oracle(spec: &MelSpec, samples: &[f32]) -> Vec<f64> {
    let len = spec.window as f64;
    let power = |k: usize| {
        let (mut re, mut im) = (0.0, 0.0);
        for (n, x) in samples.iter().enumerate() {
            let x = f64::from(*x) * (0.5 - 0.5 * (TAU * n as f64 / len).cos());
            let angle = TAU * ((n * k) % spec.window) as f64 / len;
            re += x * angle.cos();
            im -= x * angle.sin();
        }
        re * re + im * im
    };
    let powers: Vec<f64> = (0..=spec.window / 2).map(power).collect();
    let step = 6.4_f64.ln() / 27.0;
    let mel = |hz: f64| match hz < 1000.0 {
        true => hz * 3.0 / 200.0,
        false => 15.0 + (hz / 1000.0).ln() / step,
    };
    let hz = |mel: f64| match mel < 15.0 {
        true => mel * 200.0 / 3.0,
        false => 1000.0 * ((mel - 15.0) * step).exp(),
    };
    let (low, high) = (mel(spec.low.into()), mel(spec.high.into()));
    let corner = |index: usize| hz(low + (high - low) * index as f64 / (spec.bins + 1) as f64);
    let band = |band: usize| {
        let [from, top, to] = [0, 1, 2].map(|at| corner(band + at));
        let weigh = |(k, power): (usize, &f64)| {
            let hz = k as f64 * f64::from(spec.sample_rate) / len;
            let weight = ((hz - from) / (top - from)).min((to - hz) / (to - top));
            weight.max(0.0) * power
        };
        powers.iter().enumerate().map(weigh).sum::<f64>() * 2.0 / (to - from)
    };
    (0..spec.bins).map(band).collect()
}

fn specs() -> Vec<MelSpec> {
    let windows = [8, 24, 40, 64, 400, 480, 512, 600, 1000, 1024, 2048, 3072];
    let spec = |(index, window): (usize, usize)| MelSpec {
        sample_rate: [16_000, 8_000, 44_100][index % 3],
        window,
        hop: 1 + window / 3,
        bins: [1, 40, 80][index % 3],
        low: [0.0, 20.0, 300.0][index % 3],
        high: [8_000.0, 3_800.0, 22_050.0][index % 3],
    };
    windows.into_iter().enumerate().map(spec).collect()
}

#[test]
fn energies_equal_the_oracle() {
    for spec in specs() {
        let samples = signal(spec.window);
        let mut memory = vec![f32::NAN; spec.floats()];
        let mut mel = Mel::new(spec, &mut memory).expect("a possible specification");
        let mut energies = vec![f32::NAN; spec.bins];
        mel.energies(&samples, &mut energies)
            .expect("right lengths");
        let expected = oracle(&spec, &samples);
        let largest = expected.iter().fold(0.0_f64, |a, b| a.max(*b));
        for (band, (have, need)) in energies.iter().zip(&expected).enumerate() {
            // Amplitudes are sums in f32 of what is as loud as the loudest band; a band may be a small piece of a
            // step, which ends where f32 says.
            let error = (f64::from(*have) - need).abs();
            assert!(
                error <= 1e-5 * need + 5e-7 * (need * largest).sqrt() + 1e-13 * largest,
                "{spec:?} band {band}: {have} instead of {need}"
            );
        }
    }
}

const LEVELS: Levels = Levels {
    mean: -0.2,
    deviation: 0.6,
    scale: 0.03,
};

/// Levels of samples without a float, in parts of uneven lengths.
fn integer_levels(spec: &MelSpec, samples: &[i16]) -> Vec<i8> {
    let mut words = vec![0; spec.table_words()];
    MelTables::fill(spec, &LEVELS, &mut words).expect("a possible specification");
    let tables = MelTables::new(spec, &words).expect("its tables");
    let mut memory = vec![i32::MIN; spec.integer_listener_words()];
    let mut listener = IntegerListener::new(&tables, &mut memory).expect("its memory");
    let mut levels = Vec::new();
    let mut rest = samples;
    for len in (0..).map(|part| 1 + part * 37 % 501) {
        let (part, behind) = rest.split_at(len.min(rest.len()));
        listener.hear(part, |level| levels.push(level));
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    levels
}

/// How far levels are from those of the floats: in how many, and at most among energies at most 60 dB below a frame's
/// loudest.
fn compare_levels(spec: &MelSpec, samples: &[i16]) -> (usize, f32, usize) {
    let mut memory = vec![0.0; spec.listener_floats()];
    let mut listener = Listener::new(*spec, &mut memory).expect("a possible specification");
    let mut frames = Vec::new();
    listener.hear_i16(samples, |frame| frames.push(frame.to_vec()));
    let levels = integer_levels(spec, samples);
    assert_eq!(levels.len(), frames.len() * spec.bins);
    let (mut others, mut most) = (0, 0.0f32);
    for (frame, levels) in frames.iter().zip(levels.chunks(spec.bins)) {
        let loudest = frame.iter().copied().fold(f32::MIN, f32::max);
        for (x, level) in frame.iter().zip(levels) {
            let exact = (x - LEVELS.mean) / LEVELS.deviation / LEVELS.scale;
            let off = (exact.clamp(-128.0, 127.0) - f32::from(*level)).abs();
            others += usize::from(off > 0.6);
            // A unit is 40 dB.
            if *x > loudest - 1.5 {
                most = most.max(off);
            }
        }
    }
    (others, most, levels.len())
}

#[test]
fn integer_levels_are_those_of_the_floats() {
    let to_i16 = |x: &f32| (x * 32_768.0) as i16;
    let mut all = (0, 0);
    for spec in specs() {
        let samples: Vec<i16> = signal(4 * spec.window + 9000).iter().map(to_i16).collect();
        let (others, most, count) = compare_levels(&spec, &samples);
        all = (all.0 + others, all.1 + count);
        assert!(most < 0.8, "{spec:?}: {most} off");
    }
    assert!(all.0 * 100 < all.1, "{} of {} levels", all.0, all.1);
}

#[test]
fn integer_levels_of_speech_are_those_of_the_floats() {
    let spec = MelSpec {
        bins: 40,
        ..MelSpec::WHISPER
    };
    for word in ["stop", "seven", "left", "yes", "other"] {
        let path = format!("firmware-example/inputs/keyword-{word}.wav");
        let bytes = std::fs::read(path).expect("a clip");
        let samples: Vec<i16> = bytes[44..]
            .as_chunks()
            .0
            .iter()
            .map(|two| i16::from_le_bytes(*two))
            .collect();
        for shift in [0, 6, 12] {
            let quiet: Vec<i16> = samples.iter().map(|x| x >> shift).collect();
            let (others, most, count) = compare_levels(&spec, &quiet);
            println!("{word} {shift}: {others} of {count}, {most}");
            assert!(
                others * 50 < count && most < 0.8,
                "{word} {shift}: {others} {most}"
            );
        }
    }
}

#[test]
fn extremes_stay_in_their_numbers() {
    let spec = MelSpec {
        bins: 40,
        ..MelSpec::WHISPER
    };
    let silence = ((-10.0_f32 + 4.0) / 4.0 - LEVELS.mean) / LEVELS.deviation / LEVELS.scale;
    assert!(
        integer_levels(&spec, &[0; 1000])
            .iter()
            .all(|level| f32::from(*level) == silence.round())
    );
    for (name, samples) in [
        ("the lowest", vec![i16::MIN; 3000]),
        ("as fast as can be", [i16::MIN, i16::MAX].repeat(1500)),
        ("one sample", [vec![0; 599], vec![1], vec![0; 900]].concat()),
    ] {
        let (_, most, _) = compare_levels(&spec, &samples);
        assert!(most < 0.8, "{name}: {most}");
    }
    let mut words = vec![0; spec.table_words()];
    let impossible = MelSpec { hop: 0, ..spec };
    assert!(MelTables::fill(&impossible, &LEVELS, &mut words).is_err());
    words.pop();
    assert!(MelTables::fill(&spec, &LEVELS, &mut words).is_err());
    assert!(MelTables::new(&spec, &words).is_err());
    words.push(0);
    let tables = MelTables::new(&spec, &words).expect("as many words");
    let mut memory = vec![0; spec.integer_listener_words() - 1];
    assert!(IntegerListener::new(&tables, &mut memory).is_err());
}

#[test]
fn whisper_frames_equal_the_reference() {
    let spec = MelSpec::WHISPER;
    let samples = signal(16_000);
    let mut memory = vec![0.0; spec.floats()];
    let mut mel = Mel::new(spec, &mut memory).expect("Whisper's specification");
    let mut frames = vec![0.0; spec.frames(samples.len()) * spec.bins];
    mel.whisper(&samples, &mut frames).expect("right lengths");
    let reference = include_str!("data/whisper_mel.csv");
    let mut compared = 0;
    for line in reference.lines() {
        let (index, values) = line.split_once(',').expect("a frame's number first");
        let index: usize = index.parse().expect("a number");
        let frame = &frames[index * spec.bins..][..spec.bins];
        let values: Vec<f32> = values.split(',').map(|x| x.parse().unwrap()).collect();
        assert_eq!(values.len(), spec.bins);
        for (band, (have, need)) in frame.iter().zip(values).enumerate() {
            // The quietest bands are 80 dB below the loudest.
            assert!(
                (have - need).abs() < 1e-4,
                "frame {index} band {band}: {have} instead of {need}"
            );
        }
        compared += 1;
    }
    assert_eq!(compared, 8);
}

#[test]
fn a_listener_hears_the_same_in_pieces() {
    for (spec, piece) in specs()
        .into_iter()
        .zip([1, 7, 160, 1000].into_iter().cycle())
    {
        for hop in [spec.hop, 2 * spec.window + 3] {
            let spec = MelSpec { hop, ..spec };
            let samples: Vec<i16> = signal(3 * spec.window + 50)
                .iter()
                .map(|x| (x * 32_768.0) as i16)
                .collect();
            let as_floats: Vec<f32> = samples.iter().map(|x| f32::from(*x) / 32_768.0).collect();
            let mut memory = vec![f32::NAN; spec.listener_floats()];
            let mut listener = Listener::new(spec, &mut memory).expect("a possible one");
            let mut heard: Vec<Vec<f32>> = Vec::new();
            for samples in samples.chunks(piece) {
                listener.hear_i16(samples, |frame| heard.push(frame.to_vec()));
            }
            let mut memory = vec![f32::NAN; spec.floats()];
            let mut mel = Mel::new(spec, &mut memory).expect("a possible one");
            let windows = as_floats.windows(spec.window).step_by(spec.hop);
            assert_eq!(heard.len(), windows.clone().count(), "{spec:?}");
            for (window, frame) in windows.zip(&heard) {
                let mut energies = vec![0.0; spec.bins];
                mel.energies(window, &mut energies).expect("right lengths");
                for (energy, x) in energies.iter().zip(frame) {
                    let expected = (energy.max(1e-10).log10() + 4.0) / 4.0;
                    assert!((expected - x).abs() < 1e-6, "{x} instead of {expected}");
                }
            }
        }
    }
}

#[test]
fn a_listener_forgets() {
    let spec = MelSpec::WHISPER;
    let mut memory = vec![0.0; spec.listener_floats()];
    let mut listener = Listener::new(spec, &mut memory).expect("Whisper's");
    let mut first = Vec::new();
    listener.hear(&signal(400), |frame| first.extend_from_slice(frame));
    listener.hear(&[0.9; 333], |_| {});
    listener.forget();
    let mut again = Vec::new();
    listener.hear(&signal(400), |frame| again.extend_from_slice(frame));
    assert!(!first.is_empty());
    assert_eq!(first, again);
}

#[test]
fn silence_is_a_number() {
    let spec = MelSpec::WHISPER;
    let mut memory = vec![0.0; spec.floats()];
    let mut mel = Mel::new(spec, &mut memory).expect("Whisper's");
    let mut frames = vec![f32::NAN; 10 * 80];
    mel.whisper(&[0.0; 1600], &mut frames)
        .expect("right lengths");
    assert!(frames.iter().all(|x| *x == -1.5));
}

#[test]
fn what_is_impossible_is_an_error() {
    let good = MelSpec::WHISPER;
    for (spec, field) in [
        (
            MelSpec {
                sample_rate: 0,
                ..good
            },
            "sample_rate",
        ),
        (MelSpec { window: 0, ..good }, "window"),
        (
            MelSpec {
                window: 401,
                ..good
            },
            "window",
        ),
        (MelSpec { hop: 0, ..good }, "hop"),
        (MelSpec { bins: 0, ..good }, "bins"),
        (MelSpec { low: -1.0, ..good }, "low"),
        (
            MelSpec {
                low: f32::NAN,
                ..good
            },
            "high",
        ),
        (
            MelSpec {
                high: 8_001.0,
                ..good
            },
            "high",
        ),
        (
            MelSpec {
                high: f32::NAN,
                ..good
            },
            "high",
        ),
    ] {
        let mut memory = vec![0.0; 10_000];
        let error = Mel::new(spec, &mut memory).expect_err("an impossible specification");
        assert!(error.to_string().contains(field), "{error}");
        assert_eq!(Listener::new(spec, &mut memory).err(), Some(error));
    }
    let mut memory = vec![0.0; good.floats()];
    let short = Mel::new(good, &mut memory[1..]).expect_err("too little memory");
    let (need, have) = (good.floats(), good.floats() - 1);
    assert!(matches!(short, MelError::Length { need: n, have: h, .. } if (n, h) == (need, have)));
    let mut mel = Mel::new(good, &mut memory).expect("enough memory");
    assert!(mel.energies(&[0.0; 399], &mut [0.0; 80]).is_err());
    assert!(mel.energies(&[0.0; 400], &mut [0.0; 79]).is_err());
    assert!(mel.whisper(&[0.0; 200], &mut [0.0; 80]).is_err());
    assert!(mel.whisper(&[0.0; 320], &mut [0.0; 80]).is_err());
}

const GREY: PatchSpec = PatchSpec {
    height: 6,
    width: 4,
    channels: 1,
    patch: 2,
    mean: [0.0; 4],
    deviation: [1.0; 4],
};

#[test]
fn patches_are_where_they_belong() {
    for (height, width, channels, patch) in [
        (6, 4, 1, 2),
        (28, 28, 1, 7),
        (8, 12, 3, 4),
        (5, 10, 4, 5),
        (3, 3, 2, 1),
    ] {
        let spec = PatchSpec {
            height,
            width,
            channels,
            patch,
            mean: [0.1, 0.2, 0.3, 0.4],
            deviation: [0.5, 0.25, 2.0, 1.0],
        };
        let pixels: Vec<u8> = (0..height * width * channels)
            .map(|at| (at * 89 % 251) as u8)
            .collect();
        let mut out = vec![f32::NAN; spec.patches() * spec.patch_len()];
        spec.cut(&pixels, &mut out).expect("right lengths");
        let mut at = 0;
        for row in (0..height).step_by(patch) {
            for column in (0..width).step_by(patch) {
                for channel in 0..channels {
                    for (y, x) in (0..patch * patch).map(|at| (at / patch, at % patch)) {
                        let pixel = ((row + y) * width + column + x) * channels + channel;
                        let value = f64::from(pixels[pixel]) / 255.0;
                        let expected = (value - f64::from(spec.mean[channel]))
                            / f64::from(spec.deviation[channel]);
                        assert!(
                            (f64::from(out[at]) - expected).abs() < 1e-6,
                            "{spec:?} at {at}"
                        );
                        at += 1;
                    }
                }
            }
        }
        assert_eq!(at, out.len());
    }
}

#[test]
fn impossible_patches_are_an_error() {
    for (spec, field) in [
        (PatchSpec { patch: 0, ..GREY }, "patch"),
        (PatchSpec { height: 5, ..GREY }, "height"),
        (PatchSpec { width: 0, ..GREY }, "width"),
        (
            PatchSpec {
                channels: 5,
                ..GREY
            },
            "channels",
        ),
        (
            PatchSpec {
                channels: 0,
                ..GREY
            },
            "channels",
        ),
        (
            PatchSpec {
                deviation: [0.0; 4],
                ..GREY
            },
            "deviation",
        ),
        (
            PatchSpec {
                deviation: [f32::NAN; 4],
                ..GREY
            },
            "deviation",
        ),
        (
            PatchSpec {
                height: usize::MAX - 1,
                ..GREY
            },
            "size",
        ),
    ] {
        let error = spec.cut(&[0; 24], &mut [0.0; 24]).expect_err("impossible");
        assert!(error.to_string().contains(field), "{error}");
    }
    assert!(GREY.cut(&[0; 23], &mut [0.0; 24]).is_err());
    assert!(GREY.cut(&[0; 24], &mut [0.0; 23]).is_err());
}
