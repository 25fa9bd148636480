package wasm

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestScanFindsImportsAndExports(t *testing.T) {
	m, err := scan(nativeModule(replyOf(), func(m *testModule) {
		m.imports = []testImport{{hostModule, "log", type3}, {"env", "abort", typeFd}}
		m.memory = []byte{1, 3, 7}
	}))
	if err != nil {
		t.Fatal(err)
	}
	i32 := string(rune(typeI32))
	want := []importEntry{{hostModule, "log", externFunc, signature{i32 + i32 + i32, ""}}, {"env", "abort", externFunc, signature{i32 + i32 + i32 + i32, i32}}}
	if !slices.Equal(m.imports, want) {
		t.Errorf("imports %v, want %v", m.imports, want)
	}
	if e := m.exports[exportTransform]; e.sig.String() != "(i32, i32) -> (i64)" {
		t.Errorf("%s is %s", exportTransform, e.sig)
	}
	if m.memoryPages != 3 || m.bodies != 3 {
		t.Errorf("%d pages and %d bodies, want 3 and 3", m.memoryPages, m.bodies)
	}
}

// Modules of real compilers pass, with room to spare below every cap.
func TestScanPassesHonestModules(t *testing.T) {
	// Skips under the race detector as a whole: two of the three are Go guests.
	for name, path := range map[string]string{"Go reactor": guest(t, shared.native).Path, "Go command": guest(t, shared.stdio).Path, "C": severityWasm} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := scan(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.depthSquared > maxDepthSquared/10 || m.localsTotal > maxLocalsTotal/5 || len(m.funcTypes) > maxFunctions/10 {
			t.Errorf("%s: squared depths %d, locals %d, functions %d are close to the caps", name, m.depthSquared, m.localsTotal, len(m.funcTypes))
		}
	}
}

// FuzzScan looks for panics, endless loops and memory out of proportion.
func FuzzScan(f *testing.F) {
	f.Add(nativeModule(replyOf(), nil))
	f.Add(nested(2, 50))
	f.Add(nativeModule(replyOf(entry(0, 0, "x", "")), func(m *testModule) {
		m.imports = []testImport{{hostModule, "log", type3}}
		m.table, m.start = []byte{1, 1, 2}, 1
		m.funcs[0].body = code(0x0e, 2, 0, 0, 0, 0x1c, 1, typeI32, 0xfd, 12, make([]byte, 16), 0xfd, 84, 0, 0, 0, 0xfc, 8, 0, 0)
	}))
	if b, err := os.ReadFile(filepath.FromSlash(severityWasm)); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := scan(b)
		if err != nil {
			return
		}
		if _, err := describe(m); err != nil {
			return
		}
		if err := checkImports(m, map[string]map[string]signature{hostModule: {"log": {}}}); err == nil && len(m.imports) > len(b) {
			t.Fatalf("%d imports in %d bytes", len(m.imports), len(b))
		}
	})
}
