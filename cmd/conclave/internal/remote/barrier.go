package remote

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
)

// lookEvery is how often a holder looks whether somebody opened the barrier: there
// is nothing to follow.
const lookEvery = 2 * time.Second

// Hold closes a barrier for as long as the session lives, or until it is released.
// The request's session and namespace are filled in.
func (s *Session) Hold(ctx context.Context, req *barrierv1.HoldRequest) (*Held, error) {
	req = proto.CloneOf(req)
	req.SessionId, req.Namespace = s.id, s.cfg.Namespace
	return s.own(ctx, holdClaim{req}, nil)
}

// ReleaseHold releases a persistent hold, whoever has it.
func (s *Session) ReleaseHold(ctx context.Context, name string, token int64) error {
	c := holdClaim{&barrierv1.HoldRequest{SessionId: s.id, Namespace: s.cfg.Namespace, Name: name}}
	return s.client.Wait(ctx, nil, func(cc grpc.ClientConnInterface, _ *durationpb.Duration) error { return c.release(ctx, cc, token) })
}

// A holdClaim is for a hold.
type holdClaim struct{ req *barrierv1.HoldRequest }

func (c holdClaim) acquire(ctx context.Context, cc grpc.ClientConnInterface, _ *durationpb.Duration) (int64, error) {
	resp, err := barrierv1.NewBarrierServiceClient(cc).Hold(ctx, c.req)
	return resp.GetToken(), err
}

func (c holdClaim) release(ctx context.Context, cc grpc.ClientConnInterface, token int64) error {
	_, err := barrierv1.NewBarrierServiceClient(cc).Release(ctx, &barrierv1.ReleaseRequest{
		SessionId: c.req.GetSessionId(), Namespace: c.req.GetNamespace(), Name: c.req.GetName(), Token: token,
	})
	return err
}

// watch looks every so often. The name itself is the first of those that begin with
// it.
func (c holdClaim) watch(ctx context.Context, cc grpc.ClientConnInterface) (func() (news, error), error) {
	req := &barrierv1.ListRequest{Namespace: c.req.GetNamespace(), Prefix: c.req.GetName(), PageSize: 8}
	return func() (news, error) {
		if !pause(ctx, lookEvery) {
			return news{}, ctx.Err()
		}
		resp, err := barrierv1.NewBarrierServiceClient(cc).List(ctx, req)
		return c.news(resp), err
	}, nil
}

// news is what a look says: all that there is.
func (c holdClaim) news(resp *barrierv1.ListResponse) news {
	n := news{revision: resp.GetRevision(), initial: true}
	for _, b := range resp.GetBarriers() {
		if b.GetName() != c.req.GetName() || b.GetKind() != barrierv1.Kind_KIND_BARRIER {
			continue
		}
		n.state = &standing{count: int(b.GetThere())}
		for _, p := range b.GetMembers() {
			n.state.owners = append(n.state.owners, owner{token: p.GetToken()})
		}
	}
	return n
}

func (c holdClaim) gone() error {
	return fmt.Errorf("barrier %q: somebody opened it, or deleted its key: %w", c.req.GetName(), core.ErrKeyDeleted)
}

// An Entry is a place in a phase of a double barrier.
type Entry struct {
	*Held
	claim *entryClaim
}

// Generation returns the number of the phase.
func (e *Entry) Generation() int64 { return e.claim.generation }

// Enter waits until all parties of a double barrier are there, or until ctx or the
// session ends. The request's session and namespace are filled in.
func (s *Session) Enter(ctx context.Context, req *barrierv1.EnterRequest) (*Entry, error) {
	req = proto.CloneOf(req)
	req.SessionId, req.Namespace = s.id, s.cfg.Namespace
	c := &entryClaim{req: req}
	h, err := s.own(ctx, c, req.GetWait())
	if err != nil {
		return nil, err
	}
	return &Entry{h, c}, nil
}

// Leave ends the entry and waits until all others have left, or until ctx ends.
func (e *Entry) Leave(ctx context.Context) error {
	e.end()
	return e.s.client.Wait(ctx, nil, func(cc grpc.ClientConnInterface, left *durationpb.Duration) error {
		return e.claim.leave(ctx, cc, e.token, left)
	})
}

// An entryClaim is for an entry. Whether its key was deleted by hand is not looked
// for: nobody has a reason to.
type entryClaim struct {
	req        *barrierv1.EnterRequest
	generation int64
}

func (c *entryClaim) acquire(ctx context.Context, cc grpc.ClientConnInterface, wait *durationpb.Duration) (int64, error) {
	req := proto.CloneOf(c.req)
	req.Wait = wait
	resp, err := barrierv1.NewBarrierServiceClient(cc).Enter(ctx, req)
	c.generation = resp.GetGeneration()
	return resp.GetToken(), err
}

func (c *entryClaim) leave(ctx context.Context, cc grpc.ClientConnInterface, token int64, wait *durationpb.Duration) error {
	_, err := barrierv1.NewBarrierServiceClient(cc).Leave(ctx, &barrierv1.LeaveRequest{
		SessionId: c.req.GetSessionId(), Namespace: c.req.GetNamespace(), Name: c.req.GetName(), Token: token, Wait: wait,
	})
	return err
}

// release does not wait for the others.
func (c *entryClaim) release(ctx context.Context, cc grpc.ClientConnInterface, token int64) error {
	err := c.leave(ctx, cc, token, durationpb.New(0))
	if recipe.Reason(err) == "not_ready" {
		return nil
	}
	return err
}

func (c *entryClaim) watch(ctx context.Context, _ grpc.ClientConnInterface) (func() (news, error), error) {
	return func() (news, error) {
		<-ctx.Done()
		return news{}, ctx.Err()
	}, nil
}

func (c *entryClaim) gone() error {
	return fmt.Errorf("barrier %q: its key was deleted: %w", c.req.GetName(), core.ErrKeyDeleted)
}
