package lock

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/lock/internal/history"
)

// History implements the method of the LockService.
func (i *instance) History(ctx context.Context, req *lockv1.HistoryRequest) (*lockv1.HistoryResponse, error) {
	s, err := i.named(ctx, req.GetNamespace(), req.GetName())
	if err != nil {
		return nil, err
	}
	limit := int(req.GetLimit())
	if limit < 0 || limit > history.MaxKeep {
		return nil, invalidf("limit", "%d is outside 0 to %d", limit, history.MaxKeep)
	}
	past, err := bounded(ctx, func(ctx context.Context) (history.Past, error) {
		return history.Read(ctx, i.env.Client, s, req.GetName())
	})
	if err != nil {
		return nil, recipe.Status(err)
	}
	if limit == 0 || limit > i.cfg.endings {
		limit = i.cfg.endings
	}
	resp := new(lockv1.HistoryResponse)
	for _, e := range first(past.Endings, limit) {
		resp.Endings = append(resp.Endings, endingOf(&e))
	}
	for _, g := range past.Gaps {
		resp.Gaps = append(resp.Gaps, &lockv1.Gap{FromRevision: g.From, ToRevision: g.To, FoundAt: timeOf(g.At)})
	}
	if len(resp.GetEndings()) > 0 {
		i.saw(s.Namespace())
	}
	return resp, nil
}

func endingOf(e *history.Ending) *lockv1.Ending {
	return &lockv1.Ending{Owner: e.Owner, Token: e.Token, Mode: e.Mode, Permits: int32(e.Permits), Since: timeOf(e.Since), Until: timeOf(e.Until),
		Held: durationpb.New(e.Until.Sub(e.Since)), UntilIsBound: e.Bound, Cause: e.Cause, By: e.By, Reason: e.Reason, Purpose: e.Purpose,
		Host: e.Host, Pid: int32(e.PID), Lease: e.Lease, HandedOver: e.Passed}
}

// saw tells the recorder of a namespace in which locks are used.
func (i *instance) saw(namespace string) {
	if i.recorder != nil {
		i.recorder.Saw(namespace)
	}
}
