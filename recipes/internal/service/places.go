package service

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
)

// maxPlaces bounds what is remembered of ownerships. What is forgotten costs its
// release a read.
const maxPlaces = 100_000

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

// A Freshness says which ownerships stay as the library made them, with what it
// knows of those who wait. The others become plain values that nothing looks after.
type Freshness struct {
	For  time.Duration // 0: for ever
	Most int           // 0: all
}

// Places remembers what was acquired here, so that a release needs no read.
type Places[P Place] struct {
	keep Freshness
	kick chan struct{} // one token: something may not be fresh any more, now or later

	mu     sync.Mutex
	all    map[PlaceKey]*slot[P]
	fresh  int
	oldest *slot[P] // of the fresh ones, which are a list
	newest *slot[P]
}

// A slot is what is known of one session and name.
type slot[P Place] struct {
	at    PlaceKey
	calls int      // that acquire it now
	held  Owned[P] // of which a caller was told, while it is fresh
	place P        // the same afterwards

	since          time.Time
	older, younger *slot[P]
	listed         bool
}

// NewPlaces returns places in which nothing is remembered. Run has to run.
func NewPlaces[P Place](keep Freshness) *Places[P] {
	return &Places[P]{keep: keep, kick: make(chan struct{}, 1), all: make(map[PlaceKey]*slot[P])}
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
	p.settle(s)
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
	p.empty(s)
	s.held, s.since, s.older, s.listed = held, time.Now(), p.newest, true
	if p.newest == nil {
		p.oldest = s
	} else {
		p.newest.younger = s
	}
	p.newest = s
	if p.fresh++; p.fresh == 1 || p.keep.Most > 0 && p.fresh > p.keep.Most {
		select {
		case p.kick <- struct{}{}:
		default:
		}
	}
}

// Get returns an ownership, if it has this token: as the library made it, or the
// place of it.
func (p *Places[P]) Get(at PlaceKey, token core.Token) (held Owned[P], place P) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.all[at]
	if s == nil || s.token() != token {
		return nil, place
	}
	return s.held, s.place
}

// Take is Get, and forgets the ownership.
func (p *Places[P]) Take(at PlaceKey, token core.Token) (held Owned[P], place P) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.all[at]
	if s == nil || s.token() != token {
		return nil, place
	}
	held, place = s.held, s.place
	p.empty(s)
	p.settle(s)
	return held, place
}

// Run makes plain values of what is not fresh any more, until ctx ends, and then
// of all that is left.
func (p *Places[P]) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			p.detach(p.stale(time.Now().Add(1), Freshness{For: 1}))
			return
		case <-p.kick:
		case <-timer.C:
		}
		p.detach(p.stale(time.Now(), p.keep))
		if p.keep.For > 0 && p.some() {
			timer.Reset(p.keep.For / 2)
		}
	}
}

func (p *Places[P]) some() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fresh > 0
}

// A stale is an ownership that is to become a plain value.
type stale[P Place] struct {
	slot *slot[P]
	held Owned[P]
}

// stale takes off the list what is not fresh at a moment.
func (p *Places[P]) stale(now time.Time, keep Freshness) (all []stale[P]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := p.oldest; s != nil; s = p.oldest {
		if tooOld := keep.For > 0 && now.Sub(s.since) >= keep.For; !tooOld && (keep.Most == 0 || p.fresh <= keep.Most) {
			break
		}
		p.unlist(s)
		all = append(all, stale[P]{s, s.held})
	}
	return all
}

func (p *Places[P]) detach(all []stale[P]) {
	for _, old := range all {
		place, err := old.held.Detach()
		p.mu.Lock()
		if s := old.slot; s.held == old.held && !s.listed {
			s.held = nil
			if err == nil {
				s.place = place
			}
			p.settle(s)
		}
		p.mu.Unlock()
	}
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
	s := &slot[P]{at: at}
	p.all[at] = s
	return s
}

// empty forgets what is owned.
func (p *Places[P]) empty(s *slot[P]) {
	p.unlist(s)
	var none P
	s.held, s.place = nil, none
}

func (p *Places[P]) unlist(s *slot[P]) {
	if !s.listed {
		return
	}
	if p.fresh--; s.older == nil {
		p.oldest = s.younger
	} else {
		s.older.younger = s.younger
	}
	if s.younger == nil {
		p.newest = s.older
	} else {
		s.younger.older = s.older
	}
	s.older, s.younger, s.listed = nil, nil, false
}

// settle forgets a slot that says nothing.
func (p *Places[P]) settle(s *slot[P]) {
	if s.calls == 0 && s.token() == 0 {
		delete(p.all, s.at)
	}
}
