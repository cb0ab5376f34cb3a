package queue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/workqueue"
)

// An ID names an item of a queue. It is the same in every delivery, and as a dead
// letter.
type ID string

// A Queue is a name under which items of type T wait for consumers. It is
// immutable and safe for concurrent use: what Dequeue returns has the state.
type Queue[T any] struct {
	s    *core.Session
	name string
	dead bool
	o    options
	err  error // of the options
	root string

	writer func() *workqueue.Writer
}

// New returns the queue of a name. It does no I/O; a name or option outside its
// limits makes every call return core.ErrInvalid.
func New[T any](s *core.Session, name string, opts ...Option) *Queue[T] {
	q := &Queue[T]{s: s, name: name, o: defaults(), root: root(s.Namespace(), name)}
	for _, opt := range opts {
		opt(&q.o)
	}
	q.err = q.o.validate(name)
	q.writer = sync.OnceValue(q.newWriter)
	return q
}

// Name returns the queue's name.
func (q *Queue[T]) Name() string { return q.name }

// DeadLetters returns the queue of the items that were given up, with the reason
// that [Queue.Peek] shows. It can be consumed like any other, with no limit of
// attempts, or its items can be put back ([Queue.Requeue]) or deleted
// ([Queue.Drop]). Nothing can be enqueued into it.
func (q *Queue[T]) DeadLetters() *Queue[T] {
	if q.dead {
		return q
	}
	d := *q
	d.dead, d.root, d.o.attempts = true, workqueue.DeadRoot(q.root), math.MaxInt32
	d.writer = sync.OnceValue(d.newWriter)
	return &d
}

func (q *Queue[T]) listed() string {
	if q.dead {
		return ""
	}
	return workqueue.Listed(q.s.Namespace(), q.name)
}

func (q *Queue[T]) newWriter() *workqueue.Writer {
	return workqueue.WriterFor(q.s.Engine(), q.root, q.listed())
}

func (q *Queue[T]) dock() *workqueue.Dock {
	return workqueue.For(q.s.Engine(), workqueue.Config{Root: q.root, Listed: q.listed(), Visibility: q.o.visibility,
		MaxAttempts: q.o.attempts, Session: q.s.Context(), Released: core.ErrReleased, Revoked: core.ErrRevoked})
}

func (q *Queue[T]) admin() workqueue.Admin {
	return workqueue.AdminFor(q.s.Engine(), q.root, q.listed())
}

// Enqueue puts a value into the queue. When it returns nil the item is in etcd,
// and will be delivered until somebody acks it or its attempts are used up.
//
// It returns core.ErrInvalid for options outside their limits, a value that the
// codec refuses or that is larger than [MaxPayload]; [ErrFull]; an error that is
// ctx.Err() when ctx ends before the item was sent; and core.ErrUnknownOutcome if
// nobody knows whether it was put: enqueue it again with the same [DedupID], or
// accept that it may be there twice.
func (q *Queue[T]) Enqueue(ctx context.Context, v T, opts ...PutOption) (ID, error) {
	put, err := q.put(v, opts)
	if err != nil {
		return "", named(q.name, err)
	}
	ids, err := q.writer().Enqueue(ctx, []workqueue.Put{put})
	if err != nil {
		return "", named(q.name, err)
	}
	return ID(ids[0]), nil
}

// EnqueueAll puts several values, in their order and with the same options, and
// returns their IDs. It is one call, and not one transaction: after an error some
// may be in the queue. A DedupID among the options is core.ErrInvalid for more
// than one value.
func (q *Queue[T]) EnqueueAll(ctx context.Context, vs []T, opts ...PutOption) ([]ID, error) {
	puts := make([]workqueue.Put, len(vs))
	for i, v := range vs {
		var err error
		if puts[i], err = q.put(v, opts); err == nil && len(vs) > 1 && puts[i].Dedup != "" {
			err = invalid("dedup_id: is for one value, not for %d", len(vs))
		}
		if err != nil {
			return nil, named(q.name, err)
		}
	}
	if len(puts) == 0 {
		return nil, named(q.name, q.err)
	}
	texts, err := q.writer().Enqueue(ctx, puts)
	if err != nil {
		return nil, named(q.name, err)
	}
	ids := make([]ID, len(texts))
	for i, id := range texts {
		ids[i] = ID(id)
	}
	return ids, nil
}

// put makes what is to be enqueued of a value.
func (q *Queue[T]) put(v T, opts []PutOption) (workqueue.Put, error) {
	var o putOptions
	for _, opt := range opts {
		opt(&o)
	}
	if err := errors.Join(q.err, o.validate()); err != nil {
		return workqueue.Put{}, err
	}
	if q.dead {
		return workqueue.Put{}, invalid("queue: nothing is enqueued into dead letters")
	}
	payload, err := q.o.codec.Encode(v)
	if err != nil {
		return workqueue.Put{}, invalid("value: %w", err)
	}
	if len(payload) > MaxPayload {
		return workqueue.Put{}, invalid("value: has %d bytes, the limit is %d", len(payload), MaxPayload)
	}
	return workqueue.Put{Delay: o.delay, Dedup: o.dedup, Window: q.o.window, Capacity: q.o.capacity, Wait: o.wait,
		Record: workqueue.Record{At: time.Now().UnixMilli(), Codec: q.o.codec.Name(), Priority: o.priority, Group: o.group, Payload: payload}}, nil
}

// EnqueueOp returns the operation that enqueues a value as a part of another
// transaction: as an effect of [Item.Ack], which moves an item from one queue to
// the next in one step. In a transaction of another program the item comes to its
// place when somebody waits for items of the queue, within about a second.
//
// The item waits outside of a queue that is full, until there is room.
// The error is core.ErrInvalid.
func EnqueueOp[T any](q *Queue[T], v T, opts ...PutOption) (clientv3.Op, error) {
	put, err := q.put(v, opts)
	if err != nil {
		return clientv3.Op{}, named(q.name, err)
	}
	return q.writer().Ask(put), nil
}

// Dequeue waits for an item and takes it: nobody else is given it until it is
// acked or nacked, its visibility is over, or the session ends.
//
// It returns an error that is ctx.Err() when ctx ends first, and
// core.ErrSessionExpired or core.ErrSessionClosed. An item whose payload the codec
// cannot read becomes a dead letter, and Dequeue goes on.
func (q *Queue[T]) Dequeue(ctx context.Context) (*Item[T], error) {
	items, err := q.take(ctx, 1, false)
	if err != nil {
		return nil, err
	}
	return items[0], nil
}

// TryDequeue takes an item if one can be delivered now, else it returns
// [ErrEmpty].
func (q *Queue[T]) TryDequeue(ctx context.Context) (*Item[T], error) {
	items, err := q.take(ctx, 1, true)
	if err != nil {
		return nil, err
	}
	return items[0], nil
}

// DequeueBatch waits for an item and takes up to n, as many as there are. To ack them
// together ([AckAll]) costs etcd little more than to ack one. To settle one of them before
// the others, or to ask for its IsOwner, costs a request more, once, and needs space in
// etcd's database, as what it writes does.
func (q *Queue[T]) DequeueBatch(ctx context.Context, n int) ([]*Item[T], error) {
	if n < 1 || n > MaxConcurrency {
		return nil, named(q.name, invalid("batch: %d is outside 1 to %d", n, MaxConcurrency))
	}
	return q.take(ctx, n, false)
}

// take returns at least one item that the codec can read.
func (q *Queue[T]) take(ctx context.Context, n int, try bool) ([]*Item[T], error) {
	if q.err != nil {
		return nil, named(q.name, q.err)
	}
	for {
		all, err := q.dock().Take(ctx, n, try)
		if err != nil {
			return nil, named(q.name, joined(ctx, err))
		}
		items := make([]*Item[T], 0, len(all))
		for _, v := range all {
			i, err := q.item(v)
			if err == nil {
				items = append(items, i)
				continue
			}
			if err := v.Reject(ctx, truncated(err.Error())); err != nil {
				q.s.Engine().Log().Warn("an item that cannot be decoded", "queue", q.name, "id", v.ID, "error", err)
			}
		}
		if len(items) > 0 {
			return items, nil
		}
	}
}

// joined makes an error ctx.Err() too if it is ctx's cause.
func joined(ctx context.Context, err error) error {
	if end := ctx.Err(); end != nil && !errors.Is(err, end) {
		return fmt.Errorf("%w: %w", end, err)
	}
	return err
}

// Items yields items as they come, until the loop is left, ctx ends, or the
// session does: the error is then the last pair. Each item is to be acked or
// nacked as one from [Queue.Dequeue].
func (q *Queue[T]) Items(ctx context.Context) iter.Seq2[*Item[T], error] {
	return func(yield func(*Item[T], error) bool) {
		for {
			i, err := q.Dequeue(ctx)
			if !yield(i, err) || err != nil {
				return
			}
		}
	}
}

// Delivered returns the item of a delivery that this session has, by its ID and
// token, whatever process of the session took it. So a session that hosts serve
// acks at any host. It is one read, and a write for an item that another process took
// together with others. It returns [ErrStaleDelivery] if the delivery is over, and
// [ErrPayload] if the codec cannot read the item.
func (q *Queue[T]) Delivered(ctx context.Context, id ID, token core.Token) (*Item[T], error) {
	if err := errors.Join(q.err, q.checkID(id)); err != nil {
		return nil, named(q.name, err)
	}
	v, err := q.dock().Resume(ctx, string(id), int64(token))
	if err != nil {
		return nil, named(q.name, err)
	}
	return q.item(v)
}

func (q *Queue[T]) checkID(id ID) error {
	if err := keyspace.CheckName("id", string(id)); err != nil {
		return fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	if keyspace.Escape(string(id)) != string(id) {
		return invalid("id: has a character that no id has")
	}
	return nil
}

// List returns the names of the queues of a namespace that begin with prefix, in
// their order, as far as anything was ever enqueued into them.
func List(ctx context.Context, c *clientv3.Client, namespace, prefix string) ([]string, error) {
	if err := keyspace.CheckNamespace("namespace", namespace); err != nil {
		return nil, fmt.Errorf("queues: %w: %w", core.ErrInvalid, err)
	}
	names, err := workqueue.ListQueues(ctx, c, namespace, prefix)
	if err != nil {
		return nil, fmt.Errorf("queues: %w", err)
	}
	return names, nil
}
