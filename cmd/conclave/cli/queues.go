package cli

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/queue"
	recipequeue "github.com/conclavehq/conclave/recipes/queue"
)

// queues is the queue API of a target.
type queues = service[queuev1.QueueServiceClient]

// withQueues runs work with the queue API of the target.
func (a *app) withQueues(ctx context.Context, atMost time.Duration, work func(ctx context.Context, t target, q queues) error) error {
	r := standardRecipe[queuev1.QueueServiceClient]{recipequeue.Recipe{}, nil, queuev1.NewQueueServiceClient}
	return withService(ctx, a, r, atMost, work)
}

// withQueue is withQueues for a command about one queue.
func (a *app) withQueue(ctx context.Context, name string, atMost time.Duration, work func(ctx context.Context, t target, q queues) error) error {
	if err := keyspace.CheckName("name", name); err != nil {
		return usage("invalid_name", "", "%s", err)
	}
	return a.withQueues(ctx, atMost, work)
}

// A consumer is a session that takes items.
type consumer interface {
	session
	// Context ends with the session.
	Context() context.Context
	// take waits for items of the queue name, as the flags say, and takes at most so many.
	take(ctx context.Context, name string, most int, f taking) ([]*delivery, error)
}

var (
	_ consumer = (*etcdSession)(nil)
	_ consumer = (*hostSession)(nil)
)

// taking says how items are taken. Zero values are the queue's own.
type taking struct {
	visibility time.Duration
	attempts   int
	waitFlags
}

// A delivery is an item that was taken, wherever.
type delivery struct {
	id       string
	payload  []byte
	attempt  int
	token    core.Token
	enqueued time.Time
	priority int
	group    string
	reason   string // why the attempt before failed
	owned    context.Context
	ack      func(ctx context.Context) error
	nack     func(ctx context.Context, after time.Duration, reason string) error
	extend   func(ctx context.Context, visibility time.Duration) error
}

func (s *etcdSession) take(ctx context.Context, name string, most int, f taking) ([]*delivery, error) {
	opts := []queue.Option{queue.WithCodec(core.Bytes{})}
	if f.visibility > 0 {
		opts = append(opts, queue.WithVisibility(f.visibility))
	}
	if f.attempts > 0 {
		opts = append(opts, queue.WithMaxAttempts(f.attempts))
	}
	q := queue.New[[]byte](s.Session, name, opts...)
	ctx, cancel := f.waiting(ctx, 0)
	defer cancel()
	var items []*queue.Item[[]byte]
	var err error
	if f.tries() {
		items = make([]*queue.Item[[]byte], 1)
		items[0], err = q.TryDequeue(ctx)
	} else {
		items, err = q.DequeueBatch(ctx, most)
	}
	if err != nil {
		return nil, f.notTaken(ctx, name, err)
	}
	all := make([]*delivery, len(items))
	for i, item := range items {
		all[i] = &delivery{id: string(item.ID), payload: item.Value, attempt: item.Attempt, token: item.Token(), enqueued: item.EnqueuedAt,
			priority: item.Priority, group: item.Group, reason: item.Reason, owned: item.Context(), nack: item.NackReason, extend: item.Extend,
			ack: func(ctx context.Context) error { return item.Ack(ctx) }}
	}
	return all, nil
}

func (s *hostSession) take(ctx context.Context, name string, most int, f taking) ([]*delivery, error) {
	req := &queuev1.DequeueRequest{Name: name, MaxItems: int32(most), MaxAttempts: int32(f.attempts)} //nolint:gosec // at most a million
	if f.visibility > 0 {
		req.Visibility = durationpb.New(f.visibility)
	}
	if f.tries() {
		req.Wait = durationpb.New(0)
	} else if f.wait.set {
		req.Wait = durationpb.New(f.wait.value)
	}
	ctx, cancel := f.waiting(ctx, answering)
	defer cancel()
	items, err := s.Dequeue(ctx, req)
	if err != nil {
		return nil, f.notTaken(ctx, name, err)
	}
	all := make([]*delivery, len(items))
	for i, d := range items {
		all[i] = &delivery{id: d.GetId(), payload: d.Payload(), attempt: int(d.GetAttempt()), token: core.Token(d.GetToken()),
			enqueued: d.GetEnqueuedAt().AsTime(), priority: int(d.GetPriority()), group: d.GetGroup(), reason: d.GetReason(),
			owned: d.Context(), ack: d.Ack, extend: d.Extend,
			nack: func(ctx context.Context, after time.Duration, reason string) error {
				return d.Nack(ctx, after, reason, req.GetMaxAttempts())
			}}
	}
	return all, nil
}

// notTaken says that --wait has elapsed, if that is why.
func (f taking) notTaken(waiting context.Context, name string, err error) error {
	if !f.elapsed(waiting, err, "empty") {
		return err
	}
	return fmt.Errorf("queue %q: no item within --wait %s: %w", name, short(f.wait.value), errWaited)
}

// queueRefused says why there is no item, or no room, if that is up to others.
func queueRefused(name string, err error) *Error {
	e := &Error{Exit: ExitNotAcquired, Code: "aborted", Reason: "empty", cause: err, Message: fmt.Sprintf("queue %q: is empty", name)}
	switch {
	case errors.Is(err, errWaited):
		e.Message = fmt.Sprintf("queue %q: no item came before --wait elapsed", name)
	case errors.Is(err, queue.ErrEmpty), recipe.Reason(err) == "empty":
	case errors.Is(err, queue.ErrFull), recipe.Reason(err) == "full":
		e.Reason, e.Message = "full", fmt.Sprintf("queue %q: is full", name)
		e.Hint = "wait for room with --wait"
	default:
		return nil
	}
	return e
}

// isStale reports whether a delivery was over.
func isStale(err error) bool {
	return errors.Is(err, queue.ErrStaleDelivery) || recipe.Reason(err) == "stale_delivery"
}

// textOrData splits a payload as documents have it: what is no text is data.
func textOrData(payload []byte) (value string, data []byte) {
	if utf8.Valid(payload) {
		return string(payload), nil
	}
	return "", payload
}
