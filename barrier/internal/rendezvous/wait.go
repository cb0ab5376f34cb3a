package rendezvous

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
)

// abandonWait bounds how long a cancelled wait stays for the answer whether it had
// entered before.
const abandonWait = 500 * time.Millisecond

// wait waits until the state says what became of the generation.
func (a *arrival) wait(ctx context.Context) (passed, error) {
	l := a.h.lookout()
	defer l.stop()
	for {
		s, known, changed := a.p.board.now()
		if !known {
			err := a.h.patiently(ctx, func(ctx context.Context) error {
				_, err := a.p.board.get(ctx)
				return err
			})
			if err != nil {
				return passed{}, err
			}
			continue
		}
		switch on, end := a.judge(s); on {
		case entered:
			return passed{a.gen, a.create}, nil
		case extra:
			return passed{}, a.left(ctx)
		case broke:
			return passed{}, &BrokenError{Owner: end.Lost}
		case unclear:
			return passed{}, core.ErrUnknownOutcome
		case removed:
			return passed{}, errTicketGone
		}
		var err error
		select {
		case <-changed:
		case <-l.timer.C:
			err = a.look(ctx, l)
		case <-l.seen:
			err = a.look(ctx, l)
		case <-ctx.Done():
			err = waitError(ctx)
		}
		if errors.Is(err, errTicketGone) && a.req.OnePerLease { // another host's call gave it up
			return passed{}, a.rejoin(ctx)
		}
		if err != nil {
			return passed{}, err
		}
	}
}

// left is the end of one who came one too many. Nothing is left of it then.
func (a *arrival) left(ctx context.Context) error {
	if a.req.Kind == Cyclic {
		return errAgain
	}
	gone := make(chan struct{})
	a.h.e.Go(func(bg context.Context) {
		defer close(gone)
		bg, cancel := a.h.background(bg)
		defer cancel()
		_ = a.p.remove(bg, a.ticket(), 0) // else it goes with the lease
	})
	select {
	case <-gone:
	case <-ctx.Done():
	}
	return ErrFull
}

// rejoin lets the session's place be taken anew.
func (a *arrival) rejoin(ctx context.Context) error {
	resp, err := a.h.e.Client().Get(ctx, a.p.void(a.id))
	if err != nil {
		return err
	}
	a.void = 0
	if len(resp.Kvs) > 0 {
		a.void = resp.Kvs[0].ModRevision
	}
	return errAgain
}

// conclude ends an arrival whose wait ended with err: what it put is taken back,
// unless the generation was complete before. Of the callers who share a session's
// place the last one does that.
func (a *arrival) conclude(ctx context.Context, err error, last bool) (passed, error) {
	gone := errors.Is(err, errTicketGone)
	if gone && a.h.e.LeaseGone(ctx) {
		return passed{}, a.h.ended()
	}
	if gone {
		err = core.ErrKeyDeleted
	}
	broken, isBroken := errors.AsType[*BrokenError](err)
	switch {
	case isBroken:
		return passed{}, broken
	case isSessionEnd(err), errors.Is(err, ErrFull), errors.Is(err, core.ErrUnknownOutcome) && ctx.Err() == nil,
		a.gen == 0 || !a.put || !last, gone && !a.unknown:
		return passed{}, err
	}
	if ctx.Err() != nil {
		err = waitError(ctx)
	}
	return a.giveUp(err)
}

// giveUp takes the ticket back in the background, and waits for that a while.
func (a *arrival) giveUp(err error) (passed, error) {
	var mu sync.Mutex
	var in, abandoned bool
	over := make(chan struct{})
	a.h.e.Go(func(bg context.Context) {
		bg, cancel := a.h.background(bg)
		defer cancel()
		is := a.quit(bg)
		mu.Lock()
		in = is
		nobody := abandoned
		close(over)
		mu.Unlock()
		if nobody && is && a.req.Kind == Double {
			_ = a.p.remove(bg, a.ticket(), 0) // nobody is there to enter
		}
	})
	timer := time.NewTimer(abandonWait)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
	}
	mu.Lock()
	defer mu.Unlock()
	select {
	case <-over:
	default:
		abandoned = true
		return passed{}, errors.Join(err, core.ErrUnknownOutcome)
	}
	if in {
		return passed{a.gen, a.create}, nil
	}
	return passed{}, err
}

// quit takes the ticket back until that is done, or reports that the generation
// was complete before, with the arrival on its list.
func (a *arrival) quit(ctx context.Context) (in bool) {
	for {
		var s state
		err := a.h.patiently(ctx, func(ctx context.Context) (err error) {
			s, err = a.p.board.get(ctx)
			return err
		})
		if err != nil {
			return false // the lease decides
		}
		switch on, _ := a.judge(s); on {
		case entered:
			return true
		case extra:
			if a.req.Kind == Double {
				_ = a.p.remove(ctx, a.ticket(), 0)
			}
			return false
		case broke, unclear:
			return false
		}
		t := a.cancelTxn(s)
		r, err := a.h.settleLean(ctx, t, t.Then[:2:2], nil)
		if err != nil || r.Succeeded {
			return false
		}
		if now := a.tell(kvs(r, 0), r.Revision); now.rev == s.rev {
			return false // the void record stands: an earlier try did it
		}
	}
}

// cancelTxn takes the ticket back while the state is s.
func (a *arrival) cancelTxn(s state) commit.Txn {
	t := commit.Txn{
		Scope: []string{a.p.prefix},
		If:    []clientv3.Cmp{unmodified(a.p.at(), s.rev), unmodified(a.p.void(a.id), a.void)},
		Then: []clientv3.Op{clientv3.OpDelete(a.ticket()), clientv3.OpDelete(a.party()),
			clientv3.OpPut(a.p.left(), a.id)},
		Else: []clientv3.Op{clientv3.OpGet(a.p.at())},
	}
	if a.unknown || a.req.OnePerLease {
		t.Then = append(t.Then, clientv3.OpPut(a.p.void(a.id), "", clientv3.WithLease(a.h.e.Lease())))
	}
	return t
}

// remove deletes a ticket of a generation that does not gather any more, and ends
// the generation if it is the last one's. A rev that is not 0 is the ticket's.
func (p *place) remove(ctx context.Context, ticket string, rev int64) error {
	var s state
	err := p.h.patiently(ctx, func(ctx context.Context) (err error) {
		s, err = p.board.get(ctx)
		return err
	})
	if err != nil {
		return err
	}
	gen := p.generationOf(ticket)
	all := below(p.tickets(gen))
	mine := clientv3.Compare(clientv3.CreateRevision(ticket), ">", 0)
	if rev != 0 {
		mine = unmodified(ticket, rev)
	}
	n := s.next(ended{Members: s.Members})
	t := commit.Txn{
		Scope: []string{p.prefix},
		If: []clientv3.Cmp{mine, unmodified(p.at(), s.rev), absentIn(span{all.from, ticket}),
			absentIn(span{ticket + "\x00", all.end})},
		Then: []clientv3.Op{clientv3.OpDelete(ticket), clientv3.OpPut(p.at(), n.encode())},
		Else: []clientv3.Op{clientv3.OpTxn([]clientv3.Cmp{mine}, []clientv3.Op{clientv3.OpDelete(ticket)}, nil), clientv3.OpGet(p.at())},
	}
	if s.Gen != gen || s.Phase != within { // only what is left of it
		t.If, t.Then = []clientv3.Cmp{mine}, []clientv3.Op{clientv3.OpDelete(ticket), clientv3.OpGet(p.at())}
		t.Else = []clientv3.Op{clientv3.OpGet(p.at()), clientv3.OpGet(p.at())}
	}
	r, err := p.h.settle(ctx, t, nil)
	if errors.Is(err, rpctypes.ErrNoSpace) { // whoever comes next ends the generation
		_, err = p.h.settle(ctx, commit.Txn{Scope: t.Scope, If: []clientv3.Cmp{mine}, Then: []clientv3.Op{clientv3.OpDelete(ticket)},
			Else: []clientv3.Op{clientv3.OpGet(ticket, clientv3.WithCountOnly())}}, nil)
		return err
	}
	if err != nil {
		return err
	}
	switch {
	case r.Succeeded && s.Gen == gen && s.Phase == within:
		n.rev = r.Revision
		p.board.learn(n, r.Revision)
	default:
		p.tell(kvs(r, 1), r.Revision)
	}
	return nil
}
