/* The stdio guest of the conformance kit (../../README.md), without a C library. */
#include <stdint.h>

#define WASI(n) __attribute__((import_module("wasi_snapshot_preview1"), import_name(n)))
typedef struct {
  const void *at;
  uint32_t len;
} piece;
WASI("fd_read") uint32_t fd_read(uint32_t fd, const piece *to, uint32_t n, uint32_t *done);
WASI("fd_write") uint32_t fd_write(uint32_t fd, const piece *from, uint32_t n, uint32_t *done);
WASI("proc_exit") _Noreturn void proc_exit(uint32_t status);

static uint8_t event[4 << 20];

/* Writes all of it in one call, as the answer is one line. */
static void say(uint32_t fd, const piece *p, uint32_t n) {
  uint32_t done;
  if (fd_write(fd, p, n, &done)) proc_exit(1);
}

static int starts(const uint8_t *s, uint32_t len, const char *with) {
  while (len && *with && *s == (uint8_t)*with) s++, with++, len--;
  return !*with;
}

static void answer(uint32_t len) {
  const piece got[] = {{"{\"got\":", 7}, {event, len}, {"}\n", 2}};
  const piece oops = {"{\"errorType\":\"Oops\",\"errorMessage\":\"boom\"}\n", 43}, hello = {"hello\n", 6};
  if (starts(event, len, "{\"do\":\"exit\"")) proc_exit(3);
  if (starts(event, len, "{\"do\":\"error\"")) {
    say(1, &oops, 1);
    return;
  }
  if (starts(event, len, "{\"do\":\"log\"")) say(2, &hello, 1);
  say(1, got, 3);
}

__attribute__((export_name("_start"))) void _start(void) {
  uint32_t len = 0;
  for (;;) {
    const piece rest = {event + len, (uint32_t)sizeof event - len};
    uint32_t n;
    if (fd_read(0, &rest, 1, &n) || n == 0) return;
    len += n;
    if (event[len - 1] == '\n') { /* the host never sends two events at once */
      answer(len - 1);
      len = 0;
    }
  }
}
