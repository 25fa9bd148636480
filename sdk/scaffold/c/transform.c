#include "shardmill.h"

/* Drops empty records and ends the others with a newline. */
static void transform(const sm_record *r) {
  if (r->len == 0) {
    sm_dropped(r);
    return;
  }
  sm_begin(r);
  sm_put(r->data, r->len);
  sm_put("\n", 1);
  sm_end();
}

SHARDMILL_TRANSFORM(transform)
