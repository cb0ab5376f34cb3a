// Package upkeep keeps etcd's databases small: it gives back what compaction has
// freed, one member after the other, and brings a store that has reached its quota
// back.
//
// A member that defragments answers nothing, for about a second for every few
// hundred megabytes. That is why there is never a second one at work beside it,
// and none while another voter does not answer. A leader at work holds up every
// write: the followers come first, and it should hand over before its turn.
package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// lookBudget bounds a look at one member.
	lookBudget = 2 * time.Second
	// hollow is how large a database is before its unused half is worth a stall.
	hollow = 256 << 20
	// room is the part of its quota that a database may have when the alarm is ended:
	// with less room it would soon be raised again.
	room = 0.9
)

// A Member is one of etcd's, and the state of its database. Sizes are in bytes.
type Member struct {
	ID              uint64
	Name, Endpoint  string
	Leader, Learner bool
	NoSpace         bool  // it has raised the alarm
	Size, InUse     int64 // of the file, and of what is used of it
	Quota           int64 // 0: unknown
	Err             error // why it did not answer

	alarmed bool // it has said that something is wrong
}

// Hollow says that a defragmentation is worth its stall.
func (m Member) Hollow() bool { return m.Size >= hollow && m.InUse < m.Size/2 }

// Look asks every member, followers first and the leader last.
func Look(ctx context.Context, c *clientv3.Client) ([]Member, error) {
	list, err := c.MemberList(ctx, clientv3.WithSerializable())
	if err != nil {
		return nil, err
	}
	members := make([]Member, len(list.Members))
	var all sync.WaitGroup
	for i, m := range list.Members {
		members[i] = Member{ID: m.ID, Name: cmp.Or(m.Name, fmt.Sprintf("%x", m.ID)), Learner: m.IsLearner, Err: errors.New("it has never been started")}
		if len(m.ClientURLs) > 0 {
			members[i].Endpoint = m.ClientURLs[0]
			all.Go(func() { members[i].ask(ctx, c) })
		}
	}
	all.Wait()
	if err := tellAlarms(ctx, c, members); err != nil {
		return nil, err
	}
	slices.SortStableFunc(members, func(a, b Member) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
	})
	return members, nil
}

func rank(m Member) int {
	if m.Leader {
		return 1
	}
	return 0
}

func (m *Member) ask(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithTimeout(ctx, lookBudget)
	defer cancel()
	var s *clientv3.StatusResponse
	if s, m.Err = c.Status(ctx, m.Endpoint); m.Err != nil {
		return
	}
	m.Leader = s.Leader == m.ID
	m.Size, m.InUse, m.Quota = s.DbSize, s.DbSizeInUse, s.DbSizeQuota
	m.alarmed = len(s.Errors) > 0
}

// tellAlarms asks which alarms there are, if there are any: the question costs a
// raft entry.
func tellAlarms(ctx context.Context, c *clientv3.Client, members []Member) error {
	if !slices.ContainsFunc(members, func(m Member) bool { return m.alarmed }) {
		return nil
	}
	list, err := c.AlarmList(ctx)
	if err != nil {
		return err
	}
	for i, m := range members {
		members[i].NoSpace = slices.ContainsFunc(list.Alarms, func(a *pb.AlarmMember) bool {
			return a.MemberID == m.ID && a.Alarm == pb.AlarmType_NOSPACE
		})
	}
	return nil
}

// ErrDown says that a voter does not answer, so that no other may stall.
var ErrDown = errors.New("a member does not answer")

// Defragment gives back what one member's database does not use. It looks first
// that the member and every other voter answer, and returns [ErrDown] if one does not. It returns
// what the member's database is then.
func Defragment(ctx context.Context, c *clientv3.Client, m Member) (Member, error) {
	members, err := Look(ctx, c)
	if err != nil {
		return m, err
	}
	for _, one := range members {
		if one.Err != nil && (one.ID == m.ID || !one.Learner) {
			return m, fmt.Errorf("%w: %s: %w; nothing was done to %s", ErrDown, one.Name, one.Err, m.Name)
		}
	}
	if _, err := c.Defragment(ctx, m.Endpoint); err != nil {
		return m, fmt.Errorf("member %s: %w", m.Name, err)
	}
	if m.ask(ctx, c); m.Err != nil {
		return m, fmt.Errorf("member %s is defragmented, and does not say how large it is now: %w", m.Name, m.Err)
	}
	return m, nil
}

// ErrFull says that a database is as good as full although nothing can be given
// back any more.
var ErrFull = errors.New("the database is still full")

// Recover brings a store back that has reached its quota: it compacts everything
// but the latest revisions, defragments member after member, and ends the alarm.
// What compaction takes are former versions of keys: those who watch read anew.
// The error is [ErrFull] if there is too little room then, and the alarm stands.
// tell is told every step.
func Recover(ctx context.Context, c *clientv3.Client, tell func(text string)) error {
	now, err := c.Get(ctx, "/", clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	_, err = c.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) { // what is compacted already is as good
		return fmt.Errorf("compact: %w", err)
	}
	tell(fmt.Sprintf("compacted up to revision %d", now.Header.Revision))
	members, err := Look(ctx, c)
	if err != nil {
		return err
	}
	var full []string
	for _, m := range members {
		before := m.Size
		if m, err = Defragment(ctx, c, m); err != nil {
			return err
		}
		tell(fmt.Sprintf("member %s: %d KiB, before %d KiB", m.Name, m.Size>>10, before>>10))
		if m.Quota > 0 && float64(m.Size) > room*float64(m.Quota) {
			full = append(full, m.Name)
		}
	}
	if len(full) > 0 {
		return fmt.Errorf("%w: %v: delete keys, or raise the quota and start the members again", ErrFull, full)
	}
	alarms, err := c.AlarmList(ctx)
	if err != nil {
		return err
	}
	for _, a := range alarms.Alarms {
		if a.Alarm != pb.AlarmType_NOSPACE {
			continue
		}
		if _, err := c.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: a.MemberID, Alarm: a.Alarm}); err != nil {
			return err
		}
		tell(fmt.Sprintf("the alarm of member %x has ended: writes are taken again", a.MemberID))
	}
	return nil
}
