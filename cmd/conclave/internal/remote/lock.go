package remote

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
)

// Acquire waits for a lock until ctx or the session ends. The request's session
// and namespace are filled in; its wait counts from now, whichever hosts are asked
// meanwhile. When a host goes, the place in line is kept at the next one.
func (s *Session) Acquire(ctx context.Context, req *lockv1.AcquireRequest) (*Held, error) {
	req = proto.CloneOf(req)
	req.SessionId, req.Namespace = s.id, s.cfg.Namespace
	return s.own(ctx, lockClaim{req}, req.GetWait())
}

// A lockClaim is for a lock.
type lockClaim struct{ req *lockv1.AcquireRequest }

func (c lockClaim) acquire(ctx context.Context, cc grpc.ClientConnInterface, wait *durationpb.Duration) (int64, error) {
	req := proto.CloneOf(c.req)
	req.Wait = wait
	resp, err := lockv1.NewLockServiceClient(cc).Acquire(ctx, req)
	return resp.GetToken(), err
}

func (c lockClaim) release(ctx context.Context, cc grpc.ClientConnInterface, token int64) error {
	_, err := lockv1.NewLockServiceClient(cc).Release(ctx, &lockv1.ReleaseRequest{
		SessionId: c.req.GetSessionId(), Namespace: c.req.GetNamespace(), Name: c.req.GetName(), Token: token,
	})
	return err
}

func (c lockClaim) watch(ctx context.Context, cc grpc.ClientConnInterface) (func() (news, error), error) {
	stream, err := lockv1.NewLockServiceClient(cc).Watch(ctx, &lockv1.WatchRequest{Namespace: c.req.GetNamespace(), Name: c.req.GetName()})
	if err != nil {
		return nil, err
	}
	return func() (news, error) {
		resp, err := stream.Recv()
		if err != nil {
			return news{}, err
		}
		n := news{revision: resp.GetRevision(), initial: resp.GetInitial(), more: resp.GetMore()}
		for _, l := range resp.GetLocks() {
			if l.GetName() == c.req.GetName() {
				n.state = c.standing(l)
			}
		}
		return n, nil
	}, nil
}

func (c lockClaim) standing(l *lockv1.Lock) *standing {
	s := &standing{count: int(l.GetHolderCount())}
	for _, h := range l.GetHolders() {
		o := owner{token: h.GetToken()}
		if r := h.GetRevocation(); r != nil {
			o.ends = fmt.Errorf("lock %q: %w: by %s: %s", c.req.GetName(), core.ErrRevoked, r.GetBy(), r.GetReason())
		}
		s.owners = append(s.owners, o)
	}
	return s
}

func (c lockClaim) gone() error {
	return fmt.Errorf("lock %q: somebody else took it, or deleted its key: %w", c.req.GetName(), core.ErrKeyDeleted)
}
