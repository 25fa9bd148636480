package wasm

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// serveNative runs a native batch module: alloc, copy the batch in, transform, copy the reply
// out, once an invocation.
func (w *worker) serveNative(ctx context.Context, compiled wazero.CompiledModule) {
	guest, err := w.engine.InstantiateModule(ctx, compiled, w.config().WithStdout(&w.log).WithStartFunctions(exportReactor))
	if err != nil {
		w.stopped(err, "while it started")
	}
	w.guest = guest
	if guest.IsClosed() { // proc_exit(0) in _initialize is no error for wazero
		w.exited(0, "while it started")
	}
	if init := guest.ExportedFunction(exportInit); init != nil {
		status, err := init.Call(ctx)
		if err != nil {
			w.stopped(err, "in "+exportInit)
		}
		if status[0] != 0 {
			w.fault(faultHandler, fmt.Sprintf("%s returned %d: %s", exportInit, int32(status[0]), w.errText))
		}
	}
	w.ready()
	n := &nativeGuest{w: w, alloc: guest.ExportedFunction(exportAlloc), transform: guest.ExportedFunction(exportTransform), memory: guest.Memory()}
	for {
		n.process(ctx, w.next())
	}
}

type nativeGuest struct {
	w                *worker
	alloc, transform api.Function
	memory           api.Memory
	stack            [2]uint64
}

func (n *nativeGuest) process(ctx context.Context, batch []byte) {
	w := n.w
	n.stack[0] = uint64(len(batch))
	if err := n.alloc.CallWithStack(ctx, n.stack[:]); err != nil {
		w.stopped(err, "in "+exportAlloc)
	}
	at := uint32(n.stack[0])
	if at == 0 {
		w.fault(faultMemory, fmt.Sprintf("%s returned 0 for %d bytes: the module is out of memory", exportAlloc, len(batch)))
	}
	if !n.memory.Write(at, batch) {
		w.fault(faultProtocol, fmt.Sprintf("%s(%d) returned address %d, but the memory ends at byte %d", exportAlloc, len(batch), at, n.memory.Size()))
	}
	n.stack[0], n.stack[1] = uint64(at), uint64(len(batch))
	if err := n.transform.CallWithStack(ctx, n.stack[:]); err != nil {
		w.stopped(err, "in "+exportTransform)
	}
	if n.stack[0] == 0 {
		text := string(w.errText)
		if text == "" {
			text = exportTransform + " returned 0 and gave no reason with shardmill.error"
		}
		w.failed(text)
		return
	}
	out, size := uint32(n.stack[0]>>32), uint32(n.stack[0])
	if int64(size) > int64(w.spec.MaxReply) {
		w.fault(faultTooLarge, fmt.Sprintf("%d", size))
	}
	reply, ok := n.memory.Read(out, size)
	if !ok {
		w.fault(faultProtocol, fmt.Sprintf("%s returned a reply of %d bytes at byte %d, but the memory ends at byte %d", exportTransform, size, out, n.memory.Size()))
	}
	w.reply(reply, 0)
}
