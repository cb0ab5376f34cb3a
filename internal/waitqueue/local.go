package waitqueue

import "time"

// passLocally gives the tenure to the next of the local line, without a write,
// if o's local handover allows it. The token grows by its index.
func (t *tenure) passLocally(o *Owned) bool {
	l, r := o.a.line, o.a.req
	if l == nil || r.LocalN <= t.local || time.Since(t.since) >= r.LocalFor || t.index >= MaxLocal {
		return false
	}
	t.mu.Lock()
	over := t.over
	t.mu.Unlock()
	if over {
		return false
	}
	next := l.next()
	if next == nil {
		return false
	}
	t.index++
	if o.a != t.a {
		o.a.done()
	}
	l.succeed(next, handed{tenure: t})
	return true
}
