package discovery

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// failuresToEject is how many failures in a row take an instance out.
	failuresToEject = 5
	// ejectFor is how long, the first time; each time in a row it is so much more.
	ejectFor = 30 * time.Second
	maxEject = 5 * time.Minute
	// maxSticky bounds how many keys are remembered.
	maxSticky = 65_536
)

// A balance is what the readers of one service learn by using it. It outlives
// snapshots.
type balance struct {
	turn    atomic.Uint64
	ejected atomic.Int64 // how many are, at most; 0 spares the looking

	mu     sync.RWMutex
	usage  map[string]*usage
	sticky map[string]string // instance ids, by key
}

// usage is how one instance fares.
type usage struct {
	pending  atomic.Int64
	failures atomic.Int64 // in a row
	times    atomic.Int64 // ejected in a row
	until    atomic.Int64 // ejected until, in ns since the balance's epoch; 0: not
}

func newBalance() *balance {
	b := &balance{usage: make(map[string]*usage), sticky: make(map[string]string)}
	b.turn.Store(rand.Uint64()) // else every process begins with the same instance
	return b
}

// of returns the usage of an instance, nil if nobody ever reported on it.
func (b *balance) of(id string) *usage {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.usage[id]
}

func (b *balance) make(id string) *usage {
	if u := b.of(id); u != nil {
		return u
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.usage[id]
	if u == nil {
		u = new(usage)
		b.usage[id] = u
	}
	return u
}

// forget drops what is known of instances that are not there any more.
func (b *balance) forget(s *Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.usage) <= 2*len(s.Instances)+16 && len(b.sticky) < maxSticky {
		return
	}
	here := make(map[string]bool, len(s.Instances))
	for k := range s.Instances {
		here[s.Instances[k].ID] = true
	}
	for id, u := range b.usage {
		if !here[id] && u.pending.Load() == 0 {
			delete(b.usage, id)
		}
	}
	if len(b.sticky) >= maxSticky {
		clear(b.sticky)
	}
}

// report takes in how a request to an instance ended.
func (b *balance) report(id string, err error, now time.Time) {
	if err == nil {
		if u := b.of(id); u != nil {
			u.failures.Store(0)
			u.times.Store(0)
			u.until.Store(0)
		}
		return
	}
	u := b.make(id)
	if u.failures.Add(1) < failuresToEject {
		return
	}
	u.failures.Store(0)
	u.until.Store(now.Add(min(time.Duration(u.times.Add(1))*ejectFor, maxEject)).UnixNano())
	b.ejected.Add(1)
}

// out reports whether the instance is ejected.
func (b *balance) out(id string, now time.Time) bool {
	u := b.of(id)
	return u != nil && u.until.Load() > now.UnixNano()
}

func (b *balance) pending(id string) int64 {
	if u := b.of(id); u != nil {
		return u.pending.Load()
	}
	return 0
}
