//! Severity names how strong an earthquake was: it appends "severity": "micro" (below 2), "minor"
//! (below 4), "light" (below 5), "moderate" (below 6), "strong" (below 7) or "major" to a JSON object
//! with a top-level number "mag". Records without a magnitude are dropped; what is not a JSON
//! object, or has a "mag" that is not a number, fails.
use shardmill::{find2, Answers, Record};

shardmill::transform!(transform);

fn transform(r: &Record, out: &mut Answers) {
    let Some((brace, mag)) = object(r.data) else {
        return out.failed();
    };
    let mag = match mag {
        None | Some(b"null") => return out.dropped(),
        Some(mag) => mag,
    };
    let Some(v) = std::str::from_utf8(mag).ok().and_then(|s| s.parse::<f64>().ok()) else {
        return out.failed();
    };
    out.answer().put(&r.data[..brace]).put(b", \"severity\": \"").put(severity(v)).put(b"\"}\n");
}

fn severity(magnitude: f64) -> &'static [u8] {
    match magnitude {
        m if m < 2.0 => b"micro",
        m if m < 4.0 => b"minor",
        m if m < 5.0 => b"light",
        m if m < 6.0 => b"moderate",
        m if m < 7.0 => b"strong",
        _ => b"major",
    }
}

/// Walks a JSON object: the position of its closing brace, and the last top-level "mag".
fn object(b: &[u8]) -> Option<(usize, Option<&[u8]>)> {
    let mut mag = None;
    let mut p = blanks(b, 0);
    if b.get(p) != Some(&b'{') {
        return None;
    }
    p = blanks(b, p + 1);
    while *b.get(p)? != b'}' {
        let key = p;
        if b[p] != b'"' {
            return None;
        }
        p = text(b, p)?;
        let is_mag = &b[key..p] == b"\"mag\"";
        p = blanks(b, p);
        if *b.get(p)? != b':' {
            return None;
        }
        let start = blanks(b, p + 1);
        p = value(b, start)?;
        if is_mag {
            mag = Some(&b[start..p]);
        }
        p = blanks(b, p);
        match *b.get(p)? {
            b',' => {
                p = blanks(b, p + 1);
                if b.get(p) == Some(&b'}') {
                    return None;
                }
            }
            b'}' => {}
            _ => return None,
        }
    }
    (blanks(b, p + 1) == b.len()).then_some((p, mag))
}

fn blanks(b: &[u8], mut p: usize) -> usize {
    while p < b.len() && matches!(b[p], b' ' | b'\t' | b'\n' | b'\r') {
        p += 1;
    }
    p
}

/// The position after any value. Values inside of objects and lists are only balanced.
fn value(b: &[u8], mut p: usize) -> Option<usize> {
    if !matches!(*b.get(p)?, b'"' | b'{' | b'[') {
        let start = p;
        while p < b.len() && b[p] != b',' && b[p] != b'}' && b[p] > b' ' {
            p += 1;
        }
        return (p > start).then_some(p);
    }
    let mut depth = 0;
    while p < b.len() {
        match b[p] {
            b'"' => p = text(b, p)? - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        p += 1;
        if depth == 0 {
            return Some(p);
        }
    }
    None
}

/// The position after the string that starts at p.
fn text(b: &[u8], mut p: usize) -> Option<usize> {
    p += 1;
    loop {
        p += find2(b.get(p..)?, b'"', b'\\');
        if *b.get(p)? == b'"' {
            return Some(p + 1);
        }
        p += 2; // past a backslash and what it escapes
    }
}
