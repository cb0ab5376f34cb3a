package embedded

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// noLeader is the id of a leader that is not there.
const noLeader = types.ID(0)

// AwaitLeader returns nil when the member knows a leader of its cluster, at once if it knows one already. It waits for as
// long as two rounds of votes and a second take, and returns an error that is [ErrNoQuorum] when there is no leader then
// either; context.Cause(ctx) if ctx ends first; and [ErrStopped] when the member ends.
//
// What is written without a leader waits inside etcd until its time is over, and then nobody can tell whether it still comes
// true. Who asks before it writes can tell its caller that nothing was written.
func (m *Member) AwaitLeader(ctx context.Context) error {
	s := m.server.etcd.Server
	if s.Leader() != noLeader {
		return nil
	}
	patience := 2*s.Cfg.ElectionTimeout() + time.Second
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		changed := s.LeaderChangedNotify()
		if s.Leader() != noLeader {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return fmt.Errorf("%w: no leader for %v", ErrNoQuorum, patience)
		case <-m.done:
			return ErrStopped
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// HandOver has another member lead, if this one does and there is another that can; it waits until one leads, or ctx ends, for which there is no
// error: an election follows the stop of a leader in any case, and takes a second or two. [Member.Stop] hands over too; who calls HandOver first
// can go on serving meanwhile.
func (m *Member) HandOver(ctx context.Context) {
	select {
	case <-m.stopping:
	case <-m.done:
	default:
		m.server.handOver(ctx)
	}
}
