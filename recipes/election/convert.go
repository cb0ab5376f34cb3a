package election

import (
	"google.golang.org/protobuf/types/known/durationpb"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/election"
	"github.com/conclavehq/conclave/recipes/internal/service"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// maxLeaders bounds the leaders in one Election.
const maxLeaders = 100

// electionOf is a name as List and Watch tell it.
func electionOf(n *state.Name) *electionv1.Election {
	e := &electionv1.Election{Name: n.Text(), Candidates: int32(n.Waiting()), Seats: seatsOf(n), LeaderCount: int32(len(n.Owners)),
		Leaders: leadersOf(n, maxLeaders)}
	if len(e.GetLeaders()) > 0 {
		first := e.GetLeaders()[0]
		e.Owner, e.Value, e.Token, e.Since, e.Purpose = first.GetOwner(), first.GetValue(), first.GetToken(), first.GetSince(), first.GetPurpose()
	}
	return e
}

// seatsOf is how many may lead, 0 if nobody leads or stands.
func seatsOf(n *state.Name) int32 {
	switch limit := n.Limit(); {
	case limit > 0:
		return int32(limit)
	case n.Idle():
		return 0
	default:
		return 1
	}
}

// leadersOf are the leaders of a name, the longest first, and at most so many.
func leadersOf(n *state.Name, most int) []*electionv1.Leader {
	var leaders []*electionv1.Leader
	for _, h := range service.First(n.Holders(), most) {
		leaders = append(leaders, leaderOf(&h))
	}
	return leaders
}

func leaderOf(h *state.Holder) *electionv1.Leader {
	l := &electionv1.Leader{Owner: h.Owner, Value: h.Value, Token: h.Token, Since: service.Time(h.Since), Purpose: h.Purpose, Zone: h.Zone,
		Id: h.ID, Host: h.Host, Pid: int32(h.PID), Lease: h.Lease}
	if h.Notice != nil {
		l.StepDown = &electionv1.StepDown{By: h.Notice.By, Reason: h.Notice.Reason, Grace: durationpb.New(h.GraceLeft())}
		if h.Notice.To != nil {
			l.StepDown.To = h.Notice.To.Owner()
		}
	}
	return l
}

func candidateOf(w *state.Waiter) *electionv1.Candidate {
	return &electionv1.Candidate{Owner: w.Owner, Value: w.Value, Since: service.Time(w.Since), Purpose: w.Purpose, Zone: w.Zone,
		Priority: int32(w.Priority), Id: w.ID, Host: w.Host, Pid: int32(w.PID), Lease: w.Lease}
}

// seenOf is a leader as the library's observers see it.
func seenOf(l *election.Leader) *electionv1.Leader {
	return &electionv1.Leader{Owner: l.Owner, Value: l.Value, Token: int64(l.Token), Since: service.Time(l.Since), Zone: l.Zone,
		Id: l.ID, Host: l.Host, Pid: int32(l.PID), Lease: int64(l.Lease)}
}

// seenIn are the leaders of a name as the library's observers see them.
func seenIn(n *state.Name) []*electionv1.Leader {
	leaders := leadersOf(n, maxSeats)
	for _, l := range leaders {
		l.Purpose, l.StepDown = "", nil
	}
	return leaders
}
