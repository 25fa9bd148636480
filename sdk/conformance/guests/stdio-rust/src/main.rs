//! The stdio guest of the conformance kit (../../README.md), with Rust's standard library.
use std::io::{self, BufRead, Write};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let event = line?;
        if event.starts_with(r#"{"do":"exit""#) {
            std::process::exit(3);
        }
        if event.starts_with(r#"{"do":"log""#) {
            eprintln!("hello");
        }
        let answer = match event.starts_with(r#"{"do":"error""#) {
            true => r#"{"errorType":"Oops","errorMessage":"boom"}"#.to_string() + "\n",
            false => format!("{{\"got\":{event}}}\n"),
        };
        out.write_all(answer.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}
