/* shardmill.h: write a shardmill transform in C, without a C library.
 *
 * A transform is one function that looks at one record and says what becomes of it:
 *
 *     #include "shardmill.h"
 *
 *     static void transform(const sm_record *r) {
 *         if (r->len == 0) { sm_dropped(r); return; }
 *         sm_begin(r);                    // an answer: deliver what follows
 *         sm_put(r->data, r->len);
 *         sm_put("\n", 1);
 *         sm_end();
 *     }
 *     SHARDMILL_TRANSFORM(transform)
 *
 * Build: clang --target=wasm32 -O2 -nostdlib -mbulk-memory -Wl,--no-entry,--strip-all -o t.wasm t.c
 *
 * Model. The host hands over a batch, the header calls transform once for each of its records,
 * in order, and hands the answers back. A record may get several answers that begin with
 * sm_begin (or sm_ok), kept in order; sm_dropped and sm_failed must be its only answer; a record
 * without an answer counts as failed. Data and meta of a record are valid until transform
 * returns. The header owns all memory from __heap_base upwards: use static arrays for state, and
 * no malloc. Include it in one translation unit only. The contract below it is sdk/ABI.md.
 */
#ifndef SHARDMILL_H
#define SHARDMILL_H

#include <stdint.h>

#ifndef __wasm__
#error "shardmill.h is for WebAssembly: build with --target=wasm32"
#endif
#ifndef __wasm_bulk_memory__
#error "build with -mbulk-memory: there is no C library to bring memcpy"
#endif

/* One record. */
typedef struct sm_record {
  uint32_t index; /* in its batch */
  uint32_t len;
  const uint8_t *data; /* not terminated by 0 */
  const uint8_t *meta; /* see sm_meta */
  uint32_t meta_len;
} sm_record;

/* Meta tags that the host sends. */
enum {
  SM_PARTITION_KEY = 2,   /* bytes */
  SM_SEQUENCE_NUMBER = 3, /* decimal text */
  SM_ARRIVED = 4          /* int64, milliseconds since 1970 */
};

/* Levels of sm_log. */
enum { SM_DEBUG = 0, SM_INFO = 1, SM_WARN = 2, SM_ERROR = 3 };

#define SM_ABSENT 0xffffffffu

#define SM__IMPORT(n) __attribute__((import_module("shardmill"), import_name(n)))

/* Writes one log line of at most 1,024 bytes. */
SM__IMPORT("log") void sm_log(uint32_t level, const void *text, uint32_t len);
/* Gives the text for a batch that fails as a whole; see sm_fail_batch. */
SM__IMPORT("error") void sm_error(const void *text, uint32_t len);
/* Reads a fact ("invocation.id", "invocation.deliveryStreamArn", ...), a key of the function's
 * config or an environment variable. Returns its length, or SM_ABSENT; buf is written only if the
 * value fits into cap bytes. */
SM__IMPORT("config") uint32_t sm_config(const void *key, uint32_t key_len, void *buf, uint32_t cap);

/* The following need grants: a module that uses one without its grant is refused. Their effects
 * last when the batch succeeded, and are forgotten when it failed. */

/* Grant "metrics": adds to a counter (a name that ends in _total) or sets a gauge. The key is a
 * name with optional labels: requests_total{kind="new"}. */
SM__IMPORT("metric") void sm_metric(const void *key, uint32_t key_len, double value);
/* Grant "state": reads a value as sm_config does. */
SM__IMPORT("state_get") uint32_t sm_state_get(const void *key, uint32_t key_len, void *buf, uint32_t cap);
/* Grant "state": writes a value; an empty one removes the key. 0, or 1 when it is too large. */
SM__IMPORT("state_put") uint32_t sm_state_put(const void *key, uint32_t key_len, const void *value, uint32_t len);
/* Grant "emit": puts a record to a stream that is granted. 0; 1 when the record or its partition
 * key is too large or the key is none; 2 when it is one too many. */
SM__IMPORT("emit") uint32_t sm_emit(const void *stream, uint32_t stream_len, const void *key, uint32_t key_len, const void *data, uint32_t len);

/* The pull ABI, for a module with a main loop of its own (_start) in place of SHARDMILL_TRANSFORM:
 * see sdk/ABI.md. */
SM__IMPORT("next") uint32_t sm_next(void *buf, uint32_t cap);
SM__IMPORT("respond") uint32_t sm_respond(uint32_t kind, const void *id, uint32_t id_len, const void *body, uint32_t len);

extern uint8_t __heap_base;

/* Memory: the input batch at __heap_base, the reply right behind it, growing to the end. */
static struct {
  uint8_t *reply, *next, *limit; /* limit: end of memory */
  uint8_t *data_len, *meta_len;  /* of the open answer; where its lengths go */
  uint32_t count;
  uint8_t failed;
} sm__;

static inline uint32_t sm__load32(const uint8_t *p) {
  uint32_t v;
  __builtin_memcpy(&v, p, 4);
  return v;
}

static inline void sm__store32(uint8_t *p, uint32_t v) { __builtin_memcpy(p, &v, 4); }

/* Makes memory reach to p + n; 0 when there is none left. */
static __attribute__((noinline)) int sm__grow(const uint8_t *p, uint32_t n) {
  uint64_t need = (uint64_t)(uintptr_t)p + n, have = (uint64_t)__builtin_wasm_memory_size(0) << 16;
  if (need > have) {
    uint64_t more = need - have + (have >> 2); /* a quarter more, to grow seldom */
    if (__builtin_wasm_memory_grow(0, (uint32_t)((more + 65535) >> 16)) == (uint32_t)-1 &&
        __builtin_wasm_memory_grow(0, (uint32_t)((need - have + 65535) >> 16)) == (uint32_t)-1)
      return 0;
    have = (uint64_t)__builtin_wasm_memory_size(0) << 16;
  }
  sm__.limit = (uint8_t *)(uintptr_t)(have > 0xffffffffu ? 0xffffffffu : have);
  return 1;
}

static inline int sm__room(const uint8_t *p, uint32_t n) {
  return (sm__.limit >= p && (uint32_t)(sm__.limit - p) >= n) || sm__grow(p, n);
}

static inline uint8_t *sm__take(uint32_t n) {
  if (sm__.failed || !sm__room(sm__.next, n)) {
    if (!sm__.failed) sm__.failed = 1;
    return 0;
  }
  sm__.next += n;
  return sm__.next - n;
}

/* Finds a meta value of the record; 0 when it has none. */
static inline const uint8_t *sm_meta(const sm_record *r, uint8_t tag, uint32_t *len) {
  for (const uint8_t *p = r->meta, *end = p + r->meta_len; p < end; p += 5 + sm__load32(p + 1))
    if (*p == tag) {
      *len = sm__load32(p + 1);
      return p + 5;
    }
  return 0;
}

static inline uint64_t sm__has(uint64_t word, uint8_t c) {
  const uint64_t ones = 0x0101010101010101ull;
  word ^= ones * c; /* bytes equal to c are 0 now */
  return (word - ones) & ~word & (ones << 7);
}

/* The first byte of [p, end) that is a or b, or end. It looks at eight bytes at a time, which
 * makes scanning about three times as fast as a loop over bytes. */
static inline const uint8_t *sm_find2(const uint8_t *p, const uint8_t *end, uint8_t a, uint8_t b) {
  for (; end - p >= 8; p += 8) {
    uint64_t word;
    __builtin_memcpy(&word, p, 8);
    const uint64_t hit = sm__has(word, a) | sm__has(word, b);
    if (hit) return p + (__builtin_ctzll(hit) >> 3);
  }
  while (p < end && *p != a && *p != b) p++;
  return p;
}

static __attribute__((noinline, unused)) void sm__answer(const sm_record *r, uint8_t status) {
  uint8_t *p = sm__take(9);
  if (!p) return;
  sm__store32(p, r->index);
  p[4] = status;
  sm__store32(p + 5, 0);
  sm__.data_len = p + 5;
  sm__.meta_len = 0;
  sm__.count++;
}

/* Begins an answer that delivers data. Follow with sm_put, then sm_key, then sm_end. */
static inline void sm_begin(const sm_record *r) { sm__answer(r, 0); }

/* Adds bytes to the open answer's data. */
static __attribute__((noinline, unused)) void sm_put(const void *bytes, uint32_t len) {
  uint8_t *p = sm__take(len);
  if (p) __builtin_memcpy(p, bytes, len);
}

static __attribute__((noinline, unused)) void sm__close_data(void) {
  if (sm__.meta_len) return;
  uint8_t *p = sm__take(4);
  if (!p) return;
  sm__store32(sm__.data_len, (uint32_t)(p - sm__.data_len) - 4);
  sm__store32(p, 0);
  sm__.meta_len = p;
}

/* Gives the open answer a partition key for dynamic partitioning. After it, no more sm_put. */
static inline void sm_key(const void *name, uint32_t name_len, const void *value, uint32_t value_len) {
  sm__close_data();
  uint8_t *p = sm__take(5 + name_len + 1 + value_len);
  if (!p) return;
  p[0] = 64;
  sm__store32(p + 1, name_len + 1 + value_len);
  __builtin_memcpy(p + 5, name, name_len);
  p[5 + name_len] = 0;
  __builtin_memcpy(p + 6 + name_len, value, value_len);
  sm__store32(sm__.meta_len, (uint32_t)(sm__.next - sm__.meta_len) - 4);
}

/* Ends the open answer. */
static inline void sm_end(void) { sm__close_data(); }

/* Answers: deliver these bytes. */
static inline void sm_ok(const sm_record *r, const void *data, uint32_t len) {
  sm_begin(r);
  sm_put(data, len);
  sm_end();
}

/* Answers: done, deliver nothing. */
static inline void sm_dropped(const sm_record *r) {
  sm__answer(r, 1);
  sm_end();
}

/* Answers: the record cannot be processed. */
static inline void sm_failed(const sm_record *r) {
  sm__answer(r, 2);
  sm_end();
}

/* Fails the whole batch, which the host may then retry. */
static inline void sm_fail_batch(const void *text, uint32_t len) {
  sm_error(text, len);
  sm__.failed = 2;
}

static inline uint32_t sm__alloc(uint32_t n) { return sm__room(&__heap_base, n) ? (uint32_t)(uintptr_t)&__heap_base : 0; }

static inline uint64_t sm__run(const uint8_t *p, uint32_t len, void (*transform)(const sm_record *)) {
  const uint32_t count = sm__load32(p);
  sm__.reply = sm__.next = (uint8_t *)p + len;
  sm__.count = 0;
  sm__.failed = 0;
  sm__take(4);
  p += 4;
  for (uint32_t i = 0; i < count && !sm__.failed; i++) {
    sm_record r;
    r.index = i;
    r.meta_len = sm__load32(p);
    r.meta = p + 4;
    p = r.meta + r.meta_len;
    r.len = sm__load32(p);
    r.data = p + 4;
    p = r.data + r.len;
    transform(&r);
  }
  if (sm__.failed) {
    if (sm__.failed == 1) sm_error("out of memory", 13);
    return 0;
  }
  sm__store32(sm__.reply, sm__.count);
  return (uint64_t)(uintptr_t)sm__.reply << 32 | (uint32_t)(sm__.next - sm__.reply);
}

/* Makes the module's exports. Use it once, at file level. */
#define SHARDMILL_TRANSFORM(fn)                                                                                      \
  __attribute__((export_name("shardmill_abi_v1"))) void shardmill_abi_v1(void) {}                                    \
  __attribute__((export_name("shardmill_alloc"))) uint32_t shardmill_alloc(uint32_t n) { return sm__alloc(n); }      \
  __attribute__((export_name("shardmill_transform"))) uint64_t shardmill_transform(const uint8_t *p, uint32_t len) { \
    return sm__run(p, len, fn);                                                                                      \
  }

#endif
