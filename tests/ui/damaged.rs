static MODEL: attentive::Model<'static> = attentive::include_weights!("damaged.attn");

fn main() {
    let _ = &MODEL;
}
