// Severity names how strong an earthquake was: it appends "severity": "micro" (below 2), "minor"
// (below 4), "light" (below 5), "moderate" (below 6), "strong" (below 7) or "major" to a JSON object
// with a top-level number "mag". Records without a magnitude are dropped; what is not a JSON object,
// or has a "mag" that is not a number, fails.
import { Record, find2, setTransform } from "../../shardmill";
export { shardmill_abi_v1, shardmill_alloc, shardmill_transform } from "../../shardmill";

const QUOTE: u8 = 0x22;
const BACKSLASH: u8 = 0x5c;
const COMMA: u8 = 0x2c;
const COLON: u8 = 0x3a;
const OPEN: u8 = 0x7b;
const CLOSE: u8 = 0x7d;
const OPEN_LIST: u8 = 0x5b;
const CLOSE_LIST: u8 = 0x5d;

// What object() found: the last top-level "mag".
let mag: usize = 0;
let magEnd: usize = 0;
// And number().
let magnitude: f64 = 0;

const NAMES = ["micro", "minor", "light", "moderate", "strong", "major"].map<ArrayBuffer>((s: string) => String.UTF8.encode(s));
const BEFORE = String.UTF8.encode(', "severity": "');
const AFTER = String.UTF8.encode('"}\n');

function blanks(p: usize, end: usize): usize {
  while (p < end) {
    const c = load<u8>(p);
    if (c != 0x20 && c != 0x09 && c != 0x0a && c != 0x0d) break;
    p++;
  }
  return p;
}

// The address after the string that starts at p, or 0.
function text(p: usize, end: usize): usize {
  for (p++; p < end; p += 2) { // past the quote, or past a backslash and what it escapes
    p = find2(p, end, QUOTE, BACKSLASH);
    if (p < end && load<u8>(p) == QUOTE) return p + 1;
  }
  return 0;
}

// The address after any value, or 0. Values inside of objects and lists are only balanced.
function value(p: usize, end: usize): usize {
  if (p < end) {
    const c = load<u8>(p);
    if (c != QUOTE && c != OPEN && c != OPEN_LIST) {
      const start = p;
      while (p < end && load<u8>(p) != COMMA && load<u8>(p) != CLOSE && load<u8>(p) > 0x20) p++;
      return p > start ? p : 0;
    }
  }
  let depth = 0;
  while (p < end) {
    const c = load<u8>(p);
    if (c == QUOTE) {
      p = text(p, end);
      if (p == 0) return 0;
    } else {
      if (c == OPEN || c == OPEN_LIST) depth++;
      if (c == CLOSE || c == CLOSE_LIST) depth--;
      p++;
    }
    if (depth == 0) return p;
  }
  return 0;
}

// Reads a JSON number into magnitude.
function number(p: usize, end: usize): bool {
  let sign: f64 = 1, scale: f64 = 1, v: f64 = 0;
  let digits = 0, exponent = 0;
  if (p < end && load<u8>(p) == 0x2d) {
    sign = -1;
    p++;
  }
  for (; p < end && digit(p); p++, digits++) v = v * 10 + <f64>(load<u8>(p) - 0x30);
  if (p < end && load<u8>(p) == 0x2e)
    for (p++; p < end && digit(p); p++, digits++) v += <f64>(load<u8>(p) - 0x30) * (scale /= 10);
  if (p < end && digits > 0 && (load<u8>(p) | 0x20) == 0x65) {
    p++;
    let negative = false;
    if (p < end && (load<u8>(p) == 0x2d || load<u8>(p) == 0x2b)) {
      negative = load<u8>(p) == 0x2d;
      p++;
    }
    for (; p < end && digit(p) && exponent < 400; p++) exponent = exponent * 10 + <i32>(load<u8>(p) - 0x30);
    for (; exponent > 0; exponent--) v = negative ? v / 10 : v * 10;
  }
  magnitude = v * sign;
  return digits > 0 && p == end;
}

// @ts-ignore: decorator
@inline function digit(p: usize): bool {
  return load<u8>(p) - 0x30 <= 9;
}

// Walks a JSON object: the address of its closing brace, or 0.
function object(p: usize, end: usize): usize {
  mag = 0;
  p = blanks(p, end);
  if (p == end || load<u8>(p) != OPEN) return 0;
  p = blanks(p + 1, end);
  while (p < end && load<u8>(p) != CLOSE) {
    const key = p;
    if (load<u8>(p) != QUOTE) return 0;
    p = text(p, end);
    if (p == 0) return 0;
    const isMag = p - key == 5 && load<u32>(key) == 0x67616d22; // "mag
    p = blanks(p, end);
    if (p == end || load<u8>(p) != COLON) return 0;
    const start = blanks(p + 1, end);
    p = value(start, end);
    if (p == 0) return 0;
    if (isMag) {
      mag = start;
      magEnd = p;
    }
    p = blanks(p, end);
    if (p < end && load<u8>(p) == COMMA) {
      p = blanks(p + 1, end);
      if (p < end && load<u8>(p) == CLOSE) return 0;
    } else if (p < end && load<u8>(p) != CLOSE) {
      return 0;
    }
  }
  return p < end && blanks(p + 1, end) == end ? p : 0;
}

function severity(m: f64): i32 {
  return m < 2 ? 0 : m < 4 ? 1 : m < 5 ? 2 : m < 6 ? 3 : m < 7 ? 4 : 5;
}

setTransform((r: Record): void => {
  const brace = object(r.data, r.data + r.length);
  if (brace == 0) {
    r.failed();
  } else if (mag == 0 || (magEnd - mag == 4 && load<u32>(mag) == 0x6c6c756e)) { // null
    r.dropped();
  } else if (!number(mag, magEnd)) {
    r.failed();
  } else {
    const name = unchecked(NAMES[severity(magnitude)]);
    r.begin();
    r.put(r.data, <u32>(brace - r.data));
    r.put(changetype<usize>(BEFORE), BEFORE.byteLength);
    r.put(changetype<usize>(name), name.byteLength);
    r.put(changetype<usize>(AFTER), AFTER.byteLength);
    r.end();
  }
});
