package waitqueue

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/watch"
)

// tokenShift leaves room in a token for the index of a grant among those that
// share its revision, or among the owners of one local handover.
const tokenShift = 16

// A tenure is the ownership as etcd knows it: one grant per name, all written
// at one revision. Usually it has one owner; with local handover several
// goroutines of the session own in turn during one tenure.
type tenure struct {
	a      *acquisition // whose keys stand in etcd
	rev    int64
	index  int64 // of the present owner
	inLine bool  // tickets stand in line, granted
	hints  []json.RawMessage
	local  int       // owners so far
	since  time.Time // of the first one

	older, younger *tenure // in the queue's latecomers, of which it is one if it waits
	waits          bool

	mu      sync.Mutex
	owner   *Owned
	begun   bool
	again   *time.Timer // until a lost watch is opened again; nil if none is due
	watches []*watch.Watch
	over    bool
	revoked error // why, once the grant was revoked
	told    error // why, if the grant goes by force after a notice that was read
	why     *Prev // what the next owner's record says of it, but for the token; nil: released
	heir    *hint // in whose favour the owner was told to let go

	foresight *foresight
}

// tenureAt is the tenure of grants written at rev.
func (a *acquisition) tenureAt(rev int64) *tenure {
	for i := range a.parts {
		if p := &a.parts[i]; a.req.Mode == Permits || p.view.stale() {
			p.n.took(a.req, rev)
		}
	}
	return &tenure{a: a, rev: rev, since: time.Now(), inLine: a.entered}
}

// ticketed notes that the tenure's tickets stand in line.
func (t *tenure) ticketed() { t.inLine = true }

// tenureOf is the tenure that a's granted ticket tells of.
func (a *acquisition) tenureOf(ticket *mvccpb.KeyValue) *tenure {
	index, hints := grantedValue(ticket.Value)
	a.parts[0].create, a.entered = ticket.CreateRevision, true
	t := &tenure{a: a, rev: ticket.ModRevision, index: index, hints: hints, since: time.Now(), inLine: true}
	return t
}

func (t *tenure) token() int64 { return t.rev<<tokenShift | t.index }

func (t *tenure) isOwner() clientv3.Cmp { return unmodified(t.a.proof(), t.rev) }

// begin makes o the owner.
func (t *tenure) begin(o *Owned) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owner = o
	t.local++
	if t.revoked != nil { // after the owner before o let go, and before o was here
		o.lose(t.revoked)
	}
	if !t.begun && !t.over {
		t.begun = true
		t.a.q.late.add(t)
	}
}

// watch watches the grants and the notice of a forced release.
func (t *tenure) watch() { t.watchFrom(t.rev + 1) }

// watchFrom misses nothing if all changes before the revision are known.
func (t *tenure) watchFrom(rev int64) {
	e := t.a.q.e
	if !e.Enter() {
		return
	}
	defer e.Leave()
	keys := []string{t.noticeKey()}
	for i := range t.a.parts {
		keys = append(keys, t.a.parts[i].own)
	}
	if t.a.req.Mode == Set {
		keys = append(keys, t.a.set)
	}
	for _, key := range keys {
		w, err := watch.Key(e.Context(), e.Client(), key, watch.Options{
			Revision: rev, Streams: t.a.q.streams, Event: t.onEvent, Lost: func(error) { t.rewatch() },
		})
		if err != nil {
			t.rewatch()
			return
		}
		if !t.keep(w) {
			w.Stop()
			return
		}
	}
	t.foresee()
}

// keep takes a watch, unless the tenure is over, or another look is due, which opens
// them all.
func (t *tenure) keep(w *watch.Watch) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || t.again != nil {
		return false
	}
	t.watches = append(t.watches, w)
	return true
}

// rewatch looks at the state and watches again from there, since a lost watch tells
// nothing, and the revision of the grant may be compacted.
func (t *tenure) rewatch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.watches {
		w.Stop()
	}
	t.watches, t.foresight = nil, nil
	if !t.over && t.again == nil {
		t.again = time.AfterFunc(late, t.lookAndWatch)
	}
}

func (t *tenure) lookAndWatch() {
	t.mu.Lock()
	t.again = nil
	t.mu.Unlock()
	e := t.a.q.e
	if !e.Enter() {
		return
	}
	ctx, cancel := context.WithTimeout(e.Context(), e.TTL()/3)
	resp, err := e.Client().Txn(ctx).Then(clientv3.OpGet(t.a.proof()), clientv3.OpGet(t.noticeKey())).Commit()
	cancel()
	e.Leave()
	if err != nil {
		t.rewatch()
		return
	}
	proof, notices := resp.Responses[0].GetResponseRange().Kvs, resp.Responses[1].GetResponseRange().Kvs
	if len(proof) == 0 || proof[0].ModRevision != t.rev {
		var successor *mvccpb.KeyValue
		if len(proof) > 0 {
			successor = proof[0]
		}
		t.lost(successor, 0)
		return
	}
	for _, kv := range notices {
		t.noticed(kv)
	}
	t.watchFrom(resp.Header.Revision + 1)
}

func (t *tenure) noticeKey() string { return t.a.parts[0].n.notice(t.a.id) }

// onEvent is told of every event on the grants and the notice.
func (t *tenure) onEvent(ev *clientv3.Event) {
	switch {
	case string(ev.Kv.Key) == t.noticeKey():
		if ev.Type == mvccpb.PUT {
			t.noticed(ev.Kv)
		}
	case ev.Kv.ModRevision > t.rev:
		t.lost(ev.Kv, ev.Kv.ModRevision)
	}
}

// noticed tells the owner that it shall let go.
func (t *tenure) noticed(kv *mvccpb.KeyValue) {
	n := noticeOf(kv)
	t.mu.Lock()
	t.told = n.error()
	t.mu.Unlock()
	if len(n.To) > 0 {
		t.transfer(n)
		return
	}
	t.because(CauseForced, n.By+": "+n.Reason)
	t.revoke(n.error())
}

// revoke ends the owner's context; the grant stands until the owner lets go, or
// whoever forces it out has waited long enough.
func (t *tenure) revoke(cause error) {
	t.mu.Lock()
	o := t.owner
	t.revoked = cause
	t.mu.Unlock()
	if o != nil {
		o.lose(cause)
	}
}

// revocation returns why the owner lost the name, if it has heard of that already.
func (t *tenure) revocation() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.revoked
}

// because says why the tenure ends, for the next owner's record. The first reason counts.
func (t *tenure) because(cause, by string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.why == nil {
		t.why = &Prev{Cause: cause, By: by}
	}
}

// lastWord is what an owner that failed its own check leaves behind when nobody is
// next; "" of every other. A host's void records have a meaning of their own.
func (t *tenure) lastWord() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.why == nil || t.why.Cause != CauseUnhealthy || t.a.req.OnePerLease || t.a.req.Mode == Set {
		return ""
	}
	return t.why.By
}

// prev is what the next owner's record says of the tenure.
func (t *tenure) prev() *Prev {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := Prev{Cause: CauseReleased}
	if t.why != nil {
		p = *t.why
	}
	p.ID, p.Token = t.a.id, t.token()
	return &p
}

// clear takes away what is left of a tenure whose grant is gone: others may
// wait for its ticket, or for the other names of a set.
func (t *tenure) clear() {
	t.mu.Lock()
	o := t.owner
	t.mu.Unlock()
	if o != nil {
		_ = o.Release() // the owner gets the same error
	}
}

// finish ends the watches; nothing that they tell counts any more.
func (t *tenure) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	t.a.q.late.remove(t)
	if t.again != nil {
		t.again.Stop()
	}
	for _, w := range t.watches {
		w.Stop()
	}
	t.watches = nil
}

// goOn watches again after finish, for an owner who keeps the name after all.
func (t *tenure) goOn() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = false
	t.again = time.AfterFunc(late, t.lookAndWatch)
}

// letGo ends a tenure that has no owner.
func (t *tenure) letGo(ctx context.Context) {
	p := t.startPass(nil)
	select {
	case <-p.finished:
	case <-ctx.Done():
	}
}
