package workqueue

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/commit"
)

// maxTrials is how many requests are under way at once: as many as claim what
// sixteen workers want who take sixteen items each.
const maxTrials = 5

// A pipeline is the claims that are under way at once, in the order in which they
// were sent.
type pipeline struct {
	trials []*trial
	items  int             // of the trials
	begun  bool            // the first one was sent
	look   chan sight      // of what comes behind them; nil if none is under way
	tried  map[string]bool // keys that it may see, and that are being claimed
}

// trial is one request of a claim, and how it went.
type trial struct {
	batch    []chosen
	parcels  []parcel
	last     bool  // it gives up the place in line
	here     int64 // that it was guarded by
	sent     clock.Stamp
	answered chan struct{}
	r        commit.Result
	err      error
}

// makesBundles tells whether the claim makes any.
func (t *trial) makesBundles() bool {
	return slices.ContainsFunc(t.parcels, func(p parcel) bool { return p.key != "" })
}

// claim takes candidates for the want that was seen, and for whoever comes to wait
// meanwhile, hands them on, and returns how many they were. What is left of the
// candidates was not tried for. The place in line is given up with a claim that
// satisfies everybody who waits here.
func (p *puller) claim(ctx context.Context, want int) (n int, err error) {
	var l pipeline
	for {
		for more, _ := p.d.wanted(); err == nil && p.room(&l, max(want, more-l.items)); want = 0 {
			t := p.try(ctx, max(want, more-l.items), l.items)
			if t == nil {
				break
			}
			l.sent(t)
		}
		if err == nil && p.low(&l) {
			p.lookAhead(ctx, &l)
		}
		if len(l.trials) == 0 && l.look == nil {
			return n, err
		}
		select {
		case <-l.first():
			all, failed := p.concluded(ctx, l.next())
			p.d.serve(all)
			n, err = n+len(all), errors.Join(err, failed)
		case s := <-l.look:
			l.look = nil
			if err = errors.Join(err, s.err); err == nil {
				s.cands = slices.DeleteFunc(s.cands, func(c candidate) bool { return l.tried[c.key] })
				p.sight = s
			}
		}
	}
}

// first is answered when the oldest trial is.
func (l *pipeline) first() <-chan struct{} {
	if len(l.trials) == 0 {
		return nil
	}
	return l.trials[0].answered
}

func (l *pipeline) next() *trial {
	t := l.trials[0]
	l.trials, l.items = l.trials[1:], l.items-len(t.batch)
	return t
}

func (l *pipeline) sent(t *trial) {
	l.trials, l.items = append(l.trials, t), l.items+len(t.batch)
	if l.look != nil {
		l.note(t)
	}
}

// note keeps what is being claimed from being taken for what a look has found.
func (l *pipeline) note(t *trial) {
	for _, c := range t.batch {
		l.tried[c.key] = true
	}
}

// low tells whether to read on while trials are under way: candidates run out, and
// are not all that there is.
func (p *puller) low(l *pipeline) bool {
	return l.look == nil && len(l.trials) > 0 && p.behind && !p.paused && len(p.cands) < 2*claimItems
}

// lookAhead reads the first items while trials are under way. Until it is answered
// the scanner is the look's.
func (p *puller) lookAhead(ctx context.Context, l *pipeline) {
	l.look, l.tried = make(chan sight, 1), make(map[string]bool)
	for _, t := range l.trials {
		l.note(t)
	}
	want, _ := p.d.wanted()
	answer, want := l.look, max(want, l.items)
	go func() { answer <- p.look(ctx, want) }()
}

// room tells whether to send another trial. While one is under way, another is
// only sent if it is a large one: what few want is claimed together.
func (p *puller) room(l *pipeline, want int) bool {
	switch {
	case want <= 0:
		return false
	case !l.begun:
		l.begun = true
		return true
	}
	return len(l.trials) < maxTrials && (len(l.trials) == 0 || want >= claimItems/2) &&
		p.here != 0 && !p.paused && p.current() && len(p.spent)+len(p.broken) == 0 && time.Since(p.ticked) < tickEvery
}

// current tells whether what was read is good for a claim.
func (p *puller) current() bool {
	return time.Since(p.looked) <= fresh && p.d.puts.jumps.Load() == p.jumps
}

// try sends a request for the first candidates, behind others for so many items. It
// returns nil if there are none.
func (p *puller) try(ctx context.Context, want, underWay int) *trial {
	cut := p.d.cutter(underWay)
	batch := p.choose(want, cut)
	if len(batch) == 0 {
		return nil
	}
	t := &trial{batch: batch, parcels: cut.done(), last: len(batch) == want, here: p.here, sent: clock.Now(), answered: make(chan struct{})}
	txn := p.claimTxn(t)
	go func() {
		defer close(t.answered)
		t.r, t.err = p.d.e.Do(ctx, txn)
	}()
	return t
}
