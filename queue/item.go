package queue

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/workqueue"
)

// An Item is one delivery of an item: an ownership that ends when it is acked or
// nacked, when its visibility is over, or with the session. A later delivery of
// the same item is another one.
type Item[T any] struct {
	ID         ID        // the same in every delivery
	Value      T         // what was enqueued
	Attempt    int       // 1 for the first delivery
	EnqueuedAt time.Time // by the clock of whoever enqueued it
	Priority   int       // the larger first
	Group      string    // "" for none
	// Reason is why the attempt before failed, or, of a dead letter, why it is one.
	Reason string

	name string
	v    *workqueue.Delivery
}

var _ core.Ownership = (*Item[any])(nil)

// item decodes a delivery.
func (q *Queue[T]) item(v *workqueue.Delivery) (*Item[T], error) {
	i := &Item[T]{ID: ID(v.ID), Attempt: v.Rec.Attempts, EnqueuedAt: time.UnixMilli(v.Rec.At), Priority: v.Rec.Priority,
		Group: v.Rec.Group, Reason: v.Rec.Reason, name: q.name, v: v}
	if err := q.o.codec.Decode(v.Rec.Payload, &i.Value); err != nil {
		return nil, named(q.name, fmt.Errorf("%w as %s: %w", ErrPayload, q.o.codec.Name(), err))
	}
	return i, nil
}

// Context ends with the delivery. context.Cause is core.ErrReleased after it was
// acked or nacked; else an error that is [ErrStaleDelivery] and
// core.ErrRevoked (visibility), core.ErrSessionExpired or core.ErrSessionClosed.
// Done is closed up to an eighth of the visibility late; Err is never late. It
// carries the token (core.TokenFrom) and the values of Dequeue's context.
func (i *Item[T]) Context() context.Context { return i.v.Context() }

// Token returns the fencing token.
func (i *Item[T]) Token() core.Token { return core.Token(i.v.Token()) }

// IsOwner is the comparison that holds in etcd as long as the delivery stands. For an item
// that was taken together with others the first call asks etcd, for at most 5 seconds: if
// that does not answer, the comparison may cease to hold before the delivery ends, and
// never holds after it.
func (i *Item[T]) IsOwner() clientv3.Cmp { return i.v.IsOwner() }

// Ack says that the item is done with, and commits the effects in the same
// transaction, or neither: so the effects of an item happen exactly once, however
// often it was delivered. An effect may be [EnqueueOp]. At most 100 effects.
//
// It returns [ErrStaleDelivery], with nothing written, if the delivery is over;
// core.ErrUnknownOutcome if ctx ended, or the session, before etcd answered: to
// ack again is then safe, and tells (with effects after an ack without, which was
// applied, that it is stale: they were not); and etcd's error if it refuses the effects,
// after which the delivery stands.
func (i *Item[T]) Ack(ctx context.Context, effects ...clientv3.Op) error {
	if len(effects) > maxEffects {
		return named(i.name, invalid("effects: %d are more than %d", len(effects), maxEffects))
	}
	return named(i.name, i.v.Ack(ctx, effects))
}

const maxEffects = 100

// Nack gives the item back: to the front of the queue at once, or after a time,
// at most [MaxDelay], on the clocks of this process and of a consumer. An item
// that had all its attempts becomes a dead letter. It returns errors as Ack.
func (i *Item[T]) Nack(ctx context.Context, after time.Duration) error {
	return i.NackReason(ctx, after, "")
}

// NackReason is Nack with the reason, which the item keeps: the next delivery
// shows it, and the dead letter. It is cut to 256 bytes.
func (i *Item[T]) NackReason(ctx context.Context, after time.Duration, reason string) error {
	if err := checkDelay("after", after); err != nil {
		return named(i.name, fmt.Errorf("%w: %w", core.ErrInvalid, err))
	}
	return named(i.name, i.v.Nack(ctx, after, truncated(reason)))
}

// Reject makes the item a dead letter at once, with the reason, which is cut to
// 256 bytes. It returns errors as Ack.
func (i *Item[T]) Reject(ctx context.Context, reason string) error {
	return named(i.name, i.v.Reject(ctx, truncated(reason)))
}

// Extend makes the delivery last for d from now on, at most [MaxVisibility]. It
// returns [ErrStaleDelivery] if the delivery is over.
func (i *Item[T]) Extend(ctx context.Context, d time.Duration) error {
	if d <= 0 || d > MaxVisibility {
		return named(i.name, invalid("extension: %v is outside 1ns to %v", d, MaxVisibility))
	}
	return named(i.name, i.v.Extend(ctx, d))
}

// AckAll acks several items at once, each by itself, in as few requests as
// possible: least, if they are all that a [Queue.DequeueBatch] returned. The error joins those of the items; it is nil if all were acked.
func AckAll[T any](ctx context.Context, items []*Item[T]) error {
	all := make([]*workqueue.Delivery, len(items))
	for n, i := range items {
		all[n] = i.v
	}
	errs := workqueue.AckAll(ctx, all)
	for n, err := range errs {
		if err != nil {
			errs[n] = fmt.Errorf("item %s: %w", items[n].ID, named(items[n].name, err))
		}
	}
	return errors.Join(errs...)
}

// truncated cuts a reason to what an item keeps, at a character.
func truncated(s string) string {
	if len(s) <= workqueue.MaxReason {
		return s
	}
	n := workqueue.MaxReason
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
