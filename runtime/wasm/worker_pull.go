package wasm

import (
	"context"
	"fmt"
	"os"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// pullGuest is where a pull module stands. Its calls of next and respond drive everything: the
// first next is READY, and an invocation is over when the guest, having responded, calls next
// again or exits.
type pullGuest struct {
	w      *worker
	ready  bool
	event  []byte // parked until a buffer is large enough; nil when the guest has it
	id     string // of the event that the guest has and must answer; "" when none
	parked string // the id of event
	answer []byte
	done   bool // answer is there
	failed bool // and is an error document
}

// Kinds of shardmill.respond.
const (
	respondAnswer = iota
	respondError
	respondInitError
	respondBroken // a stream that failed on the way
)

func (w *worker) servePull(ctx context.Context, compiled wazero.CompiledModule) {
	p := &pullGuest{w: w}
	w.pull = p
	_, err := w.engine.InstantiateModule(ctx, compiled, w.config().WithStdout(&w.log).WithStartFunctions(exportCommand))
	if p.done {
		p.finish(flagLast)
		os.Exit(0)
	}
	what := "before it answered the event"
	if !p.ready {
		what = "before it called shardmill.next; a pull module takes events in a loop"
	}
	if err != nil {
		w.stopped(err, what)
	}
	w.exited(0, what)
}

// finish hands the answer to the host.
func (p *pullGuest) finish(flags uint8) {
	if p.failed {
		flags |= flagError
	}
	p.w.reply(p.answer, flags)
	p.done, p.failed, p.id = false, false, ""
}

// hostNext is next(ptr, cap) -> length. It waits for an event.
func (w *worker) hostNext(m api.Module, stack []uint64) {
	const name = "shardmill.next"
	p := w.pull
	if p == nil {
		panic(fmt.Errorf("%s is for modules of the pull ABI, and this one is served by the %s ABI", name, w.spec.ABI))
	}
	if p.event == nil {
		p.turn()
	}
	at, room := stack[0], uint64(uint32(stack[1]))
	size := uint64(len(p.event))
	if size <= room {
		copy(bytesAt(m, name, at, size), p.event)
		p.event, p.id = nil, p.parked
	}
	stack[0] = size
}

// turn ends the invocation under way and waits for the next.
func (p *pullGuest) turn() {
	switch {
	case !p.ready:
		p.ready = true
		p.w.ready()
	case p.done:
		p.finish(0)
	case p.id != "":
		p.w.fault(faultProtocol, "the module called shardmill.next before it answered the event with shardmill.respond")
	}
	p.event = p.w.next()
	id, _ := lookFact(p.w.facts, "id")
	p.parked = string(id)
}

// hostRespond is respond(kind, idPtr, idLen, ptr, len) -> 0.
func (w *worker) hostRespond(m api.Module, stack []uint64) {
	const name = "shardmill.respond"
	p := w.pull
	if p == nil {
		panic(fmt.Errorf("%s is for modules of the pull ABI, and this one is served by the %s ABI", name, w.spec.ABI))
	}
	kind := uint32(stack[0])
	id, body := bytesAt(m, name, stack[1], stack[2]), bytesAt(m, name, stack[3], stack[4])
	switch {
	case kind > respondBroken:
		w.fault(faultProtocol, fmt.Sprintf("%s was given the kind %d; there are 0 (answer), 1 (error), 2 (error while starting) and 3 (an answer that broke off)", name, kind))
	case kind == respondInitError && !p.ready:
		w.fault(faultHandler, "it reported an error: "+printable(body, 1024, false))
	case kind == respondInitError:
		w.fault(faultProtocol, name+" was given an error while starting (kind 2) after the first shardmill.next")
	case p.id == "":
		w.fault(faultProtocol, name+" was called without an event to answer")
	case string(id) != p.id:
		w.fault(faultProtocol, fmt.Sprintf("%s answered the request %q, but %q is under way", name, printable(id, 100, false), p.id))
	case p.done:
		w.fault(faultProtocol, name+" answered the event a second time")
	case len(body) > w.spec.MaxReply:
		w.fault(faultTooLarge, fmt.Sprintf("%d", len(body)))
	}
	p.answer = append(p.answer[:0], body...)
	p.done, p.failed = true, kind != respondAnswer
	stack[0] = 0
}
