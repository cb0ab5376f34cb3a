package waitqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// Force ends the ownership of all who own a name now, or of those whose id or owner
// is in whom: each is told first, has its grace, and then loses the name, which
// passes to the first in line. It returns the largest token that it revoked, or 0
// if none of them owned the name.
func (q *Queue) Force(ctx context.Context, named, reason string, whom ...string) (int64, error) {
	if err := keyspace.CheckText("reason", reason, MaxPurpose); err != nil {
		return 0, fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	if !q.e.Enter() {
		return 0, q.ended()
	}
	defer q.e.Leave()
	ctx, cancel := q.untilSessionEnds(ctx)
	defer cancel()
	largest, err := q.forceAll(ctx, named, reason, whom)
	return largest, sessionError(ctx, err)
}

func (q *Queue) forceAll(ctx context.Context, named, reason string, whom []string) (int64, error) {
	contenders, err := q.Contenders(ctx, []string{named})
	if err != nil {
		return 0, err
	}
	var told []Contender
	for _, c := range contenders {
		if !c.Holds || len(whom) > 0 && !slices.ContainsFunc(whom, c.is) {
			continue
		}
		stands, err := q.tell(ctx, c, reason)
		if err != nil {
			return 0, err
		}
		if stands {
			told = append(told, c)
		}
	}
	var largest int64
	since := time.Now()
	for _, c := range told {
		if err := q.forceOut(ctx, c, reason, since); err != nil {
			return 0, err
		}
		largest = max(largest, c.Token)
	}
	return largest, nil
}

// tell writes the notice, on the owner's lease, and reports whether the owner
// still owned.
func (q *Queue) tell(ctx context.Context, c Contender, reason string) (bool, error) {
	if c.Lease == 0 {
		return true, nil // no session wrote this grant: there is nobody to tell
	}
	value := mustJSON(notice{V: recordVersion, By: q.s.Owner(), Reason: reason})
	resp, err := q.e.Client().Txn(ctx).If(unmodified(c.key, c.revision)).
		Then(clientv3.OpPut(q.noticeFor(c), value, clientv3.WithLease(clientv3.LeaseID(c.Lease)))).Commit()
	if err != nil {
		return false, commit.Classify(err)
	}
	return resp.Succeeded, nil
}

// noticeFor is where the owner looks for a notice: below its only or first name.
func (q *Queue) noticeFor(c Contender) string {
	k := q.keys(c.Name)
	if prefix, _, ok := strings.Cut(c.Record.Set, setPart); ok && c.Record.Set != "" {
		k = keysOf(prefix)
	}
	return k.notice(c.Record.ID)
}

// forceOut lets the grace of an owner run who was told since then, and passes the
// name on.
func (q *Queue) forceOut(ctx context.Context, c Contender, reason string, since time.Time) error {
	end, err := q.endOf(ctx, c, c.grace()-time.Since(since))
	if end.seen || err != nil {
		return err
	}
	_, err = q.evict(ctx, c, &Prev{ID: c.Record.ID, Token: c.Token, Cause: CauseForced, By: q.s.Owner() + ": " + reason}, nil)
	return err
}

// evict passes the name on in the place of its owner, to heir if there is one
// and it still waits. It returns the revision at which that happened, if it did.
func (q *Queue) evict(ctx context.Context, c Contender, how *Prev, heir *hint) (int64, error) {
	resp, err := q.e.Client().Txn(ctx).Then(get(q.keys(c.Name).line()), clientv3.OpGet(q.keys(c.Name).shadow())).Commit()
	if err != nil {
		return 0, err
	}
	line, shadow := resp.Responses[0].GetResponseRange().Kvs, resp.Responses[1].GetResponseRange().Kvs
	n := q.use(c.Name)
	a := &acquisition{q: q, id: c.Record.ID, set: c.Record.Set, req: &Request{Names: []string{c.Name}, Mode: c.Record.Mode,
		Permits: c.Record.Permits, Lost: func(err error) error { return err }}}
	a.add(part{n: n, own: c.key, ticket: n.ticket(bucketOf(0), c.Record.ID)})
	if len(shadow) > 0 && recordOf(shadow[0]).ID == c.Record.ID {
		a.shadow = clientv3.LeaseID(shadow[0].Lease) // an owner that was told leaves none behind
	}
	for _, kv := range line {
		if strings.HasSuffix(string(kv.Key), "/"+c.Record.ID) {
			a.parts[0].ticket = string(kv.Key)
		}
	}
	t := &tenure{a: a, rev: c.revision, inLine: true}
	p := t.newPass(nil)
	p.force = how
	p.parts[0].short, p.parts[0].heir = true, heir
	a.gave = true // perhaps: an owner who is forced out takes nothing back
	if a.set != "" {
		p.broken, p.lease = brokenRecord(c), clientv3.LeaseID(c.Lease)
	}
	if !q.e.Enter() {
		a.forget()
		return 0, q.ended()
	}
	p.advance(false)
	select {
	case <-p.finished:
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", commit.ErrUnknown, context.Cause(ctx))
	}
	if errors.Is(p.err, core.ErrKeyDeleted) || errors.Is(p.err, core.ErrRevoked) {
		return p.rev, nil // it went by itself, or by another operator's hand
	}
	return p.rev, p.err
}
