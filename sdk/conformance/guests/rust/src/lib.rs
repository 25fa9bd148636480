//! The native batch guest of the conformance kit (../../README.md), with sdk/rust.
use shardmill::{Level, Record, Refused};

shardmill::transform!(transform);

fn found(r: &mut Record, value: Option<&[u8]>) {
    r.ok(value.unwrap_or(b"absent"));
}

fn code(r: &mut Record, result: Result<(), Refused>) {
    r.ok(match result {
        Ok(()) => b"0",
        Err(Refused::TooLarge) => b"1",
        Err(Refused::TooMany) => b"2",
    });
}

fn text(b: &[u8]) -> &str {
    std::str::from_utf8(b).unwrap()
}

fn transform(r: &mut Record) {
    let Some((&command, arg)) = r.data.split_first() else {
        return r.ok(b"empty");
    };
    match command {
        b'=' => r.ok(arg),
        b'2' => {
            r.answer().put(b"a:").put(arg);
            r.answer().put(b"b:").put(arg);
        }
        b'd' => r.dropped(),
        b'f' => r.failed(),
        b's' => {}
        b'k' => {
            r.answer().put(arg).key("day", "01").key("straße", text(arg));
        }
        b'p' => found(r, r.partition_key()),
        b'q' => found(r, r.sequence_number().map(str::as_bytes)),
        b't' => {
            let arrived = r.arrived().map(|v| v.to_string());
            found(r, arrived.as_deref().map(str::as_bytes))
        }
        b'c' => found(r, shardmill::config(text(arg)).as_deref().map(str::as_bytes)),
        b'l' => {
            shardmill::log(Level::Warn, text(arg));
            r.dropped()
        }
        b'!' => r.fail_batch(text(arg)),
        b'x' => panic!("as told"),
        b'n' => {
            let mut answer = r.answer();
            for _ in 0..1000 {
                answer.put(arg);
            }
        }
        b'M' => {
            shardmill::metric("seen_total", 1.0);
            shardmill::metric(text(arg), 2.5);
            r.dropped()
        }
        b'g' => found(r, shardmill::state_get(text(arg)).as_deref()),
        b'S' => {
            let at = arg.iter().position(|&b| b == b'=').unwrap();
            code(r, shardmill::state_put(text(&arg[..at]), &arg[at + 1..]))
        }
        b'E' => {
            let mut part = arg.splitn(3, |&b| b == b'|');
            let (stream, key, data) = (part.next().unwrap(), part.next().unwrap(), part.next().unwrap());
            code(r, shardmill::emit(text(stream), text(key), data))
        }
        _ => r.fail_batch("unknown command"),
    }
}
