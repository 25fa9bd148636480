/* The pull guest of the conformance kit (../../README.md), with sdk/c. */
#include "shardmill.h"

__attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_exit"))) _Noreturn void proc_exit(uint32_t status);

static uint8_t reply[4 << 20], small[512];

static int starts(const uint8_t *s, uint32_t len, const char *with) {
  while (len && *with && *s == (uint8_t)*with) s++, with++, len--;
  return !*with;
}

/* One invocation: u16 length, header lines, the event. The first header is the request id's. */
static void answer(const uint8_t *p, uint32_t len) {
  const uint32_t head = p[0] | (uint32_t)p[1] << 8;
  const uint8_t *event = p + 2 + head, *id = p + 2 + 31; /* "Lambda-Runtime-Aws-Request-Id: " */
  const uint32_t n = len - 2 - head;
  uint32_t id_len = 0;
  while (id_len < head - 31 && id[id_len] != '\n') id_len++;
  if (starts(event, n, "{\"do\":\"exit\"")) proc_exit(3);
  if (starts(event, n, "{\"do\":\"error\"")) {
    sm_respond(1, id, id_len, "{\"errorType\":\"Oops\",\"errorMessage\":\"boom\"}", 42);
    return;
  }
  if (starts(event, n, "{\"do\":\"log\"")) sm_log(SM_INFO, "hello", 5);
  __builtin_memcpy(reply, "{\"got\":", 7);
  __builtin_memcpy(reply + 7, event, n);
  reply[7 + n] = '}';
  sm_respond(0, id, id_len, reply, n + 8);
}

/* Grows to n bytes behind the static data. */
static uint8_t *room(uint32_t n) { return sm__room(&__heap_base, n) ? &__heap_base : 0; }

__attribute__((export_name("_start"))) void _start(void) {
  for (;;) {
    uint8_t *p = small;
    uint32_t len = sm_next(small, sizeof small);
    if (len == SM_ABSENT) return;
    if (len > sizeof small) { /* parked: ask again with room for it */
      if (!(p = room(len))) proc_exit(1);
      sm_next(p, len);
    }
    answer(p, len);
  }
}
