package workqueue

import (
	"context"
	"errors"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

const (
	fresh   = 40 * time.Millisecond // how long items that were read are claimed without another look
	farther = 4                     // how many times what is wanted a look reads: it will be wanted by and by
)

// puller takes items from the queue while somebody waits for them. It belongs to
// the goroutine that runs it, but for the line.
type puller struct {
	d *Dock
	line

	sight  // the first items
	scan   scanner
	told   map[string]int64 // heads
	spread int
	here   int64 // create revision of the session's key; 0 if it is not known to stand
	spent  []candidate
	broken []candidate
	ticked time.Time
	due    time.Time // when the next delay is over, as far as is known
}

func (p *puller) init(d *Dock) {
	p.d, p.scan.root, p.told = d, d.root, make(map[string]int64)
	p.line.p, p.line.wake = p, make(chan struct{}, 1)
}

// run pulls until nobody waits.
func (p *puller) run(ctx context.Context) {
	wait := 50 * time.Millisecond
	p.listen(true) // if the watch still stands
	for {
		if p.d.e.Session().Err() != nil || ctx.Err() != nil {
			p.d.refuse(ended(p.d.e), false)
			p.d.slacken()
		}
		want, waits := p.d.wanted()
		if want == 0 || !waits && p.d.idle() {
			if p.stop() {
				return
			}
			continue
		}
		n, err := p.once(ctx, want)
		switch {
		case err != nil && !passing(err) && !errors.Is(err, errConflict):
			if p.d.e.LeaseGone(ctx) {
				continue
			}
			p.d.refuse(err, false)
		case err != nil && !errors.Is(err, errConflict):
			p.drop()
			pause(ctx, p.d.e, wait)
			wait = min(2*wait, time.Second)
			continue
		case n == 0 && err == nil:
			p.nothing(ctx, waits)
		}
		wait = 50 * time.Millisecond
		p.stayed = p.stayed && n == 0
	}
}

// nothing waits for something to deliver, or for the end of the demand.
func (p *puller) nothing(ctx context.Context, waits bool) {
	p.d.refuse(ErrEmpty, true)
	if _, still := p.d.wanted(); !waits || !still {
		p.d.slacken()
		return
	}
	if err := p.line.wait(ctx); err != nil {
		pause(ctx, p.d.e, 100*time.Millisecond)
	}
}

// once takes some items and hands them on. 0 and no error says that nothing can
// be delivered.
func (p *puller) once(ctx context.Context, want int) (int, error) {
	p.d.claims()
	defer p.d.claimed()
	if err := p.arrive(ctx); err != nil {
		return 0, err
	}
	if err := p.tick(ctx); err != nil {
		return 0, err
	}
	if jumps := p.d.puts.jumps.Load(); jumps != p.jumps {
		p.jumps = jumps
		p.drop()
	}
	if told := p.line.events(p.scan.rev); len(told) > 0 && len(p.cands) == 0 && !p.behind {
		p.cands, p.looked = told, time.Now()
	}
	for looked := false; ; {
		if len(p.cands) == 0 || p.paused || !p.current() {
			if looked {
				return 0, nil
			}
			looked = true
			more, _ := p.d.wanted()
			s := p.look(ctx, max(want, more))
			if s.err != nil {
				return 0, s.err
			}
			p.sight = s
		}
		if p.paused {
			p.drop()
		}
		if len(p.cands) == 0 {
			return 0, nil
		}
		n, err := p.claim(ctx, want)
		if cleaned, cleanErr := p.clean(ctx); cleanErr != nil && err == nil {
			err = cleanErr
		} else if cleaned {
			looked = false
		}
		if err != nil {
			p.drop() // what was read is old, or what comes before it was not taken
		}
		if n > 0 || err != nil || p.here == 0 {
			p.tell(ctx)
			return max(n, 1), err
		}
	}
}

// sight is what a look has found.
type sight struct {
	cands  []candidate // first items, in order, as they were read
	behind bool        // there are others, which come before what is put now
	paused bool
	jumps  uint64 // of the session, before it looked
	looked time.Time
	err    error
}

// look reads the first items.
func (p *puller) look(ctx context.Context, want int) (s sight) {
	s.jumps = p.d.puts.jumps.Load()
	var found []candidate
	if found, s.err = p.scan.look(ctx, p.d.e, min(farther*want, wideLook)); s.err != nil {
		return s
	}
	s.cands, _ = p.scan.sure(found)
	s.behind, s.paused, s.looked = p.scan.partial(), p.scan.paused, time.Now()
	return s
}

// drop forgets the candidates: the next ones are those of another look.
func (p *puller) drop() { p.cands, p.behind = nil, true }

// stop ends the puller if nobody waits, and reports whether it did.
func (p *puller) stop() bool {
	p.leave()
	p.unfollow()          // before another goroutine may run it
	if p.d.e.Borrowed() { // which nobody closes
		p.shut()
	}
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if len(p.d.waiting) > 0 {
		return false
	}
	p.d.pulling = false
	p.listen(false)
	return true
}

// arrive makes the session one that consumes: the key that its claims compare,
// and the one that makes others look for what it leaves.
func (p *puller) arrive(ctx context.Context) error {
	if p.here != 0 {
		return nil
	}
	here, work := p.d.root.here(p.d.lease), p.d.root.work(p.d.lease)
	r, err := p.d.e.Do(ctx, commit.Txn{Scope: []string{here}, If: []clientv3.Cmp{absent(here)},
		Then: []clientv3.Op{clientv3.OpPut(here, "", clientv3.WithLease(p.d.e.Lease())), clientv3.OpPut(work, "")},
		Else: []clientv3.Op{clientv3.OpGet(here)}})
	switch {
	case err != nil:
		return err
	case r.Succeeded:
		p.here = r.Revision
	default:
		p.here = first(r, 0).CreateRevision
	}
	return nil
}

// tell persists where the lanes begin, now and then. Nobody relies on it.
func (p *puller) tell(ctx context.Context) {
	ops := p.scan.persist(p.told)
	if len(ops) == 0 {
		return
	}
	p.d.e.Submit([]string{p.d.root.heads()}, func() commit.Txn { return commit.Txn{Then: ops, Likely: true} }, func(commit.Result, error) {})
}

// clean moves what had all its attempts to the dead letters, and takes away what
// is no item. It reports whether there was anything.
func (p *puller) clean(ctx context.Context) (bool, error) {
	spent, broken := p.spent, p.broken
	p.spent, p.broken = nil, nil
	var errs []error
	for _, c := range spent {
		rec, err := decode(c.value)
		if err != nil {
			continue
		}
		if rec.Order == 0 {
			rec.Order = c.create
		}
		rec.Reason = exhausted(rec.Attempts, p.d.cfg.MaxAttempts, rec.Reason)
		errs = append(errs, p.d.bury(ctx, c.key, c.mod, rec))
	}
	for _, c := range broken {
		p.d.e.Log().Warn("a key that is no item", "key", c.key)
		rec := Record{At: time.Now().UnixMilli(), Codec: "bytes", Order: c.create, Reason: "not an item's record", Payload: c.value}
		errs = append(errs, p.d.bury(ctx, c.key, c.mod, rec))
	}
	return len(errs) > 0, errors.Join(slices.DeleteFunc(errs, func(err error) bool { return err == nil })...)
}

// bury makes an item that waits a dead letter, if it is unchanged.
func (d *Dock) bury(ctx context.Context, key string, mod int64, rec Record) error {
	for {
		t := commit.Txn{Scope: []string{key}, If: []clientv3.Cmp{unchanged(key, mod)},
			Then: []clientv3.Op{clientv3.OpDelete(key), d.root.dead().back(idOf(key), rec, 0)}, Else: []clientv3.Op{clientv3.OpGet(key)}}
		if rec.Group != "" {
			cmps, ops, err := d.root.advance(ctx, d.e, rec.Group)
			if err != nil {
				return err
			}
			t.Scope = append(t.Scope, string(d.root)+"group/"+rec.Group)
			t.If, t.Then = append(t.If, cmps...), append(t.Then, ops...)
		}
		r, err := d.e.Do(ctx, t)
		if err != nil || r.Succeeded {
			return err
		}
		if kv := first(r, 0); kv == nil || kv.ModRevision != mod {
			return nil // somebody else has moved it
		}
	}
}
