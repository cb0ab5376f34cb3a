package election

import (
	"context"
	"log/slog"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/waitqueue"
	"github.com/conclavehq/conclave/internal/watch"
)

// feeds are the watches of a session's observers: one for each election, as long
// as anybody observes it.
type feeds struct {
	mu     sync.Mutex
	byName map[feedKey]*feed
}

type feedsKey struct{}

type feedKey struct {
	name   string
	shared bool
}

// A feed is one watch, and those whom it tells.
type feed struct {
	all    *feeds
	key    feedKey
	cancel context.CancelFunc
	begun  chan struct{} // closed when it is at a state: it tells of all later ones
	ended  chan struct{} // closed when it tells nothing more
	err    error         // why it ended by itself; set before ended is closed

	client *clientv3.Client
	log    *slog.Logger

	standing *waitqueue.Standing // of the feed's goroutine, like the next three
	told     []Leader
	gap      bool // that nobody has been told of yet
	replaced bool // the store has been

	mu          sync.Mutex
	subscribers map[*subscriber]struct{}
}

// A subscriber is one observation.
type subscriber struct {
	feed  *feed
	first bool          // the feed's first state was read after its call
	wake  chan struct{} // one token: something is pending

	mu      sync.Mutex
	pending []Seats
}

func (e *Election) feeds() *feeds {
	return e.s.Engine().Shared(feedsKey{}, func() any { return &feeds{byName: make(map[feedKey]*feed)} }).(*feeds)
}

// join subscribes to the election's feed, which it starts if there is none.
func (all *feeds) join(e *Election) *subscriber {
	all.mu.Lock()
	defer all.mu.Unlock()
	key := feedKey{e.name, e.shared()}
	f := all.byName[key]
	first := f == nil || f.isOver()
	if first {
		ctx, cancel := context.WithCancel(context.Background())
		engine := e.s.Engine()
		f = &feed{all: all, key: key, cancel: cancel, begun: make(chan struct{}), ended: make(chan struct{}),
			client: engine.Client(), log: engine.Log(),
			standing: e.q.NewStanding(e.name, e.shared()), subscribers: make(map[*subscriber]struct{})}
		all.byName[key] = f
		// After the subscription: the feed's first state is for the one who made it.
		defer func() { go f.run(ctx, watch.ObserveOptions{Streams: engine.Streams(), Logger: engine.Log()}) }()
	}
	s := &subscriber{feed: f, first: first, wake: make(chan struct{}, 1)}
	f.mu.Lock()
	f.subscribers[s] = struct{}{}
	f.mu.Unlock()
	return s
}

func (f *feed) isOver() bool {
	select {
	case <-f.ended:
		return true
	default:
		return false
	}
}

// leave ends the subscription, and the feed with the last one; then it waits for
// its goroutine.
func (s *subscriber) leave() {
	f := s.feed
	f.all.mu.Lock()
	f.mu.Lock()
	delete(f.subscribers, s)
	last := len(f.subscribers) == 0
	f.mu.Unlock()
	if last && f.all.byName[f.key] == f {
		delete(f.all.byName, f.key)
	}
	f.all.mu.Unlock()
	if last {
		f.cancel()
		<-f.ended
	}
}

func (f *feed) run(ctx context.Context, opts watch.ObserveOptions) {
	defer close(f.ended)
	for b, err := range watch.Observe(ctx, f.client, f.standing.Prefix(), opts) {
		if err != nil {
			f.err = err
			return
		}
		f.take(ctx, b)
	}
}

// take tells of a batch.
func (f *feed) take(ctx context.Context, b watch.Batch) {
	switch {
	case b.Resync != nil && b.Resync.To <= b.Resync.From: // the store was replaced by an older one
		f.apply(b.Events)
		f.replaced = true
		f.tell(b.Revision, false)
		f.replaced = false
	case b.Resync != nil:
		f.fill(ctx, b)
	default:
		f.change(b.Revision, b.Events)
	}
	if b.Snapshot {
		close(f.begun)
	}
}

// change tells of a single revision.
func (f *feed) change(revision int64, events []*clientv3.Event) {
	f.apply(events)
	f.tell(revision, true)
}

// tell tells everybody of the standing at a revision, if it is news. Without sure
// terms may be missing before it.
func (f *feed) tell(revision int64, sure bool) {
	seats := Seats{Leaders: leadersOf(f.standing, revision), Revision: revision, replaced: f.replaced}
	f.gap = f.gap || !sure
	if len(seats.Leaders) > 0 { // else the gap is told with the next term
		seats.Gap, f.gap = f.gap, false
	}
	if f.isBegun() && !seats.Gap && sameLeaders(seats.Leaders, f.told) {
		return
	}
	f.told = seats.Leaders
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.subscribers {
		s.push(seats)
	}
}

func (f *feed) isBegun() bool {
	select {
	case <-f.begun:
		return true
	default:
		return false
	}
}

// push adds a change; one that is only of values replaces what waits.
func (s *subscriber) push(seats Seats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch n := len(s.pending); {
	case n > 0 && sameTerms(s.pending[n-1].Leaders, seats.Leaders):
		seats.Gap = seats.Gap || s.pending[n-1].Gap
		s.pending[n-1] = seats
	case n >= maxBehind:
		seats.Gap = true
		s.pending[n-1] = seats
	default:
		s.pending = append(s.pending, seats)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// next waits for the change that follows last, and makes it last.
func (s *subscriber) next(ctx context.Context, last *Seats) error {
	for {
		if seats, ok := s.take(); ok {
			if (seats.Revision > last.Revision || seats.replaced) && (seats.Gap || !sameLeaders(seats.Leaders, last.Leaders)) {
				*last = seats
				return nil
			}
			continue
		}
		select {
		case <-s.wake:
		case <-s.feed.ended:
			if !s.waiting() {
				return s.feed.err
			}
		case <-ctx.Done():
			return ended(ctx)
		}
	}
}

func (s *subscriber) waiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) > 0
}

func (s *subscriber) take() (Seats, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 {
		s.pending = nil
		return Seats{}, false
	}
	seats := s.pending[0]
	s.pending[0] = Seats{}
	s.pending = s.pending[1:]
	return seats, true
}
