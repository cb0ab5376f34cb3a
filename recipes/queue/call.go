package queue

import (
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/queue"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

const (
	// writeBudget bounds a write that nobody waits for longer. A leader's election
	// takes about a second and a half, and it is better to find out what became of
	// the write.
	writeBudget = 10 * time.Second
	// lentTo is the label of the session under which producers and operators write.
	lentTo = "queue-recipe"
)

// A payload is what stands in etcd: its codec is the callers' affair.
type payload = []byte

// A nameRequest is about one queue.
type nameRequest interface {
	GetNamespace() string
	GetName() string
}

// open returns a queue as the session sees it.
func open(s *core.Session, name string, opts ...queue.Option) *queue.Queue[payload] {
	return queue.New[payload](s, name, append(opts, queue.WithCodec(core.Bytes{}))...)
}

// lent returns a queue for what does not belong to a caller's session.
func (i *instance) lent(ctx context.Context, req nameRequest, opts ...queue.Option) (*queue.Queue[payload], *core.Session, error) {
	space, err := i.Named(ctx, req.GetNamespace(), req.GetName())
	if err != nil {
		return nil, nil, err
	}
	s, err := i.Lend(ctx, lentTo, space.Namespace())
	if err != nil {
		return nil, nil, err
	}
	return open(s, req.GetName(), opts...), s, nil
}

// consumer returns the session of the caller.
func (i *instance) consumer(ctx context.Context, req nameRequest) (*core.Session, error) {
	if _, err := i.Named(ctx, req.GetNamespace(), req.GetName()); err != nil {
		return nil, err
	}
	return recipe.Session(ctx, i.Env)
}

// writing writes within a budget. What is not answered by then may have been
// written.
func writing[T any](ctx context.Context, write func(ctx context.Context) (T, error)) (T, error) {
	within, cancel := context.WithTimeout(ctx, writeBudget)
	defer cancel()
	answer, err := write(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = errors.Join(core.ErrUnknownOutcome, err)
	}
	return answer, status(err)
}

// done is writing without an answer.
func done(ctx context.Context, write func(ctx context.Context) error) error {
	_, err := writing(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, write(ctx) })
	return err
}

// text splits a payload into the two fields of a message.
func text(p payload) (value string, data []byte) {
	if utf8.Valid(p) {
		return string(p), nil
	}
	return "", p
}

// payloadOf joins the two fields.
func payloadOf(p *queuev1.Put) (payload, error) {
	if len(p.GetData()) == 0 {
		return []byte(p.GetValue()), nil
	}
	if p.GetValue() != "" {
		return nil, service.Invalidf("value", "is given together with data")
	}
	return p.GetData(), nil
}

// positive reads a duration that may be absent, and is not 0.
func positive(field string, d *durationpb.Duration) (time.Duration, bool, error) {
	const absent = -1
	got, err := service.Duration(field, d, absent)
	if err == nil && got == 0 {
		err = service.Invalidf(field, "is 0")
	}
	return got, got != absent, err
}
