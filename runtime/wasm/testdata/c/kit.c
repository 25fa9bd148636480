/* Every function of shardmill.h once; the first byte of a record says which. */
#include "shardmill.h"

static void transform(const sm_record *r) {
  const uint8_t *arg = r->data + 1;
  const uint32_t len = r->len - 1;
  uint32_t n;
  const uint8_t *v;
  static uint8_t buf[64];
  switch (r->data[0]) {
  case '=':
    sm_ok(r, arg, len);
    break;
  case '2':
    sm_ok(r, "a", 1);
    sm_begin(r);
    sm_put("b:", 2);
    sm_put(arg, len);
    sm_end();
    break;
  case 'd':
    sm_dropped(r);
    break;
  case 'f':
    sm_failed(r);
    break;
  case 'p':
    v = sm_meta(r, SM_PARTITION_KEY, &n);
    if (v) sm_ok(r, v, n);
    else sm_ok(r, "none", 4);
    break;
  case 'k':
    sm_begin(r);
    sm_put(arg, len);
    sm_key("day", 3, "01", 2);
    sm_key("hour", 4, "23", 2);
    sm_end();
    break;
  case 'c':
    n = sm_config(arg, len, buf, sizeof buf);
    if (n == SM_ABSENT) sm_ok(r, "absent", 6);
    else sm_ok(r, buf, n);
    break;
  case '/': /* the rest up to the first , or ; */
    sm_ok(r, arg, (uint32_t)(sm_find2(arg, arg + len, ',', ';') - arg));
    break;
  case 'l':
    sm_log(SM_WARN, arg, len);
    break;
  case 'x': /* grow: the record 1,000 times */
    sm_begin(r);
    for (int i = 0; i < 1000; i++) sm_put(arg, len);
    sm_end();
    break;
  default:
    sm_fail_batch(arg, len);
  }
}

SHARDMILL_TRANSFORM(transform)
