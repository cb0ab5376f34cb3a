package election

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"
)

// maxBehind is how many changes of leaders wait for a loop that does not take
// them. Beyond it they become one, with a gap.
const maxBehind = 1 << 16

// Seats are all who lead at one revision.
type Seats struct {
	// Leaders are in the order in which they won.
	Leaders []Leader
	// Revision is one at which this was so.
	Revision int64
	// Gap is that of [Leader].
	Gap bool

	replaced bool // the store is another one, at an older revision
}

// Observe follows who leads: first who does now, read linearizably, then every
// change, vacancies too. It shows every term once and in order, however short it
// was and however slow the loop is; values that were proclaimed in quick
// succession may become one.
//
// It goes on across reconnects, restarts of etcd and the end of the session. If
// etcd compacts revisions that it has not seen, because it was cut off all the
// while, it goes on with the present leader; terms may then be missing, and where
// that cannot be ruled out the next [Leader] has Gap. So it has after a loop that
// fell 65,536 changes behind.
//
// The sequence ends when the caller leaves the loop, or with one last pair that
// has an error: one that is ctx.Err(), core.ErrInvalid, or the reason for which
// etcd refuses the watch for good. Nothing outlives the loop. All observations of
// an election in one session share one watch.
func (e *Election) Observe(ctx context.Context) iter.Seq2[Leader, error] {
	return func(yield func(Leader, error) bool) {
		var last *Leader
		for seats, err := range e.observe(ctx) {
			if err != nil {
				yield(Leader{}, err)
				return
			}
			l := Leader{Name: e.name, Revision: seats.Revision}
			if len(seats.Leaders) > 0 {
				l = seats.Leaders[0]
			}
			l.Gap = seats.Gap
			if last != nil && last.Token == l.Token && last.Value == l.Value && !l.Gap {
				continue // it was about another seat
			}
			last = &l
			if !yield(l, nil) {
				return
			}
		}
	}
}

// ObserveSeats is [Election.Observe] for an election with several seats: every
// pair has all who lead.
func (e *Election) ObserveSeats(ctx context.Context) iter.Seq2[Seats, error] {
	return func(yield func(Seats, error) bool) {
		for seats, err := range e.observe(ctx) {
			seats.Leaders = slices.Clone(seats.Leaders)
			if !yield(seats, err) {
				return
			}
		}
	}
}

// observe yields Seats whose leaders all observations share.
func (e *Election) observe(ctx context.Context) iter.Seq2[Seats, error] {
	return func(yield func(Seats, error) bool) {
		if err := e.o.validate(); err != nil {
			yield(Seats{}, named(e.name, err))
			return
		}
		s := e.feeds().join(e)
		defer s.leave()
		last, err := e.present(ctx, s)
		for ; err == nil; err = s.next(ctx, &last) {
			if !yield(last, nil) {
				return
			}
		}
		yield(Seats{}, named(e.name, err))
	}
}

// present returns who leads now. What the feed tells of earlier revisions is not
// news after it. The read has to come after the feed's own: what happened between
// the two would be missed.
func (e *Election) present(ctx context.Context, s *subscriber) (Seats, error) {
	select {
	case <-s.feed.begun:
	case <-s.feed.ended:
		return Seats{}, s.feed.err
	case <-ctx.Done():
		return Seats{}, ended(ctx)
	}
	if s.first {
		seats, _ := s.take()
		return seats, nil
	}
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
		standing, revision, err := e.q.Standing(bounded, e.name, e.shared())
		cancel()
		if err == nil {
			return Seats{Leaders: leadersOf(standing, revision), Revision: revision}, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.feed.ended:
			timer.Stop()
			return Seats{}, s.feed.err
		case <-ctx.Done():
			timer.Stop()
			return Seats{}, ended(ctx)
		}
	}
}

// ended is the error of a loop whose ctx ended.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, ctx.Err()) {
		return errors.Join(ctx.Err(), cause)
	}
	return ctx.Err()
}
