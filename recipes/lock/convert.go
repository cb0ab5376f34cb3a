package lock

import (
	"google.golang.org/protobuf/types/known/durationpb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/recipes/internal/service"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// maxHolders bounds the holders in one Lock.
const maxHolders = 100

// lockOf is a name as List and Watch tell it.
func lockOf(n *state.Name) *lockv1.Lock {
	l := &lockv1.Lock{Name: n.Text(), Waiters: int32(n.Waiting()), Limit: int32(n.Limit())}
	holders := n.Holders()
	l.HolderCount = int32(len(holders))
	for k := range holders {
		l.Taken += int32(holders[k].Permits)
		if k < maxHolders {
			l.Holders = append(l.Holders, holderOf(&holders[k]))
		}
	}
	if len(holders) > 0 {
		first := l.GetHolders()[0]
		l.Kind, l.Owner, l.Token, l.Since, l.Purpose = first.GetMode(), first.GetOwner(), first.GetToken(), first.GetSince(), first.GetPurpose()
	} else if w, ok := n.First(); ok {
		l.Kind = state.ModeName(w.Mode)
	}
	return l
}

func holderOf(h *state.Holder) *lockv1.Holder {
	p := &lockv1.Holder{Owner: h.Owner, Token: h.Token, Mode: state.ModeName(h.Mode), Permits: int32(h.Permits), Since: service.Time(h.Since),
		Purpose: h.Purpose, Host: h.Host, Pid: int32(h.PID), Lease: h.Lease}
	if h.Notice != nil {
		p.Revocation = &lockv1.Revocation{By: h.Notice.By, Reason: h.Notice.Reason, Grace: durationpb.New(h.GraceLeft())}
	}
	return p
}

func waiterOf(w *state.Waiter) *lockv1.Waiter {
	return &lockv1.Waiter{Owner: w.Owner, Mode: state.ModeName(w.Mode), Permits: int32(w.Permits), Since: service.Time(w.Since),
		Purpose: w.Purpose, Host: w.Host, Pid: int32(w.PID), Lease: w.Lease, Priority: int32(w.Priority)}
}
