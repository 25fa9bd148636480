package wasm

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// compiler is the host's side of compile jobs.
type compiler struct {
	cache   cache
	spawner *spawner
	flights flights
	slots   chan struct{}

	cpuSeconds func(size int64) uint64 // what a job may take; tests take less
	dataBytes  uint64
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

func newCompiler(o Options, s *spawner) *compiler {
	limit := o.CacheBytes
	if limit == 0 {
		limit = defaultCacheBytes
	}
	return &compiler{
		cache:   cache{dir: o.CacheDir, limit: limit, pinned: map[string]int{}},
		spawner: s,
		flights: flights{m: map[string]*flight{}},
		slots:   make(chan struct{}, max(1, goruntime.NumCPU()/2)),

		cpuSeconds: cpuSeconds,
		dataBytes:  compileData,
	}
}

// cpuSeconds is what compiling a module of size bytes may cost; honest modules take a fourth.
func cpuSeconds(size int64) uint64 { return 5 + 2*uint64(size>>20) }

// wallTime is how long a job may take on a busy machine.
func wallTime(size int64) time.Duration { return 10 * time.Duration(cpuSeconds(size)) * time.Second }

// compile makes sure that the module is compiled and says what it is and how large its code is.
// Jobs for one module are joined, and only half of the cores compile at any time.
func (c *compiler) compile(ctx context.Context, j compileJob) (cacheFacts, error) {
	if facts, ok := c.cache.look(j.hash); ok {
		return facts, nil
	}
	return c.flights.do(ctx, j.hash, func() (cacheFacts, error) {
		c.slots <- struct{}{}
		defer func() { <-c.slots }()
		info, err := c.run(j)
		if err != nil {
			os.RemoveAll(c.cache.folder(j.hash)) // what a job left that failed is of no use
			return cacheFacts{}, err
		}
		if err := c.cache.remember(j.hash, info); err != nil {
			return cacheFacts{}, errs.Wrap(errs.Unavailable, err, "the compiled code of module %q cannot be kept", j.name)
		}
		facts, ok := c.cache.look(j.hash)
		if !ok {
			return cacheFacts{}, errs.New(errs.Unavailable, "the compiled code of module %q vanished from the cache %s", j.name, c.cache.dir)
		}
		return facts, nil
	})
}

func (c *compiler) run(j compileJob) (moduleInfo, error) {
	var info moduleInfo
	if c.cache.dir == "" {
		return info, errs.New(errs.Internal, "the WebAssembly engine has no cache directory")
	}
	dir, err := filepath.Abs(c.cache.folder(j.hash))
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
	spec, _ := json.Marshal(compileSpec{dir, c.cpuSeconds(j.size), c.dataBytes})
	werr := p.ch.writeBytes(header{kind: kindLoad}, spec)
	h, payload, rerr := p.ch.read()
	stop()
	p.kill()
	tail := <-drained
	waitErr := p.cmd.Wait()
	p.close()
	switch {
	case rerr == nil && h.kind == kindReady && json.Unmarshal(payload, &info) == nil:
		return info, nil
	case rerr == nil && h.kind == kindFault && len(payload) > 1:
		return info, errs.New(errs.Invalid, "module %q is refused: %s", j.name, printable(payload[1:], 2048, false))
	case ctx.Err() != nil:
		return info, errs.New(errs.Invalid, "module %q did not compile within %s; the machine is too busy, or the module's functions are too large", j.name, wallTime(j.size))
	case werr == nil && rerr == io.EOF:
		return info, errs.Wrap(errs.Invalid, waitErr, "compiling module %q took more than its limits of %d seconds of processor time and %d MiB of memory, or broke the compiler: %s",
			j.name, c.cpuSeconds(j.size), c.dataBytes>>20, printable(tail, 200, false))
	}
	return info, errs.New(errs.Internal, "the compile job of module %q answered out of protocol", j.name)
}
