//! Write a shardmill transform in Rust. No other crate is needed.
//!
//! A transform is one function that looks at one record and says what becomes of it:
//!
//! ```ignore
//! use shardmill::{Answers, Record};
//!
//! fn transform(r: &Record, out: &mut Answers) {
//!     if r.data.is_empty() {
//!         return out.dropped();
//!     }
//!     out.answer().put(r.data).put(b"\n");
//! }
//! shardmill::transform!(transform);
//! ```
//!
//! in a library of crate-type `cdylib`, built with `cargo build --release --target
//! wasm32-unknown-unknown`.
//!
//! The host hands over a batch, the function is called once for each of its records, in order, and
//! the answers go back together. A record may get several answers that deliver, kept in order;
//! `dropped` and `failed` must be its only answer; a record without an answer counts as failed. A
//! panic ends the module and fails the batch. The contract below it is sdk/ABI.md.

/// One record of the batch under way.
pub struct Record<'a> {
    /// The record's bytes.
    pub data: &'a [u8],
    meta: &'a [u8],
}

/// Takes the answers to a record.
#[derive(Default)]
pub struct Answers {
    bytes: Vec<u8>, // the reply to the batch; used again for the next one
    index: u32,     // of the record under way
    count: u32,
    failed: bool,
}

const PARTITION_KEY: u8 = 2;
const SEQUENCE: u8 = 3;
const ARRIVED: u8 = 4;
const REPLY_KEY: u8 = 64;

fn u32_at(b: &[u8], at: usize) -> usize {
    u32::from_le_bytes(b[at..at + 4].try_into().unwrap()) as usize
}

impl Answers {
    /// Answers: deliver these bytes.
    pub fn ok(&mut self, data: &[u8]) {
        self.answer().put(data);
    }

    /// Begins an answer that delivers what is put into it, until it goes out of scope.
    pub fn answer(&mut self) -> Answer<'_> {
        self.open(0);
        let data = self.bytes.len();
        Answer { out: self, data, meta: 0 }
    }

    /// Answers: done, deliver nothing.
    pub fn dropped(&mut self) {
        self.open(1);
        self.bytes.extend_from_slice(&[0; 4]);
    }

    /// Answers: the record cannot be processed.
    pub fn failed(&mut self) {
        self.open(2);
        self.bytes.extend_from_slice(&[0; 4]);
    }

    /// Fails the batch as a whole, which the host may then try again. No further record of it is
    /// looked at.
    pub fn fail_batch(&mut self, reason: &str) {
        error(reason);
        self.failed = true;
    }

    fn open(&mut self, status: u8) {
        let mut head = [0; 9];
        head[..4].copy_from_slice(&self.index.to_le_bytes());
        head[4] = status;
        self.bytes.extend_from_slice(&head);
        self.count += 1;
    }
}

impl<'a> Record<'a> {
    /// The record's partition key, if the source has any.
    pub fn partition_key(&self) -> Option<&'a [u8]> {
        self.find(PARTITION_KEY)
    }

    /// The record's sequence number in decimal, if the source has any.
    pub fn sequence_number(&self) -> Option<&'a str> {
        std::str::from_utf8(self.find(SEQUENCE)?).ok()
    }

    /// When the record arrived, in milliseconds since 1970, if that is known.
    pub fn arrived(&self) -> Option<i64> {
        Some(i64::from_le_bytes(self.find(ARRIVED)?.try_into().ok()?))
    }

    fn find(&self, tag: u8) -> Option<&'a [u8]> {
        let mut m = self.meta;
        while m.len() >= 5 {
            let end = 5 + u32_at(m, 1);
            if m[0] == tag {
                return Some(&m[5..end]);
            }
            m = &m[end..];
        }
        None
    }
}

/// An answer that is being built.
pub struct Answer<'a> {
    out: &'a mut Answers,
    data: usize, // where its data starts
    meta: usize, // where its meta starts; 0 while data may be added
}

impl Answer<'_> {
    /// Adds bytes to what is delivered.
    pub fn put(&mut self, bytes: &[u8]) -> &mut Self {
        assert!(self.meta == 0, "put after key");
        self.out.bytes.extend_from_slice(bytes);
        self
    }

    /// Adds a partition key for dynamic partitioning. No `put` may follow.
    pub fn key(&mut self, name: &str, value: &str) -> &mut Self {
        self.close_data();
        let b = &mut self.out.bytes;
        b.push(REPLY_KEY);
        b.extend_from_slice(&((name.len() + 1 + value.len()) as u32).to_le_bytes());
        b.extend_from_slice(name.as_bytes());
        b.push(0);
        b.extend_from_slice(value.as_bytes());
        self
    }

    fn close_data(&mut self) {
        if self.meta == 0 {
            self.patch(self.data);
            self.out.bytes.extend_from_slice(&[0; 4]);
            self.meta = self.out.bytes.len();
        }
    }

    // Writes the length of what starts at `from` before it.
    fn patch(&mut self, from: usize) {
        let n = (self.out.bytes.len() - from) as u32;
        self.out.bytes[from - 4..from].copy_from_slice(&n.to_le_bytes());
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.close_data();
        self.patch(self.meta);
    }
}

/// Levels of `log`.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Level {
    Debug = 0,
    Info = 1,
    Warn = 2,
    Error = 3,
}

// Outside of WebAssembly the crate compiles, for editors and for tests of your own code.
mod host {
    macro_rules! imports {
        ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
            #[cfg(target_arch = "wasm32")]
            #[link(wasm_import_module = "shardmill")]
            extern "C" { $(pub fn $name($($arg: $type),*) $(-> $result)?;)* }
            $(
                #[cfg(not(target_arch = "wasm32"))]
                pub unsafe fn $name($(_: $type),*) $(-> $result)? {
                    panic!("there is no host outside of a WebAssembly module")
                }
            )*
        };
    }
    imports! {
        fn log(level: u32, p: *const u8, n: usize);
        fn error(p: *const u8, n: usize);
        fn config(key: *const u8, n: usize, buf: *mut u8, cap: usize) -> u32;
        fn metric(key: *const u8, n: usize, value: f64);
        fn state_get(key: *const u8, n: usize, buf: *mut u8, cap: usize) -> u32;
        fn state_put(key: *const u8, n: usize, value: *const u8, len: usize) -> u32;
        fn emit(stream: *const u8, sn: usize, key: *const u8, kn: usize, data: *const u8, n: usize) -> u32;
    }
}

/// Writes a line to the function's log, which is cut at 1,024 bytes.
pub fn log(level: Level, line: &str) {
    unsafe { host::log(level as u32, line.as_ptr(), line.len()) }
}

fn error(reason: &str) {
    unsafe { host::error(reason.as_ptr(), reason.len()) }
}

/// A fact of the invocation (`invocation.id`, `invocation.deliveryStreamArn`, ...), a key of the
/// function's config, or an environment variable.
pub fn config(key: &str) -> Option<String> {
    let value = ask(|buf| unsafe { host::config(key.as_ptr(), key.len(), buf.as_mut_ptr(), buf.len()) })?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

// The functions below need a grant: a module that uses one is not loaded without its grant. What
// they do lasts when the batch succeeded, and is forgotten when it failed.

/// Adds to a counter, whose name ends in `_total`, or sets a gauge. The key is a name with optional
/// labels: `requests_total{kind="new"}`. Needs the grant `metrics`.
pub fn metric(key: &str, value: f64) {
    unsafe { host::metric(key.as_ptr(), key.len(), value) }
}

/// Reads a value of the function's state. Needs the grant `state`.
pub fn state_get(key: &str) -> Option<Vec<u8>> {
    ask(|buf| unsafe { host::state_get(key.as_ptr(), key.len(), buf.as_mut_ptr(), buf.len()) })
}

/// The host did not take it: it passes a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The value, the key or the record is too large, or the key is empty.
    TooLarge,
    /// The batch has emitted 10,000 records or 6 MiB already.
    TooMany,
}

/// Writes a value of the function's state; an empty one removes the key. Keys have at most 256
/// bytes, all of the state 64 KiB. Needs the grant `state`.
pub fn state_put(key: &str, value: &[u8]) -> Result<(), Refused> {
    match unsafe { host::state_put(key.as_ptr(), key.len(), value.as_ptr(), value.len()) } {
        0 => Ok(()),
        _ => Err(Refused::TooLarge),
    }
}

/// Puts a record to a stream beside the answers. Needs the grant `emit` for that stream; any other
/// stream ends the module.
pub fn emit(stream: &str, partition_key: &str, data: &[u8]) -> Result<(), Refused> {
    let (s, k) = (stream.as_bytes(), partition_key.as_bytes());
    match unsafe { host::emit(s.as_ptr(), s.len(), k.as_ptr(), k.len(), data.as_ptr(), data.len()) } {
        0 => Ok(()),
        1 => Err(Refused::TooLarge),
        _ => Err(Refused::TooMany),
    }
}

/// The position of the first byte that is `a` or `b`, or the length. It looks at eight bytes at a
/// time, which makes scanning about three times as fast as a loop over bytes.
pub fn find2(bytes: &[u8], a: u8, b: u8) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let has = |word: u64, c: u8| {
        let word = word ^ (ONES * c as u64); // bytes equal to c are 0 now
        word.wrapping_sub(ONES) & !word & (ONES << 7)
    };
    let mut words = bytes.chunks_exact(8);
    let mut at = 0;
    for chunk in &mut words {
        let word = u64::from_le_bytes(chunk.try_into().unwrap());
        let hit = has(word, a) | has(word, b);
        if hit != 0 {
            return at + hit.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = words.remainder();
    at + rest.iter().position(|&c| c == a || c == b).unwrap_or(rest.len())
}

fn ask(call: impl Fn(&mut [u8]) -> u32) -> Option<Vec<u8>> {
    let mut buf = vec![0; 128];
    loop {
        match call(&mut buf) {
            u32::MAX => return None,
            n if n as usize <= buf.len() => {
                buf.truncate(n as usize);
                return Some(buf);
            }
            n => buf.resize(n as usize, 0),
        }
    }
}

/// The module's two buffers. A module has one thread.
#[doc(hidden)]
#[derive(Default)]
pub struct Buffers {
    batch: Vec<u8>,
    answers: Answers,
}

#[doc(hidden)]
impl Buffers {
    pub fn alloc(&mut self, n: usize) -> *mut u8 {
        if self.batch.len() < n {
            self.batch.clear();
            if self.batch.try_reserve(n).is_err() {
                return std::ptr::null_mut();
            }
            self.batch.resize(n, 0);
        }
        self.batch.as_mut_ptr()
    }

    pub fn run(&mut self, len: usize, transform: fn(&Record, &mut Answers)) -> u64 {
        let (batch, out) = (&self.batch[..len], &mut self.answers);
        let count = u32_at(batch, 0) as u32;
        let mut at = 4;
        let mut next = || {
            let from = at + 4;
            at = from + u32_at(batch, at);
            &batch[from..at]
        };
        out.bytes.clear();
        out.bytes.extend_from_slice(&[0; 4]);
        out.count = 0;
        out.failed = false;
        for index in 0..count {
            let (meta, data) = (next(), next());
            out.index = index;
            transform(&Record { data, meta }, out);
            if out.failed {
                return 0;
            }
        }
        out.bytes[..4].copy_from_slice(&out.count.to_le_bytes());
        (out.bytes.as_ptr() as u64) << 32 | out.bytes.len() as u64
    }
}

/// Makes the module's exports. Use it once.
#[macro_export]
macro_rules! transform {
    ($transform:ident) => {
        mod shardmill_exports {
            use std::cell::RefCell;
            thread_local! {
                static BUFFERS: RefCell<$crate::Buffers> = RefCell::default();
            }
            #[no_mangle]
            extern "C" fn shardmill_abi_v1() {}
            #[no_mangle]
            extern "C" fn shardmill_init() -> i32 {
                // A panic becomes a line of the log, then a trap.
                std::panic::set_hook(Box::new(|p| $crate::log($crate::Level::Error, &p.to_string())));
                0
            }
            #[no_mangle]
            extern "C" fn shardmill_alloc(n: usize) -> *mut u8 {
                BUFFERS.with(|b| b.borrow_mut().alloc(n))
            }
            #[no_mangle]
            extern "C" fn shardmill_transform(_: *const u8, len: usize) -> u64 {
                BUFFERS.with(|b| b.borrow_mut().run(len, super::$transform))
            }
        }
    };
}
