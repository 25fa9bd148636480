package wasm

import (
	"fmt"
	"sort"
	"strings"
)

// ABIs, by the words of ABI.md.
const (
	abiNative = "native"
	abiPull   = "pull"
	abiStdio  = "stdio"
)

const (
	hostModule = "shardmill"
	wasiModule = "wasi_snapshot_preview1"

	exportMarker    = "shardmill_abi_v1"
	exportAlloc     = "shardmill_alloc"
	exportTransform = "shardmill_transform"
	exportInit      = "shardmill_init"
	exportReactor   = "_initialize"
	exportCommand   = "_start"
)

// moduleInfo is the compile job's answer to the host.
type moduleInfo struct {
	ABI         string `json:"abi"`
	MemoryPages uint32 `json:"memoryPages"` // the module's minimum
}

// detect finds the ABI a module is served by and checks that it can be.
func detect(m *module) (string, error) {
	_, native := m.exports[exportMarker]
	_, command := m.exports[exportCommand]
	switch {
	case native:
		return abiNative, checkNative(m)
	case m.importsFunc(hostModule, "next"):
		return "", fmt.Errorf("the module imports shardmill.next (the %s ABI), which this version of shardmill does not serve yet; export the native batch ABI (%s), or deploy the handler as a native bootstrap", abiPull, exportMarker)
	case command:
		return abiStdio, checkExport(m, exportCommand, signature{}, true)
	}
	for name := range m.exports {
		if strings.HasPrefix(name, "shardmill_abi_") {
			return "", fmt.Errorf("the module speaks %s, this version of shardmill speaks %s", clip(name), exportMarker)
		}
	}
	return "", fmt.Errorf("the module speaks no ABI of shardmill: export %s, %s and %s (native batch, see sdk/ABI.md), or import shardmill.next (pull), or be a WASI command that exports %s (stdio)",
		exportMarker, exportAlloc, exportTransform, exportCommand)
}

func (m *module) importsFunc(mod, name string) bool {
	for _, i := range m.imports {
		if i.module == mod && i.name == name {
			return true
		}
	}
	return false
}

func checkNative(m *module) error {
	if e, ok := m.exports["memory"]; !ok || e.kind != externMemory {
		return fmt.Errorf(`the module does not export its memory as "memory", which the native batch ABI needs`)
	}
	const i32, i64 = "\x7f", "\x7e"
	for _, e := range []struct {
		name     string
		sig      signature
		required bool
	}{
		{exportMarker, signature{}, true},
		{exportAlloc, signature{i32, i32}, true},
		{exportTransform, signature{i32 + i32, i64}, true},
		{exportInit, signature{"", i32}, false},
		{exportReactor, signature{}, false},
	} {
		if err := checkExport(m, e.name, e.sig, e.required); err != nil {
			return err
		}
	}
	return nil
}

func checkExport(m *module, name string, want signature, required bool) error {
	e, ok := m.exports[name]
	switch {
	case !ok && !required:
		return nil
	case !ok:
		return fmt.Errorf("the module exports %s but not %s %s, which the native batch ABI needs", exportMarker, name, want)
	case e.kind != externFunc:
		return fmt.Errorf("the module's export %s is not a function; it must be %s", name, want)
	case e.sig != want:
		return fmt.Errorf("the module's export %s has the signature %s; it must be %s", name, e.sig, want)
	}
	return nil
}

// checkImports refuses imports that the worker does not provide. provided maps module and name
// to a signature.
func checkImports(m *module, provided map[string]map[string]signature) error {
	var unknown []string
	for _, i := range m.imports {
		want, ok := provided[i.module][i.name]
		switch {
		case i.kind != externFunc:
			return fmt.Errorf("the module imports the %s %q; only functions can be imported", externNames[i.kind], i.String())
		case !ok && i.module == hostModule:
			return fmt.Errorf("the module imports %q, which is not granted; granted are shardmill.log, shardmill.error and shardmill.config", i.String())
		case !ok:
			unknown = append(unknown, fmt.Sprintf("%q", i.String()))
		case i.sig != want:
			return fmt.Errorf("the module imports %q as %s; it is %s", i.String(), i.sig, want)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	sort.Strings(unknown)
	more := ""
	if len(unknown) > 10 {
		unknown, more = unknown[:10], " and more"
	}
	return fmt.Errorf("the module imports functions that do not exist here: %s%s; it may import from %s, %s and env.abort", strings.Join(unknown, ", "), more, wasiModule, hostModule)
}
