package service

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
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

// A Place is an ownership as a plain value. The zero one has the token 0.
type Place interface{ Token() core.Token }

// An Owned is what a library returned from an acquisition, and P its place.
type Owned[P Place] interface {
	Token() core.Token
	Detach() (P, error)
	Release() error
}

// A PlaceKey is a session and a name that it may own.
type PlaceKey struct {
	Lease clientv3.LeaseID
	Name  string
}

// Places remembers what was acquired here, so that a release needs no read: at
// first as the library made it, then as a plain value that nothing looks after.
type Places[P Place] struct {
	kick chan struct{} // one token: there is something fresh

	mu     sync.Mutex
	all    map[PlaceKey]*slot[P]
	recent []recent[P] // oldest first
}

// A slot is what is known of one session and name.
type slot[P Place] struct {
	calls int      // that acquire it now
	held  Owned[P] // of which a caller was told, while it is fresh
	place P        // the same afterwards
}

// A recent is a slot that is to become a plain value.
type recent[P Place] struct {
	at    PlaceKey
	held  Owned[P]
	since time.Time
}

// NewPlaces returns places in which nothing is remembered. Who calls Put runs Run.
func NewPlaces[P Place]() *Places[P] {
	return &Places[P]{kick: make(chan struct{}, 1), all: make(map[PlaceKey]*slot[P])}
}

// token is that of the ownership in the slot, 0 if there is none.
func (s *slot[P]) token() core.Token {
	if s.held != nil {
		return s.held.Token()
	}
	return s.place.Token()
}

// Enter counts in a call that acquires.
func (p *Places[P]) Enter(at PlaceKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slot(at).calls++
}

// Leave counts out what Enter counted in.
func (p *Places[P]) Leave(at PlaceKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slot(at)
	s.calls--
	p.settle(at, s)
}

// Only tells whether the call that asks is the only one that acquires, and nobody
// was told of an ownership with this token.
func (p *Places[P]) Only(at PlaceKey, token core.Token) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slot(at)
	return s.calls == 1 && s.token() != token
}

// Put remembers an ownership of which a caller is told.
func (p *Places[P]) Put(at PlaceKey, held Owned[P]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slot(at)
	*s = slot[P]{calls: s.calls, held: held}
	p.recent = append(p.recent, recent[P]{at, held, time.Now()})
	if len(p.recent) == 1 {
		select {
		case p.kick <- struct{}{}:
		default:
		}
	}
}

// Keep remembers the place of an ownership, unless a later one is known.
func (p *Places[P]) Keep(at PlaceKey, place P) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.slot(at); s.token() <= place.Token() {
		*s = slot[P]{calls: s.calls, place: place}
	}
}

// Take returns an ownership and forgets it, if it has this token: as the library
// made it, or the place of it.
func (p *Places[P]) Take(at PlaceKey, token core.Token) (held Owned[P], place P) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.all[at]
	if s == nil || s.token() != token {
		return nil, place
	}
	held, place = s.held, s.place
	*s = slot[P]{calls: s.calls}
	p.settle(at, s)
	return held, place
}

// Run makes plain values of what is not fresh any more, until ctx ends, and then
// of all that is left.
func (p *Places[P]) Run(ctx context.Context) {
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

func (p *Places[P]) some() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.recent) > 0
}

// older takes out of the list what was put before a moment.
func (p *Places[P]) older(than time.Time) []recent[P] {
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

func (p *Places[P]) detach(old []recent[P]) {
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

func (p *Places[P]) has(r recent[P]) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.all[r.at]
	return s != nil && s.held == r.held
}

// slot returns the slot of a session and name, made if need be. If there are too
// many, another one goes: any, since sessions that end leave theirs behind.
func (p *Places[P]) slot(at PlaceKey) *slot[P] {
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
	s := new(slot[P])
	p.all[at] = s
	return s
}

func (p *Places[P]) settle(at PlaceKey, s *slot[P]) {
	if s.calls == 0 && s.token() == 0 {
		delete(p.all, at)
	}
}
