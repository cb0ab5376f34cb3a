package election

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/recipes/internal/history"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// resigned is the cause of a term that its leader ended.
const resigned = "resigned"

// History implements the method of the ElectionService.
func (i *instance) History(ctx context.Context, req *electionv1.HistoryRequest) (*electionv1.HistoryResponse, error) {
	past, err := i.Past(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := new(electionv1.HistoryResponse)
	for k := range past.Endings {
		resp.Terms = append(resp.Terms, termOf(&past.Endings[k]))
	}
	for _, g := range past.Gaps {
		resp.Gaps = append(resp.Gaps, &electionv1.Gap{FromRevision: g.From, ToRevision: g.To, FoundAt: service.Time(g.At)})
	}
	return resp, nil
}

func termOf(e *history.Ending) *electionv1.Term {
	t := &electionv1.Term{Owner: e.Owner, Token: e.Token, Since: service.Time(e.Since), Until: service.Time(e.Until), Led: durationpb.New(e.Until.Sub(e.Since)),
		UntilIsBound: e.Bound, Cause: e.Cause, By: e.By, Reason: e.Reason, Purpose: e.Purpose, Zone: e.Zone, Host: e.Host, Pid: int32(e.PID),
		Lease: e.Lease, HandedOver: e.Passed, Value: e.Value}
	if t.GetCause() == history.Released {
		t.Cause = resigned
	}
	return t
}
