//! shardmill.zig: write a shardmill transform in Zig. No other file is needed.
//!
//! A transform is one function that looks at one record and says what becomes of it:
//!
//!     const shardmill = @import("shardmill.zig");
//!
//!     fn transform(r: *shardmill.Record) void {
//!         if (r.data.len == 0) return r.dropped();
//!         r.begin();
//!         r.put(r.data);
//!         r.put("\n");
//!         r.end();
//!     }
//!
//!     comptime {
//!         shardmill.exportTransform(transform);
//!     }
//!
//! Build: zig build-exe transform.zig -target wasm32-freestanding -fno-entry -rdynamic -O ReleaseFast -fstrip
//!
//! The host hands over a batch, the function is called once for each of its records, in order, and
//! the answers go back together. A record may get several answers that begin with begin() (or
//! ok()), kept in order; dropped() and failed() must be its only answer; a record without an answer
//! counts as failed. The contract below it is sdk/ABI.md.

const std = @import("std");

const host = struct {
    extern "shardmill" fn log(level: u32, p: [*]const u8, n: usize) void;
    extern "shardmill" fn @"error"(p: [*]const u8, n: usize) void;
    extern "shardmill" fn config(k: [*]const u8, kn: usize, buf: [*]u8, cap: usize) u32;
    extern "shardmill" fn metric(k: [*]const u8, kn: usize, value: f64) void;
    extern "shardmill" fn state_get(k: [*]const u8, kn: usize, buf: [*]u8, cap: usize) u32;
    extern "shardmill" fn state_put(k: [*]const u8, kn: usize, p: [*]const u8, n: usize) u32;
    extern "shardmill" fn emit(s: [*]const u8, sn: usize, k: [*]const u8, kn: usize, p: [*]const u8, n: usize) u32;
};

const allocator = std.heap.wasm_allocator;

// The two buffers, which grow and are never freed.
var batch: []u8 = &.{};
var reply: std.ArrayListUnmanaged(u8) = .{};

var answers: u32 = 0;
var length_at: usize = 0; // of the open answer: where the length of its data goes
var meta_at: usize = 0; // and where that of its meta goes; 0 while data may be added
var failed_batch = false;

fn append(bytes: []const u8) void {
    reply.appendSlice(allocator, bytes) catch failBatch("out of memory");
}

fn append32(v: u32) void {
    var b: [4]u8 = undefined;
    std.mem.writeInt(u32, &b, v, .little);
    append(&b);
}

fn patch(at: usize) void {
    if (failed_batch) return;
    std.mem.writeInt(u32, reply.items[at..][0..4], @intCast(reply.items.len - at - 4), .little);
}

/// One record of the batch under way.
pub const Record = struct {
    data: []const u8,
    meta: []const u8,
    index: u32,

    /// Answers: deliver these bytes.
    pub fn ok(r: *Record, data: []const u8) void {
        r.begin();
        r.put(data);
        r.end();
    }

    /// Begins an answer that delivers what is put. Follow with put, then key, then end.
    pub fn begin(r: *Record) void {
        r.head(0);
    }

    /// Adds bytes to the open answer.
    pub fn put(_: *Record, bytes: []const u8) void {
        append(bytes);
    }

    /// Gives the open answer a partition key for dynamic partitioning. No put may follow.
    pub fn key(r: *Record, name: []const u8, value: []const u8) void {
        r.closeData();
        append(&.{64});
        append32(@intCast(name.len + 1 + value.len));
        append(name);
        append(&.{0});
        append(value);
        patch(meta_at);
    }

    /// Ends the open answer.
    pub fn end(r: *Record) void {
        r.closeData();
    }

    /// Answers: done, deliver nothing.
    pub fn dropped(r: *Record) void {
        r.head(1);
        r.closeData();
    }

    /// Answers: the record cannot be processed.
    pub fn failed(r: *Record) void {
        r.head(2);
        r.closeData();
    }

    /// The partition key, if the source has any.
    pub fn partitionKey(r: *const Record) ?[]const u8 {
        return r.find(2);
    }

    /// The sequence number in decimal, if the source has any.
    pub fn sequenceNumber(r: *const Record) ?[]const u8 {
        return r.find(3);
    }

    /// When the record arrived, in milliseconds since 1970, if that is known.
    pub fn arrived(r: *const Record) ?i64 {
        const v = r.find(4) orelse return null;
        return if (v.len == 8) std.mem.readInt(i64, v[0..8], .little) else null;
    }

    fn head(r: *Record, status: u8) void {
        append32(r.index);
        append(&.{ status, 0, 0, 0, 0 });
        length_at = reply.items.len -| 4;
        meta_at = 0;
        answers += 1;
    }

    fn closeData(_: *Record) void {
        if (meta_at != 0) return;
        patch(length_at);
        meta_at = reply.items.len;
        append32(0);
    }

    fn find(r: *const Record, tag: u8) ?[]const u8 {
        var m = r.meta;
        while (m.len >= 5) {
            const stop = 5 + std.mem.readInt(u32, m[1..5], .little);
            if (m[0] == tag) return m[5..stop];
            m = m[stop..];
        }
        return null;
    }
};

/// Fails the batch as a whole, which the host may then try again.
pub fn failBatch(reason: []const u8) void {
    if (!failed_batch) host.@"error"(reason.ptr, reason.len);
    failed_batch = true;
}

pub const Level = enum(u32) { debug, info, warn, err };

/// Writes one log line of at most 1,024 bytes.
pub fn log(level: Level, line: []const u8) void {
    host.log(@intFromEnum(level), line.ptr, line.len);
}

/// A fact of the invocation ("invocation.id", ...), a key of the function's config or an environment
/// variable. null if there is none, or if it does not fit into buf.
pub fn config(key: []const u8, buf: []u8) ?[]const u8 {
    const n = host.config(key.ptr, key.len, buf.ptr, buf.len);
    return if (n > buf.len) null else buf[0..n];
}

// The functions below need a grant: a module that uses one is not loaded without its grant. What
// they do lasts when the batch succeeded, and is forgotten when it failed.

/// Grant "metrics": adds to a counter (a name that ends in _total) or sets a gauge:
/// requests_total{kind="new"}.
pub fn metric(key: []const u8, value: f64) void {
    host.metric(key.ptr, key.len, value);
}

/// Grant "state": reads a value. null if there is none, or if it does not fit into buf.
pub fn stateGet(key: []const u8, buf: []u8) ?[]const u8 {
    const n = host.state_get(key.ptr, key.len, buf.ptr, buf.len);
    return if (n > buf.len) null else buf[0..n];
}

pub const Refused = error{ TooLarge, TooMany };

/// Grant "state": writes a value; an empty one removes the key.
pub fn statePut(key: []const u8, value: []const u8) Refused!void {
    if (host.state_put(key.ptr, key.len, value.ptr, value.len) != 0) return error.TooLarge;
}

/// Grant "emit": puts a record to a stream that is granted.
pub fn emit(stream: []const u8, partition_key: []const u8, data: []const u8) Refused!void {
    return switch (host.emit(stream.ptr, stream.len, partition_key.ptr, partition_key.len, data.ptr, data.len)) {
        0 => {},
        1 => error.TooLarge,
        else => error.TooMany,
    };
}

/// The position of the first byte that is a or b, or the length. It looks at eight bytes at a time,
/// which makes scanning about three times as fast as a loop over bytes.
pub fn find2(bytes: []const u8, a: u8, b: u8) usize {
    var p: usize = 0;
    while (p + 8 <= bytes.len) : (p += 8) {
        const word = std.mem.readInt(u64, bytes[p..][0..8], .little);
        const hit = has(word, a) | has(word, b);
        if (hit != 0) return p + @ctz(hit) / 8;
    }
    while (p < bytes.len and bytes[p] != a and bytes[p] != b) p += 1;
    return p;
}

inline fn has(word: u64, c: u8) u64 {
    const ones: u64 = 0x0101010101010101;
    const w = word ^ (ones * c); // bytes equal to c are 0 now
    return (w -% ones) & ~w & (ones << 7);
}

/// Makes the module's exports. Use it once, in a comptime block.
pub fn exportTransform(comptime transform: fn (*Record) void) void {
    const exports = struct {
        fn abi() callconv(.c) void {}

        fn alloc(n: usize) callconv(.c) usize {
            if (batch.len < n) {
                allocator.free(batch);
                batch = &.{};
                batch = allocator.alloc(u8, n) catch return 0;
            }
            return @intFromPtr(batch.ptr);
        }

        fn run(_: usize, len: usize) callconv(.c) u64 {
            var rest: []const u8 = batch[0..len];
            const count = next32(&rest);
            reply.clearRetainingCapacity();
            answers = 0;
            failed_batch = false;
            append32(0);
            var index: u32 = 0;
            while (index < count and !failed_batch) : (index += 1) {
                const meta = nextBytes(&rest);
                var r = Record{ .meta = meta, .data = nextBytes(&rest), .index = index };
                transform(&r);
            }
            if (failed_batch) return 0;
            std.mem.writeInt(u32, reply.items[0..4], answers, .little);
            return @as(u64, @intFromPtr(reply.items.ptr)) << 32 | reply.items.len;
        }

        fn next32(rest: *[]const u8) u32 {
            const v = std.mem.readInt(u32, rest.*[0..4], .little);
            rest.* = rest.*[4..];
            return v;
        }

        fn nextBytes(rest: *[]const u8) []const u8 {
            const n = next32(rest);
            const v = rest.*[0..n];
            rest.* = rest.*[n..];
            return v;
        }
    };
    @export(&exports.abi, .{ .name = "shardmill_abi_v1" });
    @export(&exports.alloc, .{ .name = "shardmill_alloc" });
    @export(&exports.run, .{ .name = "shardmill_transform" });
}
