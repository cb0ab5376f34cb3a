package workqueue

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/conclavehq/conclave/internal/engine"
)

// Errors of a Dock.
var (
	// ErrEmpty: nothing can be delivered now.
	ErrEmpty = errors.New("queue is empty")
	// ErrStale: the delivery is over.
	ErrStale = errors.New("stale delivery")
)

// Config sets up a Dock.
type Config struct {
	Root        string
	Listed      string        // the key that lists the queue; "" for none
	Visibility  time.Duration // how long a delivery lasts
	MaxAttempts int           // deliveries of an item before it is a dead letter
	// Session ends with the session, and compares the clock when it is asked.
	Session context.Context
	// Released and Revoked are the causes of a delivery's end: that it was settled,
	// and that its time was over.
	Released, Revoked error
}

// A Dock is where the consumers of one session are served from one queue.
type Dock struct {
	e     *engine.Engine
	cfg   Config
	root  keys
	lease string
	puts  *Writer

	mu        sync.Mutex
	waiting   []*taker
	buffer    []*Delivery // claimed, and given to nobody
	held      map[string]*Delivery
	pulling   bool
	demand    chan struct{} // tells the puller that somebody waits
	ahead     int
	most      int         // how many items somebody wanted last
	filled    time.Time   // when somebody was served last
	linger    *time.Timer // returns what nobody takes
	claiming  bool        // the puller is about to claim, or claims
	returning int         // how many goroutines return items that were claimed ahead
	returned  sync.Cond   // one of them has
	warden    bool        // a goroutine returns deliveries whose time is over
	watched   bool        // the end of the session
	pull      puller
}

// taker waits for deliveries.
type taker struct {
	max int
	try bool
	got chan taken // buffered
}

type taken struct {
	all []*Delivery
	err error
}

type dockKey struct {
	root       string
	visibility time.Duration
	attempts   int
}

// For returns the Dock of a session for one queue. Those with another root,
// visibility or limit of attempts are others.
func For(e *engine.Engine, cfg Config) *Dock {
	puts := WriterFor(e, cfg.Root, cfg.Listed) // not inside: Shared holds a lock
	return e.Shared(dockKey{cfg.Root, cfg.Visibility, cfg.MaxAttempts}, func() any {
		d := &Dock{e: e, cfg: cfg, root: keys(cfg.Root), lease: leaseText(e.Lease()), held: make(map[string]*Delivery),
			demand: make(chan struct{}, 1), puts: puts}
		d.returned.L = &d.mu
		d.pull.init(d)
		return d
	}).(*Dock)
}

// Take returns at least one delivery and at most that many. It waits for the first
// one, or with try returns ErrEmpty if nothing can be delivered. It also returns
// ctx's cause, and the session's when that ends. The ctx's values become those of
// the deliveries' contexts.
func (d *Dock) Take(ctx context.Context, most int, try bool) ([]*Delivery, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := d.cfg.Session.Err(); err != nil {
		return nil, context.Cause(d.cfg.Session)
	}
	if !d.e.Enter() {
		return nil, ended(d.e)
	}
	defer d.e.Leave()
	t := &taker{max: most, try: try, got: make(chan taken, 1)}
	if got := d.enter(t); got != nil {
		return d.give(ctx, got), nil
	}
	select {
	case got := <-t.got:
		return d.give(ctx, got.all), got.err
	case <-ctx.Done():
		d.leave(t)
		return nil, context.Cause(ctx)
	case <-d.e.Session().Done():
		d.leave(t)
		return nil, ended(d.e)
	}
}

// Close ends what a Dock keeps while it serves nobody. It is called when all
// calls have ended.
func (d *Dock) Close() {
	d.mu.Lock()
	if d.linger != nil {
		d.linger.Stop()
	}
	d.mu.Unlock()
	d.pull.shut()
}

// enter takes what is there, or puts t in line and lets the puller run.
func (d *Dock) enter(t *taker) []*Delivery {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.most = t.max
	if len(d.waiting) == 0 && len(d.buffer) > 0 {
		n := min(t.max, len(d.buffer))
		got := append([]*Delivery(nil), d.buffer[:n]...)
		d.buffer = d.buffer[n:]
		if len(d.buffer) < d.ahead/2 {
			d.start()
		}
		return got
	}
	d.hasten()
	d.waiting = append(d.waiting, t)
	d.start()
	return nil
}

// start lets the puller run, or tells it that somebody waits. It is called with
// the lock held, by a call that is counted in.
func (d *Dock) start() {
	if !d.watched {
		d.watched = true
		context.AfterFunc(d.e.Session(), d.endAll)
	}
	if !d.pulling {
		d.pulling = true
		d.e.Go(d.pull.run)
		return
	}
	select {
	case d.demand <- struct{}{}:
	default:
	}
}

// leave takes t out of the line; what it was given meanwhile goes to others.
func (d *Dock) leave(t *taker) {
	d.mu.Lock()
	for i, o := range d.waiting {
		if o == t {
			d.waiting = append(d.waiting[:i], d.waiting[i+1:]...)
			break
		}
	}
	d.mu.Unlock()
	select {
	case got := <-t.got:
		d.serve(got.all)
	default:
	}
}

// serve hands deliveries to those who wait, and keeps the rest for a moment.
func (d *Dock) serve(all []*Delivery) {
	if len(all) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.buffer, d.filled = append(d.buffer, all...), time.Now()
	for len(d.waiting) > 0 && len(d.buffer) > 0 {
		t := d.waiting[0]
		n := min(t.max, len(d.buffer))
		t.got <- taken{all: append([]*Delivery(nil), d.buffer[:n]...)}
		d.buffer, d.waiting = d.buffer[n:], d.waiting[1:]
	}
	if len(d.buffer) > 0 {
		d.keepFor(lingering)
	}
}

// refuse tells those who wait, or only those who do not want to, that there is
// nothing for them.
func (d *Dock) refuse(err error, onlyTries bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rest := d.waiting[:0]
	for _, t := range d.waiting {
		if onlyTries && !t.try {
			rest = append(rest, t)
			continue
		}
		t.got <- taken{err: err}
	}
	clear(d.waiting[len(rest):])
	d.waiting = rest
}

// wanted returns how many deliveries to claim, and whether somebody waits.
func (d *Dock) wanted() (n int, waits bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.waiting {
		n += t.max
	}
	if n == 0 && len(d.buffer) >= d.ahead/2 {
		return 0, false // what is claimed ahead is claimed by and by, but not one by one
	}
	return max(n+d.ahead-len(d.buffer), 0), len(d.waiting) > 0
}

// has tells whether the delivery of an item, made at a revision, is here already.
func (d *Dock) has(key string, rev int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.held[idOf(key)]
	if v != nil && v.mod.Load() == rev {
		return true
	}
	return slices.ContainsFunc(d.buffer, func(v *Delivery) bool { return v.ID == idOf(key) && v.mod.Load() == rev })
}

// endAll ends the contexts of all deliveries with the session.
func (d *Dock) endAll() {
	d.mu.Lock()
	held := make([]*Delivery, 0, len(d.held))
	for _, v := range d.held {
		held = append(held, v)
	}
	d.mu.Unlock()
	for _, v := range held {
		v.end(v.stale(ended(d.e)))
	}
}
