//! The native batch guest of the conformance kit (../../README.md), with sdk/zig.
const std = @import("std");
const shardmill = @import("shardmill");

comptime {
    shardmill.exportTransform(transform);
}

var buf: [4096]u8 = undefined;

fn found(r: *shardmill.Record, value: ?[]const u8) void {
    r.ok(value orelse "absent");
}

fn code(r: *shardmill.Record, result: shardmill.Refused!void) void {
    result catch |refused| return r.ok(switch (refused) {
        error.TooLarge => "1",
        error.TooMany => "2",
    });
    r.ok("0");
}

fn transform(r: *shardmill.Record) void {
    if (r.data.len == 0) return r.ok("empty");
    const arg = r.data[1..];
    switch (r.data[0]) {
        '=' => r.ok(arg),
        '2' => for ([_][]const u8{ "a:", "b:" }) |prefix| {
            r.begin();
            r.put(prefix);
            r.put(arg);
            r.end();
        },
        'd' => r.dropped(),
        'f' => r.failed(),
        's' => {},
        'k' => {
            r.begin();
            r.put(arg);
            r.key("day", "01");
            r.key("straße", arg);
            r.end();
        },
        'p' => found(r, r.partitionKey()),
        'q' => found(r, r.sequenceNumber()),
        't' => found(r, if (r.arrived()) |ms| std.fmt.bufPrint(&buf, "{d}", .{ms}) catch unreachable else null),
        'c' => found(r, shardmill.config(arg, &buf)),
        'l' => {
            shardmill.log(.warn, arg);
            r.dropped();
        },
        '!' => shardmill.failBatch(arg),
        'x' => @trap(),
        'n' => {
            r.begin();
            for (0..1000) |_| r.put(arg);
            r.end();
        },
        'M' => {
            shardmill.metric("seen_total", 1);
            shardmill.metric(arg, 2.5);
            r.dropped();
        },
        'g' => found(r, shardmill.stateGet(arg, &buf)),
        'S' => {
            const at = std.mem.indexOfScalar(u8, arg, '=').?;
            code(r, shardmill.statePut(arg[0..at], arg[at + 1 ..]));
        },
        'E' => {
            var part = std.mem.splitScalar(u8, arg, '|');
            const stream = part.next().?;
            const key = part.next().?;
            code(r, shardmill.emit(stream, key, part.rest()));
        },
        else => shardmill.failBatch("unknown command"),
    }
}
