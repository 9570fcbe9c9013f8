static MODEL: attentive::Model<'static> = attentive::include_weights!("not_weights.attn");

fn main() {
    let _ = &MODEL;
}
