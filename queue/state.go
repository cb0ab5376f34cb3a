package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/conclavehq/conclave/internal/workqueue"
)

// Stats are counts of a queue's items, all at one revision.
type Stats struct {
	Ready    int  // could be delivered now, or are when somebody resumes the queue
	Delayed  int  // are not due yet
	InFlight int  // are delivered and not settled
	Blocked  int  // wait for another item of their group
	Arriving int  // were enqueued by another transaction and are not in their place yet
	Dead     int  // dead letters
	Paused   bool // nothing is delivered
	// Oldest is when the item that is next was enqueued, by the clock of whoever
	// enqueued it; zero if there is none.
	Oldest    time.Time
	Consumers int // sessions that wait for items
}

// Depth is how many items were neither acked nor given up.
func (s Stats) Depth() int { return s.Ready + s.Delayed + s.InFlight + s.Blocked }

// Stats counts the queue's items. It costs etcd a walk over the names of the
// queue's keys, some 100 ms for 100,000 of them on a busy machine: ask every few
// seconds, not every few milliseconds.
func (q *Queue[T]) Stats(ctx context.Context) (Stats, error) {
	if q.err != nil {
		return Stats{}, named(q.name, q.err)
	}
	s, err := q.admin().Stats(ctx)
	if err != nil {
		return Stats{}, named(q.name, err)
	}
	return Stats{Ready: s.Ready, Delayed: s.Delayed, InFlight: s.Delivery, Blocked: s.Grouped, Arriving: s.Asked,
		Dead: s.Dead, Paused: s.Paused, Oldest: s.Oldest, Consumers: s.Waiting}, nil
}

// Len returns how many items were neither acked nor given up: those that wait,
// that are delayed, and that are delivered. It costs as much as Stats.
func (q *Queue[T]) Len(ctx context.Context) (int, error) {
	if q.err != nil {
		return 0, named(q.name, q.err)
	}
	n, err := q.admin().Len(ctx)
	return n, named(q.name, err)
}

// An Entry is an item that was looked at, and not taken.
type Entry[T any] struct {
	ID         ID        // the same in every delivery
	Value      T         // what was enqueued
	Attempts   int       // deliveries so far
	EnqueuedAt time.Time // by the clock of whoever enqueued it
	Priority   int       // the larger first
	Group      string    // "" for none
	Reason     string    // why the last attempt failed, or why it is a dead letter
	Payload    []byte    // the value as it stands in etcd
	Err        error     // ErrPayload if the codec cannot read the payload; then Value is zero
}

// Peek returns up to n items that are next, in their order, and takes none.
func (q *Queue[T]) Peek(ctx context.Context, n int) ([]Entry[T], error) {
	if err := q.checkPeek(n); err != nil {
		return nil, named(q.name, err)
	}
	seen, err := q.admin().Peek(ctx, n)
	if err != nil {
		return nil, named(q.name, err)
	}
	entries := make([]Entry[T], len(seen))
	for i, s := range seen {
		entries[i] = q.entry(s)
	}
	return entries, nil
}

const maxPeek = 10_000

func (q *Queue[T]) checkPeek(n int) error {
	if n < 1 || n > maxPeek {
		return errors.Join(q.err, invalid("n: %d is outside 1 to %d", n, maxPeek))
	}
	return q.err
}

func (q *Queue[T]) entry(s workqueue.Seen) Entry[T] {
	e := Entry[T]{ID: ID(s.ID), Attempts: s.Rec.Attempts, EnqueuedAt: time.UnixMilli(s.Rec.At), Priority: s.Rec.Priority,
		Group: s.Rec.Group, Reason: s.Rec.Reason, Payload: s.Rec.Payload}
	if err := q.o.codec.Decode(s.Rec.Payload, &e.Value); err != nil {
		var zero T
		e.Value, e.Err = zero, fmt.Errorf("%w as %s: %w", ErrPayload, q.o.codec.Name(), err)
	}
	return e
}

// Pause keeps items from being delivered, to anybody, until [Queue.Resume]: none
// is once it returns. Deliveries that stand go on, and items can be enqueued.
func (q *Queue[T]) Pause(ctx context.Context) error {
	if q.err != nil {
		return named(q.name, q.err)
	}
	return named(q.name, q.admin().Pause(ctx))
}

// Resume ends a [Queue.Pause].
func (q *Queue[T]) Resume(ctx context.Context) error {
	if q.err != nil {
		return named(q.name, q.err)
	}
	return named(q.name, q.admin().Resume(ctx))
}

// Requeue puts dead letters back into the queue, in front, with no attempts and
// no group, and returns how many: those with the ids, or without ids all that
// there were. It is for the queue that [Queue.DeadLetters] returns, else
// core.ErrInvalid.
func (q *Queue[T]) Requeue(ctx context.Context, ids ...ID) (int, error) {
	return q.each(ctx, ids, workqueue.Admin.Revive)
}

// Drop deletes dead letters, as Requeue puts them back.
func (q *Queue[T]) Drop(ctx context.Context, ids ...ID) (int, error) {
	return q.each(ctx, ids, workqueue.Admin.Drop)
}

// each does something with dead letters, page by page.
func (q *Queue[T]) each(ctx context.Context, ids []ID, do func(workqueue.Admin, context.Context, workqueue.Seen) (bool, error)) (int, error) {
	if q.err != nil {
		return 0, named(q.name, q.err)
	}
	if !q.dead {
		return 0, named(q.name, invalid("queue: is not the queue of the dead letters"))
	}
	a := workqueue.AdminFor(q.s.Engine(), root(q.s.Namespace(), q.name), "")
	n, cursor := 0, ""
	for {
		page, next, err := a.Dead(ctx, cursor, 100)
		if err != nil {
			return n, named(q.name, err)
		}
		for _, s := range page {
			if len(ids) > 0 && !slices.Contains(ids, ID(s.ID)) {
				continue
			}
			ok, err := do(a, ctx, s)
			if err != nil {
				return n, named(q.name, err)
			}
			if ok {
				n++
			}
		}
		if cursor = next; next == "" || len(ids) > 0 && n == len(ids) {
			return n, nil
		}
	}
}
