package discovery

import "time"

// A guard keeps the instances of a service that vanished, as long as there is
// reason to think that they are there all the same.
type guard struct {
	reader
	lost map[string]loss

	holding bool
	since   time.Time // it holds
	calm    time.Time // the loss has been small again; zero: it is large
}

// A loss is an instance that vanished.
type loss struct {
	instance Instance
	at       time.Time
}

func newGuard(r reader) *guard { return &guard{reader: r, lost: make(map[string]loss)} }

// vanished notes an instance that could be sent to and is gone without a word.
func (g *guard) vanished(i Instance, now time.Time) { g.lost[i.ID] = loss{i, now} }

// known notes that something is known of an instance again.
func (g *guard) known(id string) { delete(g.lost, id) }

// judge decides, with so many instances alive, and returns when to decide again
// even if nothing happens; zero: not before something does.
func (g *guard) judge(alive int, now time.Time) (next time.Time) {
	if !g.holding {
		next = g.prune(now)
	}
	all := alive + len(g.lost)
	large := all >= g.least && float64(len(g.lost)) > g.share*float64(all)
	if !g.holding {
		if !large {
			return next
		}
		g.holding, g.since = true, now
	}
	switch {
	case large:
		g.calm = time.Time{}
	case g.calm.IsZero():
		g.calm = now
	}
	end := g.since.Add(g.hold)
	if !g.calm.IsZero() && g.calm.Add(g.window).Before(end) {
		end = g.calm.Add(g.window)
	}
	if len(g.lost) == 0 || !now.Before(end) {
		g.holding, g.calm = false, time.Time{}
		clear(g.lost)
		return time.Time{}
	}
	return end
}

// prune forgets what vanished longer than the window ago.
func (g *guard) prune(now time.Time) (next time.Time) {
	for id, l := range g.lost {
		end := l.at.Add(g.window)
		switch {
		case !now.Before(end):
			delete(g.lost, id)
		case next.IsZero() || end.Before(next):
			next = end
		}
	}
	return next
}

// kept returns the instances that are kept now.
func (g *guard) kept() map[string]Instance {
	if !g.holding {
		return nil
	}
	kept := make(map[string]Instance, len(g.lost))
	for id, l := range g.lost {
		kept[id] = l.instance
	}
	return kept
}
