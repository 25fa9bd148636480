const shardmill = @import("shardmill.zig");

comptime {
    shardmill.exportTransform(transform);
}

/// Drops empty records and ends the others with a newline.
fn transform(r: *shardmill.Record) void {
    if (r.data.len == 0) return r.dropped();
    r.begin();
    r.put(r.data);
    r.put("\n");
    r.end();
}
