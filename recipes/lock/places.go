package lock

import (
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

// maxPlaces bounds what is remembered of ownerships. What is forgotten costs its
// release a read.
const maxPlaces = 100_000

// A placeKey is a session and a name that it may own.
type placeKey struct {
	lease clientv3.LeaseID
	name  string
}

// places remembers what was acquired here, so that a release needs no read.
type places struct {
	mu  sync.Mutex
	all map[placeKey]*slot
}

// A slot is what is known of one session and name.
type slot struct {
	calls int        // that acquire it now
	place lock.Place // of which a caller was told; the zero one if of none
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
	return s.calls == 1 && s.place.Token() != token
}

// put remembers an ownership of which a caller is told.
func (p *places) put(at placeKey, place lock.Place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slot(at).place = place
}

// take returns the place of an ownership and forgets it, if it has this token.
func (p *places) take(at placeKey, token core.Token) (lock.Place, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.all[at]
	if s == nil || s.place.Token() != token {
		return lock.Place{}, false
	}
	place := s.place
	s.place = lock.Place{}
	p.settle(at, s)
	return place, true
}

// slot returns the slot of a session and name, made if need be. If there are too
// many, another one goes: any, since sessions that end leave theirs behind.
func (p *places) slot(at placeKey) *slot {
	if s := p.all[at]; s != nil {
		return s
	}
	if p.all == nil {
		p.all = make(map[placeKey]*slot)
	}
	if len(p.all) >= maxPlaces {
		for other, s := range p.all {
			if s.calls == 0 {
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
	if s.calls == 0 && s.place.Token() == 0 {
		delete(p.all, at)
	}
}
