use shardmill::{Answers, Record};

shardmill::transform!(transform);

/// Drops empty records and ends the others with a newline.
fn transform(r: &Record, out: &mut Answers) {
    if r.data.is_empty() {
        return out.dropped();
    }
    out.answer().put(r.data).put(b"\n");
}
