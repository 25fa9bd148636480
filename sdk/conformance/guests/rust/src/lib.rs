//! The native batch guest of the conformance kit (../../README.md), with sdk/rust.
use shardmill::{Answers, Level, Record, Refused};

shardmill::transform!(transform);

fn found(out: &mut Answers, value: Option<&[u8]>) {
    out.ok(value.unwrap_or(b"absent"));
}

fn code(out: &mut Answers, result: Result<(), Refused>) {
    out.ok(match result {
        Ok(()) => b"0",
        Err(Refused::TooLarge) => b"1",
        Err(Refused::TooMany) => b"2",
    });
}

fn text(b: &[u8]) -> &str {
    std::str::from_utf8(b).unwrap()
}

fn transform(r: &Record, out: &mut Answers) {
    let Some((&command, arg)) = r.data.split_first() else {
        return out.ok(b"empty");
    };
    match command {
        b'=' => out.ok(arg),
        b'2' => {
            out.answer().put(b"a:").put(arg);
            out.answer().put(b"b:").put(arg);
        }
        b'd' => out.dropped(),
        b'f' => out.failed(),
        b's' => {}
        b'k' => {
            out.answer().put(arg).key("day", "01").key("straße", text(arg));
        }
        b'p' => found(out, r.partition_key()),
        b'q' => found(out, r.sequence_number().map(str::as_bytes)),
        b't' => {
            let arrived = r.arrived().map(|v| v.to_string());
            found(out, arrived.as_deref().map(str::as_bytes))
        }
        b'c' => found(out, shardmill::config(text(arg)).as_deref().map(str::as_bytes)),
        b'l' => {
            shardmill::log(Level::Warn, text(arg));
            out.dropped()
        }
        b'!' => out.fail_batch(text(arg)),
        b'x' => panic!("as told"),
        b'n' => {
            let mut answer = out.answer();
            for _ in 0..1000 {
                answer.put(arg);
            }
        }
        b'M' => {
            shardmill::metric("seen_total", 1.0);
            shardmill::metric(text(arg), 2.5);
            out.dropped()
        }
        b'g' => found(out, shardmill::state_get(text(arg)).as_deref()),
        b'S' => {
            let at = arg.iter().position(|&b| b == b'=').unwrap();
            code(out, shardmill::state_put(text(&arg[..at]), &arg[at + 1..]))
        }
        b'E' => {
            let mut part = arg.splitn(3, |&b| b == b'|');
            let (stream, key, data) = (part.next().unwrap(), part.next().unwrap(), part.next().unwrap());
            code(out, shardmill::emit(text(stream), text(key), data))
        }
        _ => out.fail_batch("unknown command"),
    }
}
