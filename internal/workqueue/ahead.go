package workqueue

import (
	"context"
	"sync"
	"time"
)

const (
	maxAhead  = 256
	lingering = 50 * time.Millisecond // how long what was claimed ahead waits to be taken
	brisk     = 20 * time.Millisecond // who takes all within it gets more ahead
)

// hasten claims more in advance if what there was did not last, and several wait
// at once: one who takes items one after another gets each in its order. It is
// called with the lock held, when somebody finds nothing. A session that hosts serve
// takes what its caller asks for and no more: the host may not last either.
func (d *Dock) hasten() {
	if !d.e.Borrowed() && len(d.waiting) > 0 && time.Since(d.filled) < brisk {
		d.ahead = min(max(4, 2*d.ahead), maxAhead)
	}
}

// keepFor returns what is in the buffer if nobody takes it for a while. It is
// called with the lock held, by somebody whom Close waits for.
func (d *Dock) keepFor(wait time.Duration) {
	if d.linger != nil {
		d.linger.Reset(wait)
		return
	}
	d.linger = time.AfterFunc(wait, func() {
		if !d.e.Enter() {
			return // the session ends, and with it the deliveries
		}
		defer d.e.Leave()
		d.giveUp()
	})
}

// giveUp returns the buffer to the queue, unless more is coming into it: that would
// then come before what was returned.
func (d *Dock) giveUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := lingering - time.Since(d.filled)
	if d.claiming {
		left = lingering
	}
	if left > 0 && len(d.buffer) > 0 {
		d.linger.Reset(left)
		return
	}
	d.empty()
}

// empty returns the buffer to the queue, and tells when it is there. It is called
// with the lock held, by a call that is counted in.
func (d *Dock) empty() (back <-chan struct{}) {
	unwanted, done := d.buffer, make(chan struct{})
	d.buffer, d.ahead = nil, d.ahead/4
	d.returning++
	d.e.Go(func(ctx context.Context) {
		defer close(done)
		var all sync.WaitGroup
		for _, v := range unwanted {
			all.Go(func() { v.unclaim(ctx) })
		}
		all.Wait()
		d.hold(unwanted)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.returning--
		d.returned.Broadcast()
	})
	return done
}

// giveWay returns the buffer to the queue, behind an item that was returned, and
// waits until it is there or ctx ends.
func (d *Dock) giveWay(ctx context.Context) {
	if !d.e.Enter() {
		return // the session ends, and with it the deliveries
	}
	defer d.e.Leave()
	d.mu.Lock()
	back := d.empty()
	d.mu.Unlock()
	select {
	case <-back:
	case <-ctx.Done():
	}
}

// claims waits until what was given up is back in the queue, where it has its turn,
// and keeps the buffer from being given up for want of takers until claimed is
// called.
func (d *Dock) claims() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.returning > 0 {
		d.returned.Wait()
	}
	d.claiming = true
}

func (d *Dock) claimed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.claiming = false
}

// idle tells that nothing is claimed in advance any more.
func (d *Dock) idle() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting) == 0 && (d.ahead == 0 || time.Since(d.filled) >= brisk)
}

// slacken claims nothing in advance for now: there is nothing.
func (d *Dock) slacken() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ahead = 0
}
