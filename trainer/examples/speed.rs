//! Tokens per second of one thread, forward and backward.
use attentive::*;
use attentive_trainer::{network::Network, params::Params};
fn main() {
    let config = Config {
        architecture: Architecture::Decoder, vocab_len: 1024, dim: 128, layers: 4, heads: 4, kv_heads: 4, head_dim: 32, hidden_dim: 384,
        context_len: 256, norm: Norm::Rms, norm_place: NormPlace::Pre, norm_eps: 1e-5, final_norm: true, ffn: Ffn::SwiGlu,
        position: Position::Rotary { style: RotaryStyle::Half, base: 10000.0 }, tied: true, biases: Biases::NONE, embedding_scale: 1.0,
        begin_of_text: None, end_of_text: None };
    let params = Params::random(config, 1);
    println!("{} parameters", config.parameters());
    let micro: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let threads: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let tokens: Vec<u32> = (0..micro * 256).map(|i| (i * 7919 % 1024) as u32).collect();
    let rounds = 32 / micro;
    let start = std::time::Instant::now();
    std::thread::scope(|s| for _ in 0..threads { s.spawn(|| {
        let network = Network::new(&params, attentive::kernels::Backend::detect(), true);
        for _ in 0..rounds { let (loss, g) = network.gradients(&tokens, &tokens, 256).unwrap(); std::hint::black_box((loss, g)); }
    }); });
    let s = start.elapsed().as_secs_f64();
    println!("{:.0} tokens/s", (rounds * threads * micro * 256) as f64 / s);
}
