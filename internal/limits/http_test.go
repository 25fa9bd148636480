package limits

import "testing"

func TestHTTPSendsTheBody(t *testing.T) {
	took, err := HTTP(t.Context(), 5, 2, make([]byte, 1<<20))
	if err != nil || took <= 0 {
		t.Errorf("%v, %v", took, err)
	}
}
