// shardmill.ts: write a shardmill transform in AssemblyScript. No other package is needed.
//
// A transform is one function that looks at one record and says what becomes of it:
//
//     import { Record, setTransform } from "./shardmill";
//     export { shardmill_abi_v1, shardmill_alloc, shardmill_transform } from "./shardmill";
//
//     setTransform((r: Record): void => {
//       if (r.length == 0) { r.dropped(); return; }
//       r.begin();
//       r.put(r.data, r.length);
//       r.putText("\n");
//       r.end();
//     });
//
// Build: asc transform.ts -o transform.wasm -O3 --runtime incremental
//
// The host hands over a batch, the function is called once for each of its records, in order, and
// the answers go back together. A record may get several answers that begin with begin() (or ok()),
// kept in order; dropped() and failed() must be its only answer; a record without an answer counts
// as failed. Data is bytes at an address: r.data and r.length, valid until the function returns;
// text() makes a string of them, which costs a copy. The contract below it is sdk/ABI.md.

// @ts-ignore: decorator
@external("shardmill", "log") declare function hostLog(level: u32, p: usize, n: u32): void;
// @ts-ignore: decorator
@external("shardmill", "error") declare function hostError(p: usize, n: u32): void;
// @ts-ignore: decorator
@external("shardmill", "config") declare function hostConfig(k: usize, kn: u32, buf: usize, cap: u32): u32;
// @ts-ignore: decorator
@external("shardmill", "metric") declare function hostMetric(k: usize, kn: u32, value: f64): void;
// @ts-ignore: decorator
@external("shardmill", "state_get") declare function hostStateGet(k: usize, kn: u32, buf: usize, cap: u32): u32;
// @ts-ignore: decorator
@external("shardmill", "state_put") declare function hostStatePut(k: usize, kn: u32, p: usize, n: u32): u32;
// @ts-ignore: decorator
@external("shardmill", "emit") declare function hostEmit(s: usize, sn: u32, k: usize, kn: u32, p: usize, n: u32): u32;

/** Meta tags that the host sends. */
export const PARTITION_KEY: u8 = 2;
export const SEQUENCE_NUMBER: u8 = 3;
export const ARRIVED: u8 = 4;

/** Levels of log(). */
export const DEBUG: u32 = 0;
export const INFO: u32 = 1;
export const WARN: u32 = 2;
export const ERROR: u32 = 3;

const ABSENT: u32 = 0xffffffff;

// The two buffers, which grow and are never freed.
let batch: usize = 0;
let batchRoom: u32 = 0;
let reply: usize = 0;
let replyRoom: u32 = 0;
let used: u32 = 0; // bytes of the reply
let count: u32 = 0; // answers in it
let lengthAt: u32 = 0; // of the open answer: where the length of its data goes
let metaAt: u32 = 0; // and where that of its meta goes; 0 while data may be added
let failure: string | null = null;

function grow(n: u32): void {
  const room = max<u32>(used + n, replyRoom + (replyRoom >> 1));
  reply = replyRoom == 0 ? heap.alloc(room) : heap.realloc(reply, room);
  replyRoom = room;
}

// @ts-ignore: decorator
@inline function take(n: u32): usize {
  if (replyRoom - used < n) grow(n);
  const p = reply + used;
  used += n;
  return p;
}

/** One record of the batch under way. */
export class Record {
  index: u32 = 0;
  /** The address of the record's bytes. */
  data: usize = 0;
  /** How many there are. */
  length: u32 = 0;
  meta: usize = 0;
  metaLength: u32 = 0;

  /** The record's bytes as text, which must be UTF-8. */
  text(): string {
    return String.UTF8.decodeUnsafe(this.data, this.length);
  }

  /** Answers: deliver these bytes. */
  ok(p: usize, n: u32): void {
    this.begin();
    this.put(p, n);
    this.end();
  }

  /** Answers: deliver this text. */
  okText(s: string): void {
    this.begin();
    this.putText(s);
    this.end();
  }

  /** Begins an answer that delivers what is put. Follow with put, then key, then end. */
  begin(): void {
    this.head(0);
  }

  /** Adds bytes to the open answer. */
  put(p: usize, n: u32): void {
    memory.copy(take(n), p, n);
  }

  /** Adds text to the open answer, as UTF-8. */
  putText(s: string): void {
    const b = String.UTF8.encode(s);
    this.put(changetype<usize>(b), b.byteLength);
  }

  /** Gives the open answer a partition key for dynamic partitioning. No put may follow. */
  key(name: string, value: string): void {
    this.closeData();
    const k = String.UTF8.encode(name);
    const v = String.UTF8.encode(value);
    const n: u32 = k.byteLength + 1 + v.byteLength;
    const p = take(5 + n);
    store<u8>(p, 64);
    store<u32>(p + 1, n);
    memory.copy(p + 5, changetype<usize>(k), k.byteLength);
    store<u8>(p + 5 + k.byteLength, 0);
    memory.copy(p + 6 + k.byteLength, changetype<usize>(v), v.byteLength);
    store<u32>(reply + metaAt, used - metaAt - 4);
  }

  /** Ends the open answer. */
  end(): void {
    this.closeData();
  }

  /** Answers: done, deliver nothing. */
  dropped(): void {
    this.head(1);
    this.closeData();
  }

  /** Answers: the record cannot be processed. */
  failed(): void {
    this.head(2);
    this.closeData();
  }

  /** The partition key, "" if the source has none. */
  partitionKey(): string {
    return this.find(PARTITION_KEY) ? String.UTF8.decodeUnsafe(found, foundLength) : "";
  }

  /** The sequence number in decimal, "" if the source has none. */
  sequenceNumber(): string {
    return this.find(SEQUENCE_NUMBER) ? String.UTF8.decodeUnsafe(found, foundLength) : "";
  }

  /** When the record arrived, in milliseconds since 1970; 0 if that is not known. */
  arrived(): i64 {
    return this.find(ARRIVED) && foundLength == 8 ? load<i64>(found) : 0;
  }

  private head(status: u8): void {
    const p = take(9);
    store<u32>(p, this.index);
    store<u8>(p + 4, status);
    store<u32>(p + 5, 0);
    lengthAt = used - 4;
    metaAt = 0;
    count++;
  }

  private closeData(): void {
    if (metaAt != 0) return;
    store<u32>(reply + lengthAt, used - lengthAt - 4);
    metaAt = used;
    store<u32>(take(4), 0);
  }

  private find(tag: u8): bool {
    let p = this.meta;
    const end = p + this.metaLength;
    while (p < end) {
      foundLength = load<u32>(p + 1);
      found = p + 5;
      if (load<u8>(p) == tag) return true;
      p = found + foundLength;
    }
    return false;
  }
}

let found: usize = 0;
let foundLength: u32 = 0;

/** Fails the batch as a whole, which the host may then try again. */
export function failBatch(reason: string): void {
  failure = reason;
}

/** Writes one log line of at most 1,024 bytes. */
export function log(level: u32, line: string): void {
  const b = String.UTF8.encode(line);
  hostLog(level, changetype<usize>(b), b.byteLength);
}

/** A fact of the invocation ("invocation.id", ...), a key of the function's config or an environment variable. */
export function config(key: string): string | null {
  const k = String.UTF8.encode(key);
  let buf = new ArrayBuffer(128);
  let n = hostConfig(changetype<usize>(k), k.byteLength, changetype<usize>(buf), buf.byteLength);
  if (n == ABSENT) return null;
  if (n > <u32>buf.byteLength) {
    buf = new ArrayBuffer(n);
    n = hostConfig(changetype<usize>(k), k.byteLength, changetype<usize>(buf), n);
  }
  return String.UTF8.decodeUnsafe(changetype<usize>(buf), n);
}

// The functions below need a grant: a module that uses one is not loaded without its grant. What
// they do lasts when the batch succeeded, and is forgotten when it failed.

/** Grant "metrics": adds to a counter (a name that ends in _total) or sets a gauge: requests_total{kind="new"}. */
export function metric(key: string, value: f64): void {
  const k = String.UTF8.encode(key);
  hostMetric(changetype<usize>(k), k.byteLength, value);
}

/** Grant "state": reads a value. */
export function stateGet(key: string): ArrayBuffer | null {
  const k = String.UTF8.encode(key);
  let buf = new ArrayBuffer(128);
  let n = hostStateGet(changetype<usize>(k), k.byteLength, changetype<usize>(buf), buf.byteLength);
  if (n == ABSENT) return null;
  if (n > <u32>buf.byteLength) {
    buf = new ArrayBuffer(n);
    n = hostStateGet(changetype<usize>(k), k.byteLength, changetype<usize>(buf), n);
  }
  return buf.slice(0, n);
}

/** Grant "state": writes a value; an empty one removes the key. 0, or 1 when it is too large. */
export function statePut(key: string, value: ArrayBuffer): u32 {
  const k = String.UTF8.encode(key);
  return hostStatePut(changetype<usize>(k), k.byteLength, changetype<usize>(value), value.byteLength);
}

/** Grant "emit": puts bytes to a stream that is granted. 0; 1 when they cannot be put; 2 when it is one record too many. */
export function emit(stream: string, partitionKey: string, p: usize, n: u32): u32 {
  const s = String.UTF8.encode(stream);
  const k = String.UTF8.encode(partitionKey);
  return hostEmit(changetype<usize>(s), s.byteLength, changetype<usize>(k), k.byteLength, p, n);
}

const ONES: u64 = 0x0101010101010101;

// @ts-ignore: decorator
@inline function has(word: u64, c: u64): u64 {
  const w = word ^ (ONES * c); // bytes equal to c are 0 now
  return (w - ONES) & ~w & (ONES << 7);
}

/**
 * The address of the first byte of [p, end) that is a or b, or end. It looks at eight bytes at a
 * time, which makes scanning about three times as fast as a loop over bytes.
 */
export function find2(p: usize, end: usize, a: u8, b: u8): usize {
  while (end - p >= 8) {
    const word = load<u64>(p);
    const hit = has(word, a) | has(word, b);
    if (hit != 0) return p + <usize>(ctz(hit) >> 3);
    p += 8;
  }
  while (p < end && load<u8>(p) != a && load<u8>(p) != b) p++;
  return p;
}

let transform: ((r: Record) => void) | null = null;
const record = new Record();

/** Sets the function that is called for every record. */
export function setTransform(fn: (r: Record) => void): void {
  transform = fn;
}

export function shardmill_abi_v1(): void {}

export function shardmill_alloc(n: u32): usize {
  if (n > batchRoom) {
    batch = batchRoom == 0 ? heap.alloc(n) : heap.realloc(batch, n);
    batchRoom = n;
  }
  return batch;
}

export function shardmill_transform(p: usize, n: u32): u64 {
  const records = load<u32>(p);
  p += 4;
  used = 0;
  count = 0;
  failure = null;
  store<u32>(take(4), 0);
  for (let i: u32 = 0; i < records && failure == null; i++) {
    record.index = i;
    record.metaLength = load<u32>(p);
    record.meta = p + 4;
    p = record.meta + record.metaLength;
    record.length = load<u32>(p);
    record.data = p + 4;
    p = record.data + record.length;
    transform!(record);
  }
  if (failure != null) {
    const b = String.UTF8.encode(failure!);
    hostError(changetype<usize>(b), b.byteLength);
    return 0;
  }
  store<u32>(reply, count);
  return (<u64>reply << 32) | used;
}
