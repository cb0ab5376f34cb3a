package waitqueue

import (
	"maps"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/watch"
)

// maxForeseen is how many tickets an owner keeps in mind.
const maxForeseen = 256

// A foresight is who waits behind an owner that stays for long, as a leader does:
// kept up to date by a watch, so that its release needs no read and one request.
// It may be late like any watch: guards decide what it is worth.
type foresight struct {
	mu      sync.Mutex
	tickets map[string]*mvccpb.KeyValue // that wait; nil: not known
}

// foresee begins to follow the line, for owners who stand apart. It is called
// with the tenure's other watches, 250 ms after the ownership began.
func (t *tenure) foresee() {
	if r := t.a.req; !r.Apart || r.Mode != Exclusive && r.Mode != Permits {
		return
	}
	e, n := t.a.q.e, t.a.parts[0].n
	resp, err := e.Client().Do(e.Context(), first(n.line(), maxForeseen))
	if err != nil || resp.Get().More {
		return // it reads when it lets go
	}
	f := &foresight{tickets: make(map[string]*mvccpb.KeyValue)}
	for _, kv := range resp.Get().Kvs {
		f.put(kv)
	}
	w, err := watch.Key(e.Context(), e.Client(), n.line().from, watch.Options{Prefix: true, Revision: resp.Get().Header.Revision + 1,
		Streams: t.a.q.streams, Event: f.event, Lost: func(error) { f.forget() }})
	if err != nil {
		return
	}
	if !t.keep(w) {
		w.Stop()
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.foresight = f
}

func (f *foresight) event(ev *clientv3.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ev.Type == mvccpb.DELETE {
		delete(f.tickets, string(ev.Kv.Key))
		return
	}
	f.put(ev.Kv)
}

// put is called with the lock held, or before f is shared.
func (f *foresight) put(kv *mvccpb.KeyValue) {
	switch {
	case kv.Version != waiting:
		delete(f.tickets, string(kv.Key))
	case len(f.tickets) == maxForeseen:
		f.tickets = nil
	case f.tickets != nil:
		f.tickets[string(kv.Key)] = kv
	}
}

func (f *foresight) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tickets = nil
}

// foreseen returns the first in line, if they are known.
func (t *tenure) foreseen() (hints []hint, known bool) {
	t.mu.Lock()
	f := t.foresight
	t.mu.Unlock()
	if f == nil {
		return nil, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tickets == nil {
		return nil, false
	}
	all := lineOf(slices.Collect(maps.Values(f.tickets)))
	return all[:min(len(all), hintCount+levels)], true
}
