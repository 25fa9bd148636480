/* severity: names how strong an earthquake was.
 *
 * A record is one JSON object with a top-level number "mag". The transform appends
 * "severity": "micro" (below 2), "minor" (below 4), "light" (below 5), "moderate" (below 6),
 * "strong" (below 7) or "major", and a newline. Records without a magnitude are dropped; what is
 * not a JSON object, or has a "mag" that is not a number, fails.
 */
#include "shardmill.h"

typedef const uint8_t *pos;

static pos blanks(pos p, pos end) {
  while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
  return p;
}

/* The position after a string that starts at p, or 0. */
static pos string(pos p, pos end) {
  for (p++;; p += 2) { /* past the quote, or past a backslash and what it escapes */
    if (p >= end) return 0;
    p = sm_find2(p, end, '"', '\\');
    if (p < end && *p == '"') return p + 1;
  }
}

/* The position after any value, or 0. Values inside of objects and lists are only balanced. */
static pos value(pos p, pos end) {
  uint32_t depth = 0;
  if (p < end && *p != '"' && *p != '{' && *p != '[') {
    pos start = p;
    while (p < end && *p != ',' && *p != '}' && *p > ' ') p++;
    return p > start ? p : 0;
  }
  while (p < end) {
    uint8_t c = *p;
    if (c == '"') {
      p = string(p, end);
      if (!p) return 0;
    } else {
      if (c == '{' || c == '[') depth++;
      if (c == '}' || c == ']') depth--;
      p++;
    }
    if (depth == 0) return p;
  }
  return 0;
}

/* Reads a JSON number into *v; 0 when it is none. */
static int number(pos p, pos end, double *v) {
  double sign = 1, scale = 1;
  int digits = 0, exponent = 0, negative = 0;
  *v = 0;
  if (p < end && *p == '-') sign = -1, p++;
  for (; p < end && *p >= '0' && *p <= '9'; p++, digits++) *v = *v * 10 + (*p - '0');
  if (p < end && *p == '.')
    for (p++; p < end && *p >= '0' && *p <= '9'; p++, digits++) *v += (*p - '0') * (scale /= 10);
  if (p < end && digits && (*p == 'e' || *p == 'E')) {
    p++;
    if (p < end && (*p == '-' || *p == '+')) negative = *p++ == '-';
    for (; p < end && *p >= '0' && *p <= '9' && exponent < 400; p++) exponent = exponent * 10 + (*p - '0');
    while (exponent-- > 0) *v = negative ? *v / 10 : *v * 10;
  }
  *v *= sign;
  return digits && p == end;
}

/* Walks a JSON object. Returns the position of its closing brace, or 0. *mag .. *mag_end becomes
 * the last top-level "mag". */
static pos object(pos p, pos end, pos *mag, pos *mag_end) {
  p = blanks(p, end);
  if (p == end || *p != '{') return 0;
  p = blanks(p + 1, end);
  while (p < end && *p != '}') {
    pos key = p;
    if (*p != '"' || !(p = string(p, end))) return 0;
    int is_mag = p - key == 5 && key[1] == 'm' && key[2] == 'a' && key[3] == 'g';
    p = blanks(p, end);
    if (p == end || *p != ':') return 0;
    pos start = blanks(p + 1, end);
    if (!(p = value(start, end))) return 0;
    if (is_mag) *mag = start, *mag_end = p;
    p = blanks(p, end);
    if (p < end && *p == ',') {
      p = blanks(p + 1, end);
      if (p < end && *p == '}') return 0;
    } else if (p < end && *p != '}') {
      return 0;
    }
  }
  return p < end && blanks(p + 1, end) == end ? p : 0;
}

static const char *severity(double magnitude) {
  return magnitude < 2   ? "micro"
         : magnitude < 4 ? "minor"
         : magnitude < 5 ? "light"
         : magnitude < 6 ? "moderate"
         : magnitude < 7 ? "strong"
                         : "major";
}

static void transform(const sm_record *r) {
  pos mag = 0, mag_end = 0;
  pos brace = object(r->data, r->data + r->len, &mag, &mag_end);
  double magnitude;
  if (!brace) {
    sm_failed(r);
  } else if (!mag || (mag_end - mag == 4 && mag[0] == 'n' && mag[1] == 'u' && mag[2] == 'l' && mag[3] == 'l')) {
    sm_dropped(r);
  } else if (!number(mag, mag_end, &magnitude)) {
    sm_failed(r);
  } else {
    const char *name = severity(magnitude);
    uint32_t name_len = 0;
    while (name[name_len]) name_len++;
    sm_begin(r);
    sm_put(r->data, (uint32_t)(brace - r->data));
    sm_put(", \"severity\": \"", 15);
    sm_put(name, name_len);
    sm_put("\"}\n", 3);
    sm_end();
  }
}

SHARDMILL_TRANSFORM(transform)
