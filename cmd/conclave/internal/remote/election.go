package remote

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/election"
)

// Campaign waits until the session leads, or until ctx or the session ends. The
// request's session and namespace are filled in. When a host goes, the place in
// line is kept at the next one. The context of a leader who is to step down ends
// with core.ErrRevoked, or, for a transfer, with core.ErrReleased and
// election.ErrTransferred; it leads until it releases, or until its grace is over.
func (s *Session) Campaign(ctx context.Context, req *electionv1.CampaignRequest) (*Held, error) {
	req = proto.CloneOf(req)
	req.SessionId, req.Namespace = s.id, s.cfg.Namespace
	return s.own(ctx, electionClaim{req}, req.GetWait())
}

// An electionClaim is for a term.
type electionClaim struct{ req *electionv1.CampaignRequest }

func (c electionClaim) acquire(ctx context.Context, cc grpc.ClientConnInterface, wait *durationpb.Duration) (int64, error) {
	req := proto.CloneOf(c.req)
	req.Wait = wait
	resp, err := electionv1.NewElectionServiceClient(cc).Campaign(ctx, req)
	return resp.GetToken(), err
}

func (c electionClaim) release(ctx context.Context, cc grpc.ClientConnInterface, token int64) error {
	_, err := electionv1.NewElectionServiceClient(cc).Resign(ctx, &electionv1.ResignRequest{
		SessionId: c.req.GetSessionId(), Namespace: c.req.GetNamespace(), Name: c.req.GetName(), Token: token,
	})
	return err
}

func (c electionClaim) watch(ctx context.Context, cc grpc.ClientConnInterface) (func() (news, error), error) {
	stream, err := electionv1.NewElectionServiceClient(cc).Watch(ctx, &electionv1.WatchRequest{Namespace: c.req.GetNamespace(), Name: c.req.GetName()})
	if err != nil {
		return nil, err
	}
	return func() (news, error) {
		resp, err := stream.Recv()
		if err != nil {
			return news{}, err
		}
		n := news{revision: resp.GetRevision(), initial: resp.GetInitial(), more: resp.GetMore()}
		for _, e := range resp.GetElections() {
			if e.GetName() == c.req.GetName() {
				n.state = c.standing(e)
			}
		}
		return n, nil
	}, nil
}

func (c electionClaim) standing(e *electionv1.Election) *standing {
	s := &standing{count: int(e.GetLeaderCount())}
	for _, l := range e.GetLeaders() {
		o := owner{token: l.GetToken()}
		if d := l.GetStepDown(); d.GetTo() != "" {
			o.ends = fmt.Errorf("election %q: %w: %w to %s by %s", c.req.GetName(), core.ErrReleased, election.ErrTransferred, d.GetTo(), d.GetBy())
		} else if d != nil {
			o.ends = fmt.Errorf("election %q: %w: by %s: %s", c.req.GetName(), core.ErrRevoked, d.GetBy(), d.GetReason())
		}
		s.owners = append(s.owners, o)
	}
	return s
}

func (c electionClaim) gone() error {
	return fmt.Errorf("election %q: somebody else leads, or deleted the leader's key: %w", c.req.GetName(), core.ErrKeyDeleted)
}
