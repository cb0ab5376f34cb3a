package lock

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

const (
	// maxPlaces bounds what is remembered of ownerships. What is forgotten costs
	// its release a read.
	maxPlaces = 100_000
	// fresh is how long an ownership is kept as the library made it, with what it
	// knows of those who wait: most releases of a contended name come that soon.
	// The library begins to watch its keys later than that.
	fresh = 100 * time.Millisecond
)

// A placeKey is a session and a name that it may own.
type placeKey struct {
	lease clientv3.LeaseID
	name  string
}

// places remembers what was acquired here, so that a release needs no read: at
// first as the library made it, then as a plain value that nothing looks after.
type places struct {
	kick chan struct{} // one token: there is something fresh

	mu     sync.Mutex
	all    map[placeKey]*slot
	recent []recent // oldest first
}

// A slot is what is known of one session and name.
type slot struct {
	calls int        // that acquire it now
	held  owned      // of which a caller was told, while it is fresh
	place lock.Place // the same afterwards
}

// A recent is a slot that is to become a plain value.
type recent struct {
	at    placeKey
	held  owned
	since time.Time
}

func newPlaces() *places {
	return &places{kick: make(chan struct{}, 1), all: make(map[placeKey]*slot)}
}

// token is that of the ownership in the slot, 0 if there is none.
func (s *slot) token() core.Token {
	if s.held != nil {
		return s.held.Token()
	}
	return s.place.Token()
}

// enter counts in a call that acquires; leave counts it out.
func (p *places) enter(at placeKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slot(at).calls++
}

func (p *places) leave(at placeKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slot(at)
	s.calls--
	p.settle(at, s)
}

// only tells whether the call that asks is the only one that acquires, and nobody
// was told of an ownership with this token.
func (p *places) only(at placeKey, token core.Token) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slot(at)
	return s.calls == 1 && s.token() != token
}

// put remembers an ownership of which a caller is told.
func (p *places) put(at placeKey, held owned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slot(at)
	s.held, s.place = held, lock.Place{}
	p.recent = append(p.recent, recent{at, held, time.Now()})
	if len(p.recent) == 1 {
		select {
		case p.kick <- struct{}{}:
		default:
		}
	}
}

// take returns an ownership and forgets it, if it has this token: as the library
// made it, or the place of it.
func (p *places) take(at placeKey, token core.Token) (owned, lock.Place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.all[at]
	if s == nil || s.token() != token {
		return nil, lock.Place{}
	}
	held, place := s.held, s.place
	s.held, s.place = nil, lock.Place{}
	p.settle(at, s)
	return held, place
}

// run makes plain values of what is not fresh any more, until ctx ends, and then
// of all that is left.
func (p *places) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			p.detach(p.older(time.Now().Add(fresh)))
			return
		case <-p.kick:
		}
		timer := time.NewTimer(fresh)
		for more := true; more; {
			select {
			case <-timer.C:
				p.detach(p.older(time.Now().Add(-fresh)))
				more = p.some()
				timer.Reset(fresh / 2)
			case <-ctx.Done():
				more = false
			}
		}
		timer.Stop()
	}
}

func (p *places) some() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.recent) > 0
}

// older takes out of the list what was put before a moment.
func (p *places) older(than time.Time) []recent {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.recent) && p.recent[n].since.Before(than) {
		n++
	}
	old := p.recent[:n:n]
	if p.recent = p.recent[n:]; len(p.recent) == 0 {
		p.recent = nil // not the array that only grows
	}
	return old
}

func (p *places) detach(old []recent) {
	for _, r := range old {
		if !p.has(r) {
			continue
		}
		place, err := r.held.Detach()
		p.mu.Lock()
		if s := p.all[r.at]; s != nil && s.held == r.held {
			s.held = nil
			if err == nil {
				s.place = place
			}
			p.settle(r.at, s)
		}
		p.mu.Unlock()
	}
}

func (p *places) has(r recent) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.all[r.at]
	return s != nil && s.held == r.held
}

// slot returns the slot of a session and name, made if need be. If there are too
// many, another one goes: any, since sessions that end leave theirs behind.
func (p *places) slot(at placeKey) *slot {
	if s := p.all[at]; s != nil {
		return s
	}
	if len(p.all) >= maxPlaces {
		for other, s := range p.all {
			if s.calls == 0 && s.held == nil {
				delete(p.all, other)
				break
			}
		}
	}
	s := new(slot)
	p.all[at] = s
	return s
}

func (p *places) settle(at placeKey, s *slot) {
	if s.calls == 0 && s.token() == 0 {
		delete(p.all, at)
	}
}
