package watch

import (
	"sync"
	"time"
)

// pulse tells an observation's owner when nothing has been heard from the
// cluster for a while, and when something is heard again. It has a timer of its
// own, so that it works whatever the observation is waiting for.
type pulse struct {
	after time.Duration
	tell  func(stale bool, cause error)

	mu     sync.Mutex
	timer  *time.Timer
	cause  error
	last   time.Time
	stale  bool
	closed bool
}

// newPulse starts the watch over an observation; it is nil, and every method of
// it does nothing, if nobody wants to be told.
func newPulse(after time.Duration, tell func(bool, error)) *pulse {
	if tell == nil {
		return nil
	}
	p := &pulse{after: after, tell: tell, last: time.Now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(after, p.expire)
	return p
}

// heard notes a sign of life.
func (p *pulse) heard() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.last, p.cause = time.Now(), nil
	if p.stale {
		p.stale = false
		p.timer.Reset(p.after)
		p.tell(false, nil)
	}
}

// failed notes what a silence will be blamed on.
func (p *pulse) failed(err error) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cause = err
}

// expire runs when the timer fires: either the silence has lasted, or the timer
// is set to when it will have.
func (p *pulse) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.stale {
		return
	}
	if left := p.after - time.Since(p.last); left > 0 {
		p.timer.Reset(left)
		return
	}
	cause := p.cause
	if cause == nil {
		cause = errSilent
	}
	p.stale = true
	p.tell(true, cause)
}

// close returns once tell neither runs nor will run.
func (p *pulse) close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.timer.Stop()
}
