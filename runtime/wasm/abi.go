package wasm

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/shardmill/shardmill/runtime"
)

// ABIs, by the words of ABI.md and of runtime.Artifact.ABI.
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

// moduleInfo is what a compile job learns of a module.
type moduleInfo struct {
	ABI         string            `json:"abi"`            // what the module looks like
	Unfit       map[string]string `json:"unfit"`          // by ABI: why the module cannot be served by it
	Uses        []string          `json:"uses,omitempty"` // functions imported from shardmill
	MemoryPages uint32            `json:"memoryPages"`    // the module's minimum
}

// describe finds the ABI a module looks like and those it cannot be served by. Its error says
// that there is none.
func describe(m *module) (moduleInfo, error) {
	info := moduleInfo{Unfit: map[string]string{}, MemoryPages: m.memoryPages}
	for _, i := range m.imports {
		if i.module == hostModule && i.kind == externFunc {
			info.Uses = append(info.Uses, i.name)
		}
	}
	for abi, check := range map[string]func(*module) error{abiNative: checkNative, abiPull: checkPull, abiStdio: checkStdio} {
		if err := check(m); err != nil {
			info.Unfit[abi] = err.Error()
		}
	}
	_, native := m.exports[exportMarker]
	_, command := m.exports[exportCommand]
	switch {
	case native:
		info.ABI = abiNative
	case m.importsFunc(hostModule, "next"):
		info.ABI = abiPull
	case command:
		info.ABI = abiStdio
	}
	if len(info.Unfit) < 3 {
		return info, nil
	}
	if info.ABI != "" {
		return info, errors.New(info.Unfit[info.ABI])
	}
	for name := range m.exports {
		if strings.HasPrefix(name, "shardmill_abi_") {
			return info, fmt.Errorf("the module speaks %s, this version of shardmill speaks %s", clip(name), exportMarker)
		}
	}
	return info, fmt.Errorf("the module speaks no ABI of shardmill: export %s, %s and %s (native batch, see sdk/ABI.md), or import shardmill.next (pull), or be a WASI command that exports %s (stdio)",
		exportMarker, exportAlloc, exportTransform, exportCommand)
}

// choose is the ABI that serves the module: the one that is wanted, or what it looks like.
func (i moduleInfo) choose(want string) (string, error) {
	switch want {
	case "":
		if why := i.Unfit[i.ABI]; why != "" {
			return "", errors.New(why)
		}
		return i.ABI, nil
	case abiNative, abiPull, abiStdio:
		if why := i.Unfit[want]; why != "" {
			return "", fmt.Errorf("the ABI %q is asked for, but %s", want, why)
		}
		return want, nil
	}
	return "", fmt.Errorf("the ABI %q does not exist; there are %q, %q and %q", want, abiNative, abiPull, abiStdio)
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
	if _, ok := m.exports[exportMarker]; !ok {
		return fmt.Errorf("the module does not export %s, the mark of the native batch ABI", exportMarker)
	}
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

func checkPull(m *module) error {
	switch {
	case !m.importsFunc(hostModule, "next"):
		return errors.New("the module does not import shardmill.next, by which the pull ABI gets its events")
	case !m.importsFunc(hostModule, "respond"):
		return errors.New("the module imports shardmill.next but not shardmill.respond, so it cannot answer")
	}
	return checkCommand(m, "pull")
}

func checkStdio(m *module) error {
	if m.importsFunc(hostModule, "next") {
		return errors.New("the module imports shardmill.next, so it does not read its events from stdin")
	}
	return checkCommand(m, "stdio")
}

func checkCommand(m *module, abi string) error {
	if _, ok := m.exports[exportCommand]; !ok {
		return fmt.Errorf("the module does not export %s, which the %s ABI needs", exportCommand, abi)
	}
	return checkExport(m, exportCommand, signature{}, true)
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

// grantOf names the grant that a function of module shardmill needs; "" is none.
func grantOf(function string) string {
	switch function {
	case "metric":
		return "metrics"
	case "state_get", "state_put":
		return "state"
	case "emit":
		return "emit"
	}
	return ""
}

// checkGrants refuses a module that imports what its function was not granted, or what this host
// does not have.
func checkGrants(info moduleInfo, g runtime.Grants, s runtime.Services) error {
	granted := map[string]bool{"": true, "metrics": g.Metrics, "state": g.State, "emit": len(g.Emit) > 0}
	there := map[string]bool{"": true, "metrics": true, "state": s.State != nil, "emit": s.Streams != nil}
	for _, name := range info.Uses {
		grant := grantOf(name)
		if !granted[grant] {
			return fmt.Errorf("it imports shardmill.%s, which needs the grant %q; name it under grants in the function's manifest, or build the module without it", name, grant)
		}
		if !there[grant] {
			return fmt.Errorf("it imports shardmill.%s, but this host has nothing behind the grant %q", name, grant)
		}
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
			return fmt.Errorf("the module imports %q, which does not exist; module %s has %s", i.String(), hostModule, strings.Join(hostNames(), ", "))
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
