package lock

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/recipes/lock/internal/state"
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
	p := &lockv1.Holder{Owner: h.Owner, Token: h.Token, Mode: state.ModeName(h.Mode), Permits: int32(h.Permits), Since: timeOf(h.Since),
		Purpose: h.Purpose, Host: h.Host, Pid: int32(h.PID), Lease: h.Lease}
	if h.Notice != nil {
		p.Revocation = &lockv1.Revocation{By: h.Notice.By, Reason: h.Notice.Reason, Grace: durationpb.New(h.GraceLeft())}
	}
	return p
}

func waiterOf(w *state.Waiter) *lockv1.Waiter {
	return &lockv1.Waiter{Owner: w.Owner, Mode: state.ModeName(w.Mode), Permits: int32(w.Permits), Since: timeOf(w.Since),
		Purpose: w.Purpose, Host: w.Host, Pid: int32(w.PID), Lease: w.Lease, Priority: int32(w.Priority)}
}

func timeOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// abreast is how many leases are asked about at the same time.
const abreast = 16

// ttls returns how long leases live without a renewal. A lease of which etcd
// says nothing is left out: it is a view for people.
func (i *instance) ttls(ctx context.Context, leases map[int64]bool) map[int64]*durationpb.Duration {
	ctx, cancel := context.WithTimeout(ctx, readBudget)
	defer cancel()
	ask := make(chan int64, len(leases))
	for lease := range leases {
		ask <- lease
	}
	close(ask)
	ttls := make(map[int64]*durationpb.Duration, len(leases))
	var mu sync.Mutex
	var all sync.WaitGroup
	for range min(abreast, len(leases)) {
		all.Go(func() {
			for lease := range ask {
				resp, err := i.env.Client.TimeToLive(ctx, clientv3.LeaseID(lease))
				if err != nil || resp.TTL <= 0 {
					continue
				}
				mu.Lock()
				ttls[lease] = durationpb.New(time.Duration(resp.TTL) * time.Second)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return ttls
}
