//! Severity names how strong an earthquake was: it appends "severity": "micro" (below 2), "minor"
//! (below 4), "light" (below 5), "moderate" (below 6), "strong" (below 7) or "major" to a JSON object
//! with a top-level number "mag". Records without a magnitude are dropped; what is not a JSON
//! object, or has a "mag" that is not a number, fails.
const std = @import("std");
const shardmill = @import("shardmill");

comptime {
    shardmill.exportTransform(transform);
}

fn transform(r: *shardmill.Record) void {
    const found = object(r.data) orelse return r.failed();
    const mag = found.mag orelse return r.dropped();
    if (std.mem.eql(u8, mag, "null")) return r.dropped();
    const v = std.fmt.parseFloat(f64, mag) catch return r.failed();
    r.begin();
    r.put(r.data[0..found.brace]);
    r.put(", \"severity\": \"");
    r.put(severity(v));
    r.put("\"}\n");
    r.end();
}

fn severity(magnitude: f64) []const u8 {
    if (magnitude < 2) return "micro";
    if (magnitude < 4) return "minor";
    if (magnitude < 5) return "light";
    if (magnitude < 6) return "moderate";
    if (magnitude < 7) return "strong";
    return "major";
}

const Found = struct { brace: usize, mag: ?[]const u8 };

/// Walks a JSON object: the position of its closing brace, and the last top-level "mag".
fn object(b: []const u8) ?Found {
    var mag: ?[]const u8 = null;
    var p = blanks(b, 0);
    if (p == b.len or b[p] != '{') return null;
    p = blanks(b, p + 1);
    while (p < b.len and b[p] != '}') {
        const key = p;
        if (b[p] != '"') return null;
        p = text(b, p) orelse return null;
        const is_mag = std.mem.eql(u8, b[key..p], "\"mag\"");
        p = blanks(b, p);
        if (p == b.len or b[p] != ':') return null;
        const start = blanks(b, p + 1);
        p = value(b, start) orelse return null;
        if (is_mag) mag = b[start..p];
        p = blanks(b, p);
        if (p < b.len and b[p] == ',') {
            p = blanks(b, p + 1);
            if (p < b.len and b[p] == '}') return null;
        } else if (p < b.len and b[p] != '}') return null;
    }
    if (p >= b.len or blanks(b, p + 1) != b.len) return null;
    return .{ .brace = p, .mag = mag };
}

fn blanks(b: []const u8, from: usize) usize {
    var p = from;
    while (p < b.len and (b[p] == ' ' or b[p] == '\t' or b[p] == '\n' or b[p] == '\r')) p += 1;
    return p;
}

/// The position after any value. Values inside of objects and lists are only balanced.
fn value(b: []const u8, from: usize) ?usize {
    var p = from;
    if (p < b.len and b[p] != '"' and b[p] != '{' and b[p] != '[') {
        while (p < b.len and b[p] != ',' and b[p] != '}' and b[p] > ' ') p += 1;
        return if (p > from) p else null;
    }
    var depth: i32 = 0;
    while (p < b.len) {
        switch (b[p]) {
            '"' => p = (text(b, p) orelse return null) - 1,
            '{', '[' => depth += 1,
            '}', ']' => depth -= 1,
            else => {},
        }
        p += 1;
        if (depth == 0) return p;
    }
    return null;
}

/// The position after the string that starts at a position.
fn text(b: []const u8, from: usize) ?usize {
    var p = from + 1;
    while (p < b.len) : (p += 2) { // past a backslash and what it escapes
        p += shardmill.find2(b[p..], '"', '\\');
        if (p < b.len and b[p] == '"') return p + 1;
    }
    return null;
}
