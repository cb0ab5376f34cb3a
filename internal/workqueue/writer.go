package workqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/engine"
)

// ErrFull says that a bounded queue has no room.
var ErrFull = errors.New("queue is full")

// A Put is an item to enqueue.
type Put struct {
	Record   Record
	Delay    time.Duration
	Dedup    string        // "" for none
	Window   time.Duration // how long Dedup is remembered
	Capacity int           // of the queue; 0 is unbounded
	Wait     bool          // for room

	asked *asked // where another transaction put it
}

// asked is an item that stands under in/asked.
type asked struct {
	key string
	mod int64
}

// A Writer enqueues for one session into one queue. What arrives while transactions
// are under way travels together in the next one.
type Writer struct {
	e     *engine.Engine
	root  keys
	names string // the key that lists the queue
	count atomic.Uint64
	// jumps counts what this session has put in front of items that its pullers may
	// have read.
	jumps atomic.Uint64

	outs register // of the session, which has one Writer for a queue

	mu      sync.Mutex
	pending []*entry
	parked  []*entry // wait for room
	writing bool
	waiting bool // a goroutine waits for room

	many chan struct{} // buffered: worthwhile entries wait

	// Of the goroutine that writes.
	seen    int64 // the revision of the last answer
	lanes   map[string]*lane
	fill    fill
	now     incarnation
	windows windows
	maxOps  int
}

// entry is a Put under way.
type entry struct {
	Put
	id    string
	value []byte
	done  chan placed // buffered
	sent  bool        // guarded by the Writer's lock
	call  *call       // that it came with, nil if alone
	alone bool        // in its batch: one that it was in had an error
	tries int
	doubt bool  // one that was sent may have been applied
	of    int64 // incarnation that it was sent to, while in doubt
}

// call is several entries that came together. They are enqueued in their order.
type call struct{ underWay int }

// placed is what became of a Put.
type placed struct {
	id  string
	err error
}

type writerKey struct{ root string }

// WriterFor returns the Writer of a session for the queue at root. The queue is
// listed under names when its first item is put; "" lists it nowhere.
func WriterFor(e *engine.Engine, root, names string) *Writer {
	return e.Shared(writerKey{root}, func() any {
		return &Writer{e: e, root: keys(root), names: names, lanes: make(map[string]*lane), maxOps: maxOps, many: make(chan struct{}, 1)}
	}).(*Writer)
}

// NewID returns an id that no item of the queue has. Those of one Writer sort in
// the order in which they were made.
func (w *Writer) NewID() string {
	const digits = 10
	n := strconv.FormatUint(w.count.Add(1), 16)
	return w.e.IDPrefix() + "0000000000"[:max(digits-len(n), 0)] + n
}

// Enqueue puts items, each by itself: some may be in the queue when it returns
// an error. The ids are those of the items, or of the ones that were enqueued
// with their dedup keys before. The error is the first one of any item: ErrFull,
// one that is commit.ErrUnknown, ctx's cause if nothing of it was sent, or etcd's.
func (w *Writer) Enqueue(ctx context.Context, puts []Put) ([]string, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if !w.e.Enter() {
		return nil, commit.ErrClosed
	}
	defer w.e.Leave()
	done := make(chan placed, 1)
	entries := make([]*entry, len(puts))
	var together *call
	if len(puts) > 1 {
		together = new(call)
	}
	for i, p := range puts {
		if i > 0 {
			done = make(chan placed, 1)
		}
		entries[i] = &entry{Put: p, id: w.NewID(), value: p.Record.bytes(), done: done, call: together}
	}
	w.submit(entries)
	ids := make([]string, len(puts))
	var first error
	for i, e := range entries {
		got := w.await(ctx, e)
		ids[i] = got.id
		if first == nil {
			first = got.err
		}
	}
	return ids, first
}

// submit hands entries to the goroutine that writes, and starts it.
func (w *Writer) submit(entries []*entry) {
	w.mu.Lock()
	w.pending = append(w.pending, entries...)
	start, many := !w.writing, len(w.pending) >= worthwhile && len(w.pending)-len(entries) < worthwhile
	w.writing = true
	w.mu.Unlock()
	if start {
		w.e.Go(w.write)
	} else if many {
		select {
		case w.many <- struct{}{}:
		default:
		}
	}
}

// await waits for an entry, or takes it back.
func (w *Writer) await(ctx context.Context, e *entry) placed {
	select {
	case p := <-e.done:
		return p
	case <-ctx.Done():
	case <-w.e.Session().Done():
	}
	cause := context.Cause(ctx)
	if cause == nil {
		cause = context.Cause(w.e.Session())
	}
	w.mu.Lock()
	sent := e.sent
	is := func(o *entry) bool { return o == e }
	w.pending = slices.DeleteFunc(w.pending, is)
	w.parked = slices.DeleteFunc(w.parked, is)
	w.mu.Unlock()
	select {
	case p := <-e.done:
		return p
	default:
	}
	if sent {
		return placed{id: e.id, err: fmt.Errorf("%w: %w", commit.ErrUnknown, cause)}
	}
	return placed{err: cause}
}

// waits returns how many entries wait to be sent.
func (w *Writer) waits() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pending)
}

// load reads what the guards compare, where it is not known.
func (w *Writer) load(ctx context.Context, batch []*entry) error {
	for _, e := range batch {
		if e.Dedup != "" {
			if err := w.windows.refresh(ctx, w.e, e.Window); err != nil {
				return err
			}
		}
	}
	missing := !w.fill.known
	for _, e := range batch {
		missing = missing || w.lanes[bucket(e.Record.Priority)] == nil
	}
	if !missing {
		return nil
	}
	ops := w.look(batch)
	resp, err := read(ctx, w.e, ops...)
	if err != nil {
		return err
	}
	w.learn(ops, resp.Responses, resp.Header.Revision)
	return nil
}

// unknown answers a batch of unknown outcome. What has a dedup key is sent
// again: the key keeps the two from both being put.
func (w *Writer) unknown(ctx context.Context, s *sending) {
	var repeat []*entry
	for _, e := range s.batch {
		switch {
		case (e.Dedup != "" || e.asked != nil) && e.tries < 20:
			e.tries++
			if !e.doubt {
				e.doubt, e.of = true, s.now.mod
			}
			repeat = append(repeat, e)
		case e.Dedup == "" && e.asked == nil:
			e.done <- placed{id: e.id, err: s.err}
		default:
			e.done <- placed{err: s.err}
		}
	}
	w.forget()
	if len(repeat) > 0 && pause(ctx, w.e, 50*time.Millisecond*time.Duration(repeat[0].tries)) {
		w.again(repeat)
		return
	}
	w.answer(repeat, s.err)
}

// forget has the next batch read what its guards compare.
func (w *Writer) forget() {
	w.fill.known = false
	clear(w.lanes)
}

// repeatable answers those of a batch that may have been put into a queue which was
// removed since: its dedup keys are forgotten, so a second try could put them twice.
func (w *Writer) repeatable(batch []*entry) []*entry {
	kept := make([]*entry, 0, len(batch))
	for _, e := range batch {
		if e.doubt && e.asked == nil && e.of != w.now.mod {
			e.done <- placed{id: e.id, err: fmt.Errorf("%w: the queue was removed meanwhile", commit.ErrUnknown)}
			continue
		}
		kept = append(kept, e)
	}
	return kept
}

// again puts entries back in front of what is pending.
func (w *Writer) again(batch []*entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = append(slices.Clip(batch), w.pending...)
}

func (w *Writer) answer(batch []*entry, err error) {
	for _, e := range batch {
		e.done <- placed{err: err}
	}
}
