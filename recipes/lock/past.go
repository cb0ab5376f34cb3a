package lock

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/recipes/internal/history"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// History implements the method of the LockService.
func (i *instance) History(ctx context.Context, req *lockv1.HistoryRequest) (*lockv1.HistoryResponse, error) {
	past, err := i.Past(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := new(lockv1.HistoryResponse)
	for k := range past.Endings {
		resp.Endings = append(resp.Endings, endingOf(&past.Endings[k]))
	}
	for _, g := range past.Gaps {
		resp.Gaps = append(resp.Gaps, &lockv1.Gap{FromRevision: g.From, ToRevision: g.To, FoundAt: service.Time(g.At)})
	}
	return resp, nil
}

func endingOf(e *history.Ending) *lockv1.Ending {
	return &lockv1.Ending{Owner: e.Owner, Token: e.Token, Mode: e.Mode, Permits: int32(e.Permits), Since: service.Time(e.Since), Until: service.Time(e.Until),
		Held: durationpb.New(e.Until.Sub(e.Since)), UntilIsBound: e.Bound, Cause: e.Cause, By: e.By, Reason: e.Reason, Purpose: e.Purpose,
		Host: e.Host, Pid: int32(e.PID), Lease: e.Lease, HandedOver: e.Passed}
}
