/* The native batch guest of the conformance kit (../../README.md), with sdk/c. */
#include "shardmill.h"

static uint8_t buf[4096];

static void number(const sm_record *r, uint64_t v) {
  uint8_t text[20];
  uint32_t at = sizeof text;
  do text[--at] = '0' + v % 10;
  while (v /= 10);
  sm_ok(r, text + at, sizeof text - at);
}

static void found(const sm_record *r, const void *value, uint32_t len) {
  if (value && len != SM_ABSENT) sm_ok(r, value, len);
  else sm_ok(r, "absent", 6);
}

/* The length of s up to the first c. */
static uint32_t upto(const uint8_t *s, uint32_t len, uint8_t c) { return (uint32_t)(sm_find2(s, s + len, c, c) - s); }

static void transform(const sm_record *r) {
  if (r->len == 0) {
    sm_ok(r, "empty", 5);
    return;
  }
  const uint8_t *arg = r->data + 1;
  const uint32_t len = r->len - 1;
  const uint8_t *v;
  uint32_t n = 0, m;
  uint64_t t;
  switch (r->data[0]) {
  case '=': sm_ok(r, arg, len); break;
  case '2':
    for (int i = 0; i < 2; i++) {
      sm_begin(r);
      sm_put(i ? "b:" : "a:", 2);
      sm_put(arg, len);
      sm_end();
    }
    break;
  case 'd': sm_dropped(r); break;
  case 'f': sm_failed(r); break;
  case 's': break;
  case 'k':
    sm_begin(r);
    sm_put(arg, len);
    sm_key("day", 3, "01", 2);
    sm_key("stra\xc3\x9f" "e", 7, arg, len);
    sm_end();
    break;
  case 'p': v = sm_meta(r, SM_PARTITION_KEY, &n); found(r, v, n); break;
  case 'q': v = sm_meta(r, SM_SEQUENCE_NUMBER, &n); found(r, v, n); break;
  case 't':
    v = sm_meta(r, SM_ARRIVED, &n);
    if (v) {
      __builtin_memcpy(&t, v, 8);
      number(r, t);
    } else {
      found(r, 0, 0);
    }
    break;
  case 'c': found(r, buf, sm_config(arg, len, buf, sizeof buf)); break;
  case 'l':
    sm_log(SM_WARN, arg, len);
    sm_dropped(r);
    break;
  case '!': sm_fail_batch(arg, len); break;
  case 'x': __builtin_trap();
  case 'n':
    sm_begin(r);
    for (int i = 0; i < 1000; i++) sm_put(arg, len);
    sm_end();
    break;
  case 'M':
    sm_metric("seen_total", 10, 1);
    sm_metric(arg, len, 2.5);
    sm_dropped(r);
    break;
  case 'g': found(r, buf, sm_state_get(arg, len, buf, sizeof buf)); break;
  case 'S':
    n = upto(arg, len, '=');
    number(r, sm_state_put(arg, n, arg + n + 1, len - n - 1));
    break;
  case 'E':
    n = upto(arg, len, '|');
    m = upto(arg + n + 1, len - n - 1, '|');
    number(r, sm_emit(arg, n, arg + n + 1, m, arg + n + m + 2, len - n - m - 2));
    break;
  default: sm_fail_batch("unknown command", 15);
  }
}

SHARDMILL_TRANSFORM(transform)
