package waitqueue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/watch"
)

// An owner may learn that its grant is gone before it learns why, or in place of it:
// it begins to watch late, watches of two keys tell in any order, and a transfer that
// does not wait any longer takes the notice away with the grant. So who finds a grant
// gone reads the notice as it stood just before. History may be compacted, and is read
// for the cause alone: nothing that is owned depends on it.

// maxCause bounds how long an owner whose grant is gone waits to learn why.
const maxCause = 5 * time.Second

// lost ends the owner after its grant went: by force if a notice or the next
// owner's record says so, else by a hand in the keys. successor and at are as in
// whyLost.
func (t *tenure) lost(successor *mvccpb.KeyValue, at int64) {
	e := t.a.q.e
	if !e.Enter() {
		return
	}
	defer e.Leave()
	e.Go(func(ctx context.Context) {
		t.mu.Lock()
		over := t.over
		t.mu.Unlock()
		if over {
			return // it was let go here
		}
		cause := t.whyLost(ctx, successor, at)
		if isSessionEnd(cause) {
			return // which ends the owner
		}
		t.revoke(cause)
		t.clear()
	})
}

// whyLost returns why the grant is gone: the session's end, core.ErrRevoked with who
// did it and why, or core.ErrKeyDeleted, also if nobody knows any more. successor is
// what took the grant's place, or nil; at is the revision at which the grant went, or
// 0 if that is not known. It returns within maxCause and the time for LeaseGone.
func (t *tenure) whyLost(ctx context.Context, successor *mvccpb.KeyValue, at int64) error {
	if err := t.forcedOutBy(successor); err != nil {
		return err
	}
	e := t.a.q.e
	if e.LeaseGone(ctx) { // a successor may have claimed after the lease's end
		return t.a.q.ended()
	}
	t.mu.Lock()
	told := t.told
	t.mu.Unlock()
	if told != nil {
		return told
	}
	ctx, cancel := context.WithTimeout(ctx, min(maxCause, e.TTL()/3))
	defer cancel()
	if kv := t.lastNotice(ctx, at); kv != nil {
		return noticeOf(kv).error()
	}
	return core.ErrKeyDeleted
}

// forcedOutBy returns the error of an owner of whom the successor's record says that
// it was forced out, else nil.
func (t *tenure) forcedOutBy(successor *mvccpb.KeyValue) error {
	p := recordOf(successor).Prev
	if p == nil || p.ID != t.a.id || p.Cause != CauseForced {
		return nil
	}
	return fmt.Errorf("%w by %s", core.ErrRevoked, p.By)
}

// lastNotice returns the notice as it stood when the grant went, or nil.
func (t *tenure) lastNotice(ctx context.Context, at int64) *mvccpb.KeyValue {
	if at == 0 {
		if kv, _ := t.keyAt(ctx, t.noticeKey(), 0); kv != nil { // most are left where they are
			return kv
		}
		if at = t.endedAt(ctx); at == 0 {
			return nil
		}
	}
	kv, err := t.keyAt(ctx, t.noticeKey(), at-1)
	if err != nil {
		kv, _ = t.keyAt(ctx, t.noticeKey(), 0)
	}
	return kv
}

// endedAt returns the revision at which a grant went that is known to be gone, or 0 if
// etcd has forgotten it.
func (t *tenure) endedAt(ctx context.Context) int64 {
	from := t.rev + 1
	for {
		end, err := t.a.q.nextChange(ctx, t.a.proof(), from)
		if err == nil {
			return end.rev
		}
		lost, ok := errors.AsType[*watch.LostError](err)
		if !ok || lost.CompactRevision < from {
			return 0
		}
		// A compaction leaves the state at its own revision.
		proof, err := t.keyAt(ctx, t.a.proof(), lost.CompactRevision)
		if err != nil || proof == nil || proof.ModRevision != t.rev {
			return 0
		}
		from = lost.CompactRevision + 1
	}
}

// keyAt reads a key as it stood at a revision, or as it stands if that is 0.
func (t *tenure) keyAt(ctx context.Context, key string, rev int64) (*mvccpb.KeyValue, error) {
	resp, err := t.a.q.e.Client().Get(ctx, key, clientv3.WithRev(rev))
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	return resp.Kvs[0], nil
}

// wasTaken is the error of a waiter that finds its ticket gone and heard of nothing:
// it may have owned meanwhile, and have been forced out.
func (a *acquisition) wasTaken(ctx context.Context) error {
	if a.req.Mode == Set || a.parts[0].create == 0 { // a set takes its names itself
		return wasDeleted()
	}
	ctx, cancel := context.WithTimeout(ctx, min(maxCause, a.q.e.TTL()/3))
	defer cancel()
	ticket := a.parts[0].ticket
	end, err := a.q.nextChange(ctx, ticket, a.parts[0].create+1)
	if err != nil {
		return wasDeleted()
	}
	resp, err := a.q.e.Client().Get(ctx, ticket, clientv3.WithRev(end.rev))
	if err != nil || len(resp.Kvs) == 0 || resp.Kvs[0].Version == waiting { // it never was granted
		return wasDeleted()
	}
	t := &tenure{a: a, rev: resp.Kvs[0].ModRevision}
	return fmt.Errorf("%w: %w", errGone, t.whyLost(ctx, nil, 0))
}
