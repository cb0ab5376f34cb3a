package waitqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

// Errors of Transfer, and the cause of an ownership that was asked to let go.
var (
	ErrTransferred    = errors.New("transferred")
	ErrVacant         = errors.New("nobody owns the name")
	ErrNoContender    = errors.New("no such contender")
	ErrNotTransferred = errors.New("somebody else is next")
)

// A transfer is a Pass with another heir than the first in line, who may wait
// behind others and be less urgent than they are. The owner learns of it by a
// notice that names the heir's ticket with all that a release needs: a ticket
// that waits does not change. If the ticket does not stand when the owner lets
// go, the first in line is next, as always.

// Transfer makes an owner of a name let go in favour of a waiter, both named by
// their acquisitions or owners, and returns when that one owns; without from it is
// the one who has owned longest. The owner is told and has its grace; then the name
// is passed on without it. It returns ErrVacant and ErrNoContender, with nothing
// written, and ErrNotTransferred if the waiter was gone, or the owner died, before
// the handover.
func (q *Queue) Transfer(ctx context.Context, named, from, to string) error {
	if !q.e.Enter() {
		return q.ended()
	}
	defer q.e.Leave()
	ctx, cancel := q.untilSessionEnds(ctx)
	defer cancel()
	return sessionError(ctx, q.transferTo(ctx, named, from, to))
}

func (q *Queue) transferTo(ctx context.Context, named, from, to string) error {
	for {
		owner, heir, err := q.transferOf(ctx, named, from, to)
		if err != nil || heir == nil {
			return err
		}
		told, err := q.tellHeir(ctx, owner, heir)
		if err != nil {
			return err
		}
		if told {
			return q.transferred(ctx, owner, heir)
		}
		if ctx.Err() != nil { // else the line changed: look again
			return waitError(ctx)
		}
	}
}

// transferOf returns who owns and who shall; no heir if that one owns already.
func (q *Queue) transferOf(ctx context.Context, named, from, to string) (owner Contender, heir *Contender, err error) {
	all, err := q.Contenders(ctx, []string{named})
	if err != nil {
		return owner, nil, err
	}
	if owner, err = ownerOf(all, from); err != nil {
		return owner, nil, err
	}
	for i := range all { // owners come first
		c := &all[i]
		switch {
		case !c.is(to):
		case c.Holds:
			return *c, nil, nil
		case c.ticket != nil && mayInherit(owner.Record.Mode, owner.Record.Permits, c.Record.Mode, c.Record.Permits):
			return owner, c, nil
		}
	}
	return owner, nil, fmt.Errorf("%w: %q", ErrNoContender, to)
}

// ownerOf returns the owner who is named, or who has owned longest.
func ownerOf(all []Contender, from string) (owner Contender, err error) {
	if len(all) == 0 || !all[0].Holds {
		return owner, ErrVacant
	}
	for _, c := range all {
		if c.Holds && (from == "" || c.is(from)) && (owner.Token == 0 || c.Token < owner.Token) {
			owner = c
		}
	}
	if owner.Token == 0 {
		return owner, fmt.Errorf("%w: not %q", ErrVacant, from)
	}
	return owner, nil
}

// mayInherit tells whether what an owner gives back is what an heir waits for.
func mayInherit(owner Mode, owned int, heir Mode, wanted int) bool {
	return owner == heir && (owner == Exclusive || owner == Permits && wanted <= owned)
}

// tellHeir writes the notice on the owner's lease, and reports whether the owner
// owned and the heir waited.
func (q *Queue) tellHeir(ctx context.Context, owner Contender, heir *Contender) (bool, error) {
	cmps := []clientv3.Cmp{unmodified(owner.key, owner.revision), unmodified(heir.key, heir.revision)}
	h, _ := hintOf(heir.ticket)
	n := notice{V: recordVersion, By: q.s.Owner(), Reason: "transferred to " + heir.Record.Owner, To: h.encode()}
	var then []clientv3.Op
	if owner.Lease != 0 { // else no session wrote this grant: there is nobody to tell
		then = append(then, clientv3.OpPut(q.noticeFor(owner), mustJSON(n), clientv3.WithLease(clientv3.LeaseID(owner.Lease))))
	}
	resp, err := q.e.Client().Txn(ctx).If(cmps...).Then(then...).Else(clientv3.OpGet(owner.key, clientv3.WithCountOnly())).Commit()
	if err != nil {
		return false, commit.Classify(err)
	}
	return resp.Succeeded, nil
}

// transferred waits until the owner has let go, or passes the name on after its
// grace, and tells whether the heir owns.
func (q *Queue) transferred(ctx context.Context, owner Contender, heir *Contender) error {
	end, err := q.endOf(ctx, owner, owner.grace())
	if err != nil {
		return fmt.Errorf("%w: %w", commit.ErrUnknown, err) // the owner has been told
	}
	if !end.seen {
		h, _ := hintOf(heir.ticket)
		end.rev, err = q.evict(ctx, owner, &Prev{ID: owner.Record.ID, Token: owner.Token, Cause: CauseForced,
			By: q.s.Owner() + ": transferred to " + heir.Record.Owner}, &h)
		if err != nil {
			return err
		}
	}
	resp, err := q.e.Client().Get(ctx, q.keys(owner.Name).own(heir.Record.Mode, heir.Record.ID), clientv3.WithRev(end.rev))
	if err != nil {
		return fmt.Errorf("%w: %w", commit.ErrUnknown, err)
	}
	var next *mvccpb.KeyValue
	if len(resp.Kvs) > 0 {
		next = resp.Kvs[0]
	}
	if r := recordOf(next); r.Prev == nil || r.Prev.Cause != CauseTransferred && r.Prev.Cause != CauseForced {
		// The owner let go before it knew: without this the notice would stand until
		// its session ends.
		_, _ = q.e.Client().Delete(ctx, q.noticeFor(owner))
	}
	switch {
	case recordOf(next).ID == heir.Record.ID:
		return nil
	case end.late:
		return fmt.Errorf("%w: who owned next was not seen", commit.ErrUnknown)
	}
	return ErrNotTransferred
}

// transfer ends the context of an owner who is told to let go in favour of
// another one.
func (t *tenure) transfer(n notice) {
	h := openHint(n.To)
	t.because(CauseTransferred, n.By+": "+n.Reason)
	t.mu.Lock()
	t.heir = &h
	o := t.owner
	t.mu.Unlock()
	if o != nil {
		o.Yield(o.a.req.Lost(fmt.Errorf("%w to %s by %s", ErrTransferred, recordIn(h.Record).Owner, n.By)))
	}
}

func (t *tenure) heirTold() *hint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.heir
}

// heirLevel hands over to the heir, whoever else waits.
func (p *pass) heirLevel(part *passPart) level {
	h := part.heir
	_, id, err := part.p.n.ticketID(h.Key)
	r := p.t.a.req
	if err != nil || !mayInherit(r.Mode, r.Permits, h.Mode, h.Permits) {
		return level{cmps: []clientv3.Cmp{never(h.Key)}}
	}
	stands := []clientv3.Cmp{unmodified(h.Key, h.Create)}
	if r.Mode == Permits {
		return level{stands, append(p.leave(part, nil), p.grantOps(part, h, id, 0)...)}
	}
	return level{stands, p.handOver(part, h, p.prev(), nil)}
}

func recordIn(raw json.RawMessage) Record {
	var r Record
	_ = json.Unmarshal(raw, &r)
	return r
}
