static MODEL: attentive::Model<'static> = attentive::include_weights!("truncated.attn");

fn main() {
    let _ = &MODEL;
}
