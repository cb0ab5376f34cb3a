package barrier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// Hold implements the method of the BarrierService.
func (i *instance) Hold(ctx context.Context, req *barrierv1.HoldRequest) (*barrierv1.HoldResponse, error) {
	s, err := i.party(ctx, req)
	if err != nil {
		return nil, err
	}
	opts := []barrier.Option{barrier.WithOnePerSession(), barrier.WithPurpose(req.GetPurpose())}
	if req.GetPersistent() {
		opts = append(opts, barrier.WithPersistent())
	}
	if req.GetBreakOnLoss() {
		opts = append(opts, barrier.WithBreakOnLoss())
	}
	calling, done := i.Waiting(ctx, service.Forever)
	defer done()
	h, err := barrier.New(s, req.GetName(), opts...).Hold(calling)
	if err != nil {
		return nil, status(err)
	}
	h.Detach()
	return &barrierv1.HoldResponse{Token: int64(h.Token())}, nil
}

// Release implements the method of the BarrierService.
func (i *instance) Release(ctx context.Context, req *barrierv1.ReleaseRequest) (*barrierv1.ReleaseResponse, error) {
	token, s, err := i.owner(ctx, req, "Hold")
	if err != nil {
		return nil, err
	}
	b := barrier.New(s, req.GetName())
	h, err := service.Bounded(ctx, func(ctx context.Context) (*barrier.Hold, error) { return b.Resume(ctx, token) })
	if err == nil {
		err = h.Release()
	}
	if err == nil {
		return &barrierv1.ReleaseResponse{}, nil
	}
	return nil, i.notOwner(ctx, err, words{"holds", "does not hold"}, req.GetName(), func(ctx context.Context) (core.Token, error) {
		now, err := b.Resume(ctx, 0)
		if err != nil {
			return 0, err
		}
		defer now.Detach()
		return now.Token(), nil
	})
}

// Wait implements the method of the BarrierService.
func (i *instance) Wait(ctx context.Context, req *barrierv1.WaitRequest) (*barrierv1.WaitResponse, error) {
	wait, s, err := i.watcher(ctx, req)
	if err != nil {
		return nil, err
	}
	b := barrier.New(s, req.GetName())
	if looks(req) && closed(ctx, b) {
		return nil, held(ctx, b, req.GetName())
	}
	waiting, done := i.Waiting(ctx, wait)
	defer done()
	err = b.Wait(waiting)
	switch {
	case waited(err):
		return nil, held(ctx, b, req.GetName())
	case err != nil:
		return nil, status(err)
	}
	return &barrierv1.WaitResponse{}, nil
}

// closed tells whether one read shows that a wait would take time. If etcd does not
// tell, or a holder was lost, it is Wait that knows what to answer.
func closed(ctx context.Context, b *barrier.Barrier) bool {
	holders, err := service.Bounded(ctx, b.Holders)
	lost := func(p barrier.Party) bool { return p.Lost }
	return err == nil && len(holders) > 0 && !slices.ContainsFunc(holders, lost)
}

// held is the error of a wait for those who hold the barrier.
func held(ctx context.Context, b *barrier.Barrier, name string) error {
	return recipe.Errorf(codes.Aborted, service.ReasonLocked, "barrier %q: held%s", name, heldBy(ctx, b))
}

// heldBy names who holds the barrier, if etcd tells.
func heldBy(ctx context.Context, b *barrier.Barrier) string {
	const most = 3
	holders, err := service.Bounded(ctx, b.Holders)
	if err != nil || len(holders) == 0 {
		return ""
	}
	var owners []string
	for _, h := range service.First(holders, most) {
		owners = append(owners, h.Owner)
	}
	if more := len(holders) - most; more > 0 {
		owners = append(owners, fmt.Sprintf("%d more", more))
	}
	return " by " + strings.Join(owners, ", ")
}

// Open implements the method of the BarrierService.
func (i *instance) Open(ctx context.Context, req *barrierv1.OpenRequest) (*barrierv1.OpenResponse, error) {
	s, err := i.lend(ctx, req)
	if err != nil {
		return nil, err
	}
	n, err := writing(ctx, barrier.New(s, req.GetName()).Open)
	if err != nil {
		return nil, status(err)
	}
	return &barrierv1.OpenResponse{Opened: int32(n)}, nil
}

// words say what a session has of a name, and has not.
type words struct{ does, doesNot string }

// notOwner is the error of a verb on what the session has of a name: now tells the
// token of what it has instead, if anything.
func (i *instance) notOwner(ctx context.Context, err error, w words, name string, now func(ctx context.Context) (core.Token, error)) error {
	if !errors.Is(err, barrier.ErrLost) {
		return status(err)
	}
	if errors.Is(err, core.ErrSessionExpired) || errors.Is(err, core.ErrSessionClosed) {
		return recipe.Status(err)
	}
	if token, err := service.Bounded(ctx, now); err == nil {
		return recipe.Errorf(codes.FailedPrecondition, service.ReasonStaleToken, "the session %s %q by another token: %d", w.does, name, token)
	}
	return recipe.Errorf(codes.FailedPrecondition, recipe.ReasonNotOwner, "the session %s %q", w.doesNot, name)
}
