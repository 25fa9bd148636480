/* Stands in for sdk/c/shardmill.h, so that examples/earthquakes/severity/severity.c becomes an
 * Extism plugin as it is: one call a record, which reads its input and writes its output through
 * Extism's kernel, eight bytes at a time. A failed record is exit code 1, a dropped one has no
 * output. */
#include <stdint.h>

#define EXTISM(n) __attribute__((import_module("extism:host/env"), import_name(n)))
EXTISM("input_length") uint64_t input_length(void);
EXTISM("input_load_u64") uint64_t input_load_u64(uint64_t at);
EXTISM("input_load_u8") uint8_t input_load_u8(uint64_t at);
EXTISM("alloc") uint64_t extism_alloc(uint64_t n);
EXTISM("store_u64") void store_u64(uint64_t at, uint64_t v);
EXTISM("store_u8") void store_u8(uint64_t at, uint8_t v);
EXTISM("output_set") void output_set(uint64_t at, uint64_t n);

typedef struct sm_record {
  uint32_t len;
  const uint8_t *data;
} sm_record;

static uint8_t input[1 << 20], output[1 << 20];
static uint32_t used;
static int failed;

static inline uint64_t sm__has(uint64_t word, uint8_t c) {
  const uint64_t ones = 0x0101010101010101ull;
  word ^= ones * c;
  return (word - ones) & ~word & (ones << 7);
}

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

static inline void sm_begin(const sm_record *r) { (void)r; }
static inline void sm_put(const void *bytes, uint32_t len) {
  __builtin_memcpy(output + used, bytes, len);
  used += len;
}
static inline void sm_end(void) {}
static inline void sm_dropped(const sm_record *r) { (void)r; }
static inline void sm_failed(const sm_record *r) {
  (void)r;
  failed = 1;
}

static inline int32_t run(void (*transform)(const sm_record *)) {
  const uint64_t n = input_length();
  uint64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const uint64_t word = input_load_u64(i);
    __builtin_memcpy(input + i, &word, 8);
  }
  for (; i < n; i++) input[i] = input_load_u8(i);
  used = 0;
  failed = 0;
  const sm_record r = {(uint32_t)n, input};
  transform(&r);
  if (failed) return 1;
  if (used == 0) return 0;
  const uint64_t at = extism_alloc(used);
  for (i = 0; i + 8 <= used; i += 8) {
    uint64_t word;
    __builtin_memcpy(&word, output + i, 8);
    store_u64(at + i, word);
  }
  for (; i < used; i++) store_u8(at + i, output[i]);
  output_set(at, used);
  return 0;
}

#define SHARDMILL_TRANSFORM(fn) \
  __attribute__((export_name("transform"))) int32_t transform_record(void) { return run(fn); }
