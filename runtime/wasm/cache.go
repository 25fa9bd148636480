package wasm

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/cpu"
)

// The cache has a folder for every module, named by the module's sha256, which holds what wazero
// compiled and what the compile job learned:
//
//	CacheDir/<sha256>/wazero-<version>-<arch>-<os>/<key>   native code
//	CacheDir/<sha256>/facts.json                           cacheFacts, written last
//
// A folder is good for the binary and the processor that made it. Its modification time is when a
// function last used it: when the cache grows past its limit, the folders that no function of this
// engine uses go, those unused for the longest time first.
type cache struct {
	dir   string
	limit int64

	mu     sync.Mutex
	pinned map[string]int // functions that use the folder
}

const (
	defaultCacheBytes = 1 << 30
	factsFile         = "facts.json"
	factsVersion      = 1 // goes up when scan, describe or cacheFacts change
)

// cacheFacts is the content of facts.json.
type cacheFacts struct {
	Maker string     `json:"maker"`
	Code  string     `json:"code,omitempty"` // the file with the code, below the folder; "" when modules are interpreted
	Bytes int64      `json:"bytes"`          // of that file
	Info  moduleInfo `json:"info"`
}

// maker names everything that compiled code depends on beside the module.
var maker = sync.OnceValue(func() string {
	version := "?"
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, d := range build.Deps {
			if d.Path == "github.com/tetratelabs/wazero" {
				version = d.Version
			}
		}
	}
	features := crc32.ChecksumIEEE(fmt.Append(nil, cpu.X86, cpu.ARM64))
	return fmt.Sprintf("%d wazero %s %s/%s %08x", factsVersion, version, goruntime.GOOS, goruntime.GOARCH, features)
})

// folder is the module's own cache folder. No worker of another module can reach it by its own name.
func (c *cache) folder(hash string) string { return filepath.Join(c.dir, hash) }

// look returns what is known of a module. ok is false when it must be compiled.
func (c *cache) look(hash string) (facts cacheFacts, ok bool) {
	b, err := os.ReadFile(filepath.Join(c.folder(hash), factsFile))
	if err != nil || json.Unmarshal(b, &facts) != nil || facts.Maker != maker() {
		return cacheFacts{}, false
	}
	if facts.Code != "" {
		info, err := os.Stat(filepath.Join(c.folder(hash), facts.Code))
		if err != nil || info.Size() != facts.Bytes || !filepath.IsLocal(facts.Code) {
			return cacheFacts{}, false
		}
	}
	now := time.Now()
	os.Chtimes(c.folder(hash), now, now) // without it the folder only goes earlier
	return facts, true
}

// remember writes what a compile job learned, and makes room.
func (c *cache) remember(hash string, info moduleInfo) error {
	facts := cacheFacts{Maker: maker(), Info: info}
	newest := time.Time{}
	for _, f := range c.files(hash) {
		if f.info.ModTime().After(newest) { // entries of older makers may lie beside it
			facts.Code, facts.Bytes, newest = f.path, f.info.Size(), f.info.ModTime()
		}
	}
	b, err := json.Marshal(facts)
	if err != nil {
		return err
	}
	path := filepath.Join(c.folder(hash), factsFile)
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	c.shrink()
	return nil
}

type cacheFile struct {
	path string // below the module's folder
	info fs.FileInfo
}

// files lists the code files of a module.
func (c *cache) files(hash string) (out []cacheFile) {
	root := c.folder(hash)
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Dir(path) == root {
			return nil
		}
		if info, err := d.Info(); err == nil {
			rel, _ := filepath.Rel(root, path)
			out = append(out, cacheFile{rel, info})
		}
		return nil
	})
	return out
}

// pin keeps a module's folder until as many unpins.
func (c *cache) pin(hash string) {
	c.mu.Lock()
	c.pinned[hash]++
	c.mu.Unlock()
}

func (c *cache) unpin(hash string) {
	c.mu.Lock()
	if c.pinned[hash]--; c.pinned[hash] <= 0 {
		delete(c.pinned, hash)
	}
	c.mu.Unlock()
}

// shrink removes folders until the cache keeps its limit, or nothing is left that may go. Folders
// with other names than hashes are not the cache's and stay.
func (c *cache) shrink() {
	c.mu.Lock()
	defer c.mu.Unlock()
	type folder struct {
		hash  string
		bytes int64
		used  time.Time
	}
	var old []folder
	var total int64
	entries, _ := os.ReadDir(c.dir)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || len(e.Name()) != 64 {
			continue
		}
		f := folder{hash: e.Name(), used: info.ModTime()}
		for _, file := range c.files(f.hash) {
			f.bytes += file.info.Size()
		}
		total += f.bytes
		if c.pinned[f.hash] == 0 {
			old = append(old, f)
		}
	}
	slices.SortFunc(old, func(a, b folder) int { return a.used.Compare(b.used) })
	for _, f := range old {
		if total <= c.limit {
			return
		}
		if os.RemoveAll(c.folder(f.hash)) == nil {
			total -= f.bytes
		}
	}
}
