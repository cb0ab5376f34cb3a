package cli

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/cmd/conclave/internal/remote"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
	"github.com/conclavehq/conclave/queue"
)

// benchTarget connects to the target once; open makes a client with a session of
// its own there.
func (a *app) benchTarget(ctx context.Context, t target) (open func(context.Context) (benchClient, error), end func(), err error) {
	if t.direct() {
		c, err := a.dial(ctx, t)
		if err != nil {
			return nil, nil, err
		}
		return func(ctx context.Context) (benchClient, error) {
			s, err := core.NewSession(ctx, c, core.WithTTL(benchTTL), core.WithNamespace(a.namespace(t)))
			return etcdBench{s}, err
		}, func() { _ = c.Close() }, nil
	}
	c, err := a.host(t)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context) (benchClient, error) {
		s, err := c.Open(ctx, remote.SessionConfig{TTL: benchTTL, Owner: ownerName(), Namespace: a.namespace(t)})
		return hostBench{c, s}, err
	}, func() { _ = c.Close() }, nil
}

// etcdBench works by the libraries.
type etcdBench struct{ s *core.Session }

func (c etcdBench) close() { _ = c.s.Close() } // what stays ends with the lease

func (c etcdBench) lock(ctx context.Context, name string) (func() error, error) {
	h, err := lock.NewMutex(c.s, name).Lock(ctx)
	if err != nil {
		return nil, err
	}
	return h.Unlock, nil
}

func (c etcdBench) put(ctx context.Context, name string, payload []byte) error {
	_, err := queue.New[[]byte](c.s, name, queue.WithCodec(core.Bytes{})).Enqueue(ctx, payload)
	return err
}

func (c etcdBench) take(ctx context.Context, name string) (func(context.Context) error, error) {
	item, err := queue.New[[]byte](c.s, name, queue.WithCodec(core.Bytes{})).Dequeue(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return item.Ack(ctx) }, nil
}

// hostBench makes the calls that a program in any language makes.
type hostBench struct {
	client  *remote.Client
	session *remote.Session
}

func (c hostBench) close() {
	ctx, cancel := context.WithTimeout(context.Background(), releasing)
	defer cancel()
	_ = c.session.Close(ctx)
}

func (c hostBench) lock(ctx context.Context, name string) (func() error, error) {
	var held *lockv1.AcquireResponse
	err := c.client.Do(ctx, func(cc grpc.ClientConnInterface) (err error) {
		held, err = lockv1.NewLockServiceClient(cc).Acquire(ctx, &lockv1.AcquireRequest{SessionId: c.session.ID(), Name: name})
		return err
	})
	if err != nil {
		return nil, err
	}
	return func() error {
		return c.client.Do(ctx, func(cc grpc.ClientConnInterface) error {
			_, err := lockv1.NewLockServiceClient(cc).Release(ctx, &lockv1.ReleaseRequest{SessionId: c.session.ID(), Name: name, Token: held.GetToken()})
			return err
		})
	}, nil
}

func (c hostBench) put(ctx context.Context, name string, payload []byte) error {
	return c.client.Do(ctx, func(cc grpc.ClientConnInterface) error {
		_, err := queuev1.NewQueueServiceClient(cc).Enqueue(ctx, &queuev1.EnqueueRequest{Namespace: c.session.Namespace(), Name: name, Items: []*queuev1.Put{{Data: payload}}})
		return err
	})
}

func (c hostBench) take(ctx context.Context, name string) (func(context.Context) error, error) {
	var got *queuev1.DequeueResponse
	err := c.client.Do(ctx, func(cc grpc.ClientConnInterface) (err error) {
		got, err = queuev1.NewQueueServiceClient(cc).Dequeue(ctx, &queuev1.DequeueRequest{SessionId: c.session.ID(), Name: name, MaxItems: 1, Wait: durationpb.New(benchTTL)})
		return err
	})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		for _, item := range got.GetItems() {
			err := c.client.Do(ctx, func(cc grpc.ClientConnInterface) error {
				_, err := queuev1.NewQueueServiceClient(cc).Ack(ctx, &queuev1.AckRequest{SessionId: c.session.ID(), Name: name, Id: item.GetId(), Token: item.GetToken()})
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	}, nil
}
