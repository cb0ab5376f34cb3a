package queue

import (
	"context"
	"errors"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Consume takes items and calls work for each, [WithConcurrency] at a time. Nil
// acks the item; an error nacks it, with the error as the reason, after a delay
// that grows with the attempts ([WithBackoff]). A panic of work is not recovered;
// the item is delivered again.
//
// The context of work ends with the delivery, or with ctx; it carries the token
// (core.TokenFrom). Effects that shall commit with the ack are handed over by
// [OnAck]. Work that takes longer than the visibility extends its delivery by
// [Extend].
//
// Consume returns an error that is ctx.Err() when ctx ends, after every call of
// work has returned and its result was settled, and core.ErrSessionExpired or
// core.ErrSessionClosed when the session ended.
func (q *Queue[T]) Consume(ctx context.Context, work func(ctx context.Context, v T) error) error {
	stop, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers sync.WaitGroup
	defer workers.Wait() // also when work panics in one of them the others are not left behind
	for range q.o.concurrency {
		workers.Go(func() { cancel(q.consume(ctx, stop, work)) })
	}
	workers.Wait()
	if ctx.Err() != nil {
		return named(q.name, joined(ctx, context.Cause(ctx)))
	}
	return context.Cause(stop)
}

// consume works until it may not take another item, and returns why.
func (q *Queue[T]) consume(ctx, stop context.Context, work func(context.Context, T) error) error {
	for {
		i, err := q.Dequeue(stop)
		if err != nil {
			return err
		}
		q.handle(ctx, i, work)
	}
}

// handle works on one item and settles it. What was done is acked also when ctx
// has ended meanwhile.
func (q *Queue[T]) handle(ctx context.Context, i *Item[T], work func(context.Context, T) error) {
	j := &job{extend: i.Extend}
	wctx, cancel := context.WithCancelCause(context.WithValue(i.Context(), jobKey{}, j))
	unbind := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	err := work(wctx, i.Value)
	unbind()
	cancel(nil)
	settle, done := context.WithTimeout(context.WithoutCancel(ctx), q.s.Engine().TTL())
	defer done()
	switch {
	case err == nil:
		err = i.Ack(settle, j.taken()...)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = i.NackReason(settle, 0, "the consumer stopped")
	default:
		err = i.NackReason(settle, max(q.o.backoff(i.Attempt), 0), err.Error())
	}
	if err != nil {
		q.s.Engine().Log().Warn("an item could not be settled", "queue", q.name, "id", i.ID, "error", err)
	}
}

type jobKey struct{}

// job is what Consume's function is given in its context.
type job struct {
	extend func(context.Context, time.Duration) error

	mu      sync.Mutex
	effects []clientv3.Op
}

func (j *job) taken() []clientv3.Op {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.effects
}

// OnAck hands over effects that commit with the ack of the item whose work has
// ctx: see [Item.Ack]. It reports false, and does nothing, if ctx is not that of
// a function given to [Queue.Consume].
func OnAck(ctx context.Context, effects ...clientv3.Op) bool {
	j, ok := ctx.Value(jobKey{}).(*job)
	if !ok {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.effects = append(j.effects, effects...)
	return true
}

// Extend makes the delivery of the item whose work has ctx last for d from now
// on: see [Item.Extend]. It returns [ErrStaleDelivery] if ctx is not that of a
// function given to [Queue.Consume].
func Extend(ctx context.Context, d time.Duration) error {
	j, ok := ctx.Value(jobKey{}).(*job)
	if !ok {
		return ErrStaleDelivery
	}
	return j.extend(ctx, d)
}
