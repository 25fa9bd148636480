package nearest

import (
	"strings"
	"testing"
)

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"memory", "memory", 0}, {"memroy", "memory", 2}, {"memory", "", 6}, {"", "memory", 6},
		{"kitten", "sitting", 3}, {"timeout", "time-out", 1}, {strings.Repeat("x", 1000), "memory", 64},
	} {
		if got := Distance(c.a, c.b); got != c.want {
			t.Errorf("%.10q and %q: %d, not %d", c.a, c.b, got, c.want)
		}
	}
}
