package wasm

import (
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// compiler is the host's side of compile jobs.
type compiler struct {
	cacheDir string
	spawner  *spawner
	flights  flights
	slots    chan struct{}
}

// compileJob names the work: the module's file and what it must hash to.
type compileJob struct {
	name, path, hash string
	size             int64
}

// compileSpec is the LOAD frame of a compile job.
type compileSpec struct {
	CacheDir   string `json:"cacheDir"`
	CPUSeconds uint64 `json:"cpuSeconds"`
	DataBytes  uint64 `json:"dataBytes"`
}

const compileData = 1 << 30 // RLIMIT_DATA of a compile job

func newCompiler(cacheDir string, s *spawner) *compiler {
	return &compiler{
		cacheDir: cacheDir,
		spawner:  s,
		flights:  flights{m: map[string]*flight{}},
		slots:    make(chan struct{}, max(1, goruntime.NumCPU()/2)),
	}
}

// cpuSeconds is what compiling a module of size bytes may cost; honest modules take a fourth.
func cpuSeconds(size int64) uint64 { return 5 + 2*uint64(size>>20) }

// wallTime is how long a job may take on a busy machine.
func wallTime(size int64) time.Duration { return 10 * time.Duration(cpuSeconds(size)) * time.Second }

// dir is the module's own cache folder. No worker of another module can reach it by its own name.
func (c *compiler) dir(hash string) string { return filepath.Join(c.cacheDir, hash) }

// compile makes sure that the module is compiled and says what it is. Jobs for one module are
// joined, and only half of the cores compile at any time.
func (c *compiler) compile(ctx context.Context, j compileJob) (moduleInfo, error) {
	return c.flights.do(ctx, j.hash, func() (moduleInfo, error) {
		c.slots <- struct{}{}
		defer func() { <-c.slots }()
		return c.run(j)
	})
}

// cached is the size of the module's compiled code, 0 when there is none.
func (c *compiler) cached(hash string) (size int64) {
	filepath.WalkDir(c.dir(hash), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	return size
}

func (c *compiler) run(j compileJob) (moduleInfo, error) {
	var info moduleInfo
	if c.cacheDir == "" {
		return info, errs.New(errs.Internal, "the WebAssembly engine has no cache directory")
	}
	dir, err := filepath.Abs(c.dir(j.hash))
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return info, errs.Wrap(errs.Unavailable, err, "the cache directory for module %q cannot be made", j.name)
	}
	f, err := os.Open(j.path)
	if err != nil {
		return info, errs.Wrap(errs.Invalid, err, "the module file of function %q cannot be opened", j.name)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), wallTime(j.size))
	defer cancel()
	p, err := c.spawner.spawn(ctx, compilerName, f)
	if err != nil {
		return info, err
	}
	return c.converse(ctx, p, j, dir)
}

// converse hands a started job its spec, waits for its answer and for its end.
func (c *compiler) converse(ctx context.Context, p *process, j compileJob, dir string) (info moduleInfo, err error) {
	stop := context.AfterFunc(ctx, p.kill)
	drained := make(chan []byte, 1)
	go func() {
		tail, _ := io.ReadAll(io.LimitReader(p.logs, 4096))
		io.Copy(io.Discard, p.logs)
		drained <- tail
	}()
	p.ch.max = 64 << 10
	spec, _ := json.Marshal(compileSpec{dir, cpuSeconds(j.size), compileData})
	werr := p.ch.writeBytes(header{kind: kindLoad}, spec)
	h, payload, rerr := p.ch.read()
	stop()
	p.kill()
	tail := <-drained
	waitErr := p.cmd.Wait()
	p.close()
	switch {
	case rerr == nil && h.kind == kindReady && json.Unmarshal(payload, &info) == nil && (info.ABI == abiNative || info.ABI == abiStdio):
		return info, nil
	case rerr == nil && h.kind == kindFault && len(payload) > 1:
		return info, errs.New(errs.Invalid, "module %q is refused: %s", j.name, printable(payload[1:], 2048, false))
	case ctx.Err() != nil:
		return info, errs.New(errs.Invalid, "module %q did not compile within %s; the machine is too busy, or the module's functions are too large", j.name, wallTime(j.size))
	case werr == nil && rerr == io.EOF:
		return info, errs.Wrap(errs.Invalid, waitErr, "compiling module %q took more than its limits of %d seconds of processor time and %d MiB of memory, or broke the compiler: %s",
			j.name, cpuSeconds(j.size), compileData>>20, printable(tail, 200, false))
	}
	return info, errs.New(errs.Internal, "the compile job of module %q answered out of protocol", j.name)
}
