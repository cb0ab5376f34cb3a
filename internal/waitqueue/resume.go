package waitqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/conclavehq/conclave/core"
)

// A Place is an ownership as a plain value: what a release needs to know, about
// a hundred bytes. Nothing looks after it.
type Place struct {
	id       string
	mode     Mode
	rev      int64
	index    int64
	permits  int32
	priority int16
	rank     int8
	inLine   bool
	unsure   bool
}

// Token is the ownership's token, 0 for the zero Place.
func (p Place) Token() int64 { return p.rev<<tokenShift | p.index }

// ErrDetached is the cause of an ownership's end here that goes on in etcd.
var ErrDetached = errors.New("detached")

// ErrStale says that the session owns the name, but by another token.
var ErrStale = errors.New("another token")

// errNotOwned says that the session does not own the name.
var errNotOwned = errors.New("the session does not own it")

// Detach ends the ownership here and leaves it in etcd, for Resume or ResumeAt.
// It is idempotent. The error is core.ErrInvalid for a set and for an owner in a
// local line, and made by Request.Lost if the ownership has ended otherwise.
func (o *Owned) Detach() (Place, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := o.t.a
	if a.req.Mode == Set || a.line != nil {
		return Place{}, fmt.Errorf("%w: a set of names and an owner in a local line cannot be detached", core.ErrInvalid)
	}
	p := Place{id: a.id, mode: a.req.Mode, rev: o.t.rev, index: o.token & (1<<tokenShift - 1), permits: int32(a.req.Permits),
		priority: int16(a.req.Priority), rank: int8(a.req.Rank), inLine: o.t.inLine, unsure: a.uncertain}
	if cause := o.ctx.Check(); cause != nil {
		if errors.Is(cause, ErrDetached) {
			return p, nil
		}
		return Place{}, o.lostNow()
	}
	o.ended, o.err = true, o.a.req.Lost(ErrDetached)
	o.ctx.End(ErrDetached)
	o.unregister()
	o.t.finish()
	a.forget()
	return p, nil
}

// ResumeAt returns the ownership at a place that the session's lease has, without
// asking etcd: a release or a guarded write finds out whether it still stands.
func (q *Queue) ResumeAt(named string, p Place, lost func(error) error) (*Owned, error) {
	if q.e.Session().Err() != nil {
		return nil, q.ended()
	}
	a, err := q.resumed(named, Record{ID: p.id, Mode: p.mode, Permits: int(p.permits), Priority: int(p.priority), Rank: int(p.rank)}, lost)
	if err != nil {
		return nil, err
	}
	a.uncertain = p.unsure
	t := &tenure{a: a, rev: p.rev, index: p.index, since: time.Now(), inLine: p.inLine}
	return t.newOwned(context.Background(), a), nil
}

// Resume returns the ownership of the name that the session's lease has,
// whichever process acquired it, after one read. Unless token is 0 it must be
// the ownership's. Else the error is made by lost, of core.ErrReleased if the
// lease does not own the name, or of ErrStale.
func (q *Queue) Resume(ctx context.Context, named string, token int64, lost func(error) error) (*Owned, error) {
	if err := (&Request{Names: []string{named}}).checkNames(); err != nil {
		return nil, fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	if !q.e.Enter() {
		return nil, q.ended()
	}
	defer q.e.Leave()
	ctx, cancel := q.untilSessionEnds(ctx)
	defer cancel()
	k := q.keys(named)
	resp, err := q.e.Client().Txn(ctx).Then(q.readOwn(k, bucketOf(0))...).Commit()
	if err != nil {
		if ctx.Err() != nil {
			return nil, waitError(ctx)
		}
		return nil, err
	}
	own := q.belongings(k, resp.Responses)
	for _, kv := range own.grants {
		if kv.ModRevision == token>>tokenShift {
			own.grant = kv
		}
	}
	if own.grant == nil {
		if q.e.LeaseGone(ctx) {
			return nil, q.ended()
		}
		return nil, lost(fmt.Errorf("%w: %w", core.ErrReleased, errNotOwned))
	}
	if token != 0 && token>>tokenShift != own.grant.ModRevision {
		return nil, lost(fmt.Errorf("%w: %w: it is %d", core.ErrReleased, ErrStale, own.token()))
	}
	a, err := q.resumed(named, recordOf(own.grant), lost)
	if err != nil {
		return nil, err
	}
	if err := a.findTicket(ctx, &own); err != nil {
		a.forget()
		return nil, sessionError(ctx, err)
	}
	t := a.tenureFound(own)
	if token != 0 {
		t.index = token & (1<<tokenShift - 1)
	}
	a.release(own.home)
	return t.newOwned(ctx, a), nil
}

// findTicket adds a's ticket to the belongings, if it stands in another bucket than
// those that were read.
func (a *acquisition) findTicket(ctx context.Context, own *belongings) error {
	b, _, err := a.parts[0].n.ticketID(a.parts[0].ticket)
	if err != nil || b == bucketOf(0) || own.ticketOf(own.grant) != nil {
		return err
	}
	resp, err := a.q.e.Client().Get(ctx, a.parts[0].ticket)
	if err == nil {
		own.tickets = append(own.tickets, resp.Kvs...)
	}
	return err
}

// release notes what a release of a has to add, since nobody here remembers how
// it was acquired: a late copy of one of the requests must not take the name
// again. Those of another host are kept from it by this one's being home.
func (a *acquisition) release(seen int64) {
	h := a.q.home
	switch {
	case h == nil:
		a.uncertain = true
	case strings.HasPrefix(a.id, a.q.e.IDPrefix()) || !h.isMine(seen):
		a.moves = true
		a.prefixes = append(a.prefixes, h.key)
	}
}

// token is the token of the grant.
func (o *belongings) token() int64 {
	index := 0
	if ticket := o.ticketOf(o.grant); ticket != nil {
		index = valueOf(ticket).Index
	}
	return o.grant.ModRevision<<tokenShift | int64(index)
}

// resumed is the acquisition of an ownership that stands.
func (q *Queue) resumed(named string, r Record, lost func(error) error) (*acquisition, error) {
	if r.ID == "" || r.Mode == Set {
		return nil, fmt.Errorf("%w: an ownership of several names cannot be resumed", core.ErrInvalid)
	}
	req := &Request{Names: []string{named}, Mode: r.Mode, Permits: r.Permits, Priority: r.Priority, Rank: r.Rank, Lost: lost,
		Grace: time.Duration(r.Grace) * time.Millisecond, Purpose: r.Purpose}
	return q.acquisitionOf(r.ID, req, []*name{q.use(named)}), nil
}
