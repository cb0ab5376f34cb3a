package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
)

// A Member is one of those who entered a double barrier together.
type Member struct {
	*Owned
	gen int64

	mu      sync.Mutex
	leaving chan struct{} // closed when the ticket is gone; nil before Leave
	err     error         // of the removal, set before leaving is closed
}

// Generation returns which one it is, from 1 on.
func (m *Member) Generation() int64 { return m.gen }

// member makes an ownership of the ticket that stands.
func (a *arrival) member(ctx, call context.Context, p passed) (*Member, error) {
	if p.create == 0 || a.req.OnePerLease { // no reply told it, or another host's call may have put it again
		call, cancel := a.h.background(context.WithoutCancel(call))
		defer cancel()
		resp, err := a.h.e.Client().Get(call, a.ticket())
		if err != nil {
			return nil, err
		}
		if len(resp.Kvs) == 0 {
			if a.h.e.LeaseGone(call) {
				return nil, a.h.ended()
			}
			return nil, core.ErrKeyDeleted
		}
		p.create = resp.Kvs[0].ModRevision
	}
	return a.p.member(ctx, a.ticket(), p, a.req.Lost), nil
}

func (p *place) member(ctx context.Context, ticket string, at passed, lost func(error) error) *Member {
	m := &Member{gen: at.gen}
	m.Owned = p.own(ctx, ticket, at.create, lost, m)
	return m
}

// Resume returns the member that the session is in the present generation of a
// double barrier, whichever process entered. Unless token is 0 it must be the
// member's. Else the error is made by lost.
func (h *Hall) Resume(ctx context.Context, name string, token int64, lost func(error) error) (*Member, error) {
	if err := (&HoldRequest{Name: name}).Check(); err != nil {
		return nil, err
	}
	call, done, err := h.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	p := h.use(name, Double)
	defer h.drop(p)
	s, err := p.board.fresh(call)
	if err != nil {
		return nil, h.lookError(call, err)
	}
	mine := below(p.tickets(s.Gen) + leasePart(h.e))
	resp, err := h.e.Client().Get(call, mine.from, clientv3.WithRange(mine.end), clientv3.WithKeysOnly())
	if err != nil {
		return nil, h.lookError(call, err)
	}
	for _, kv := range resp.Kvs {
		if s.Phase == within && listed(s.Members, idOf(kv.Key)) && (token == 0 || token>>tokenShift == kv.ModRevision) {
			return p.member(ctx, string(kv.Key), passed{s.Gen, kv.ModRevision}, lost), nil
		}
	}
	if h.e.LeaseGone(call) {
		return nil, h.ended()
	}
	return nil, lost(fmt.Errorf("%w: the session is not inside", core.ErrReleased))
}

// lookError is the caller's error of a read.
func (h *Hall) lookError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return waitError(ctx)
	}
	return err
}

// Detach ends the ownership here and leaves the ticket, for Resume.
func (m *Member) Detach() { _ = m.end(ErrDetached) }

// Leave takes the member out and waits until all of its generation are. It may be
// repeated; the ctx bounds the waiting, not the removal.
func (m *Member) Leave(ctx context.Context) error {
	if !m.depart() {
		if before := m.end(core.ErrReleased); before != nil && !errors.Is(before, core.ErrReleased) {
			return before
		}
		return m.lost(m.h.ended())
	}
	call, done, err := m.h.begin(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		return m.lost(err)
	case err != nil:
		return err
	}
	defer done()
	select {
	case <-m.leaving:
	case <-call.Done():
		return m.waitError(call)
	}
	if m.err != nil {
		return m.err
	}
	if err = m.p.parted(call, m.gen); err != nil && call.Err() != nil {
		err = m.waitError(call)
	}
	return err
}

// waitError is why a Leave ended early; that the session did is a loss.
func (m *Member) waitError(ctx context.Context) error {
	err := waitError(ctx)
	if isSessionEnd(err) {
		return m.lost(err)
	}
	return err
}

// depart removes the ticket once, whoever asks. It reports false if the session is
// over.
func (m *Member) depart() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leaving != nil {
		return true
	}
	if !m.h.e.Enter() {
		return false
	}
	defer m.h.e.Leave()
	m.leaving = make(chan struct{})
	p := m.h.use(m.p.key.name, m.p.key.kind)
	before := m.end(core.ErrReleased)
	m.h.e.Go(func(bg context.Context) {
		defer close(m.leaving)
		defer m.h.drop(p)
		m.err = m.h.detached(bg, func(ctx context.Context) error { return p.remove(ctx, m.key, m.rev) })
		if before != nil {
			m.err = before
		}
	})
	return true
}

// parted waits until a generation is over.
func (p *place) parted(ctx context.Context, gen int64) error {
	l := p.h.lookout()
	defer l.stop()
	for {
		s, known, changed := p.board.now()
		if !known {
			err := p.h.patiently(ctx, func(ctx context.Context) error {
				_, err := p.board.get(ctx)
				return err
			})
			if err != nil {
				return err
			}
			continue
		}
		if s.Gen != gen || s.Phase != within {
			return nil
		}
		select {
		case <-changed:
			continue
		case <-l.timer.C:
		case <-l.seen:
		case <-ctx.Done():
			return waitError(ctx)
		}
		l.again()
		nobody := false
		if err := p.h.patiently(ctx, func(ctx context.Context) (err error) {
			nobody, err = p.lookForOver(ctx, l, s)
			return err
		}); err != nil || nobody {
			return err
		}
	}
}

// lookForOver watches a member that is still inside. If there is none it ends the
// generation, and reports that nobody is there.
func (p *place) lookForOver(ctx context.Context, l *lookout, s state) (nobody bool, err error) {
	all := below(p.tickets(s.Gen))
	resp, err := p.h.e.Client().Get(ctx, all.from, clientv3.WithRange(all.end), clientv3.WithKeysOnly(), clientv3.WithLimit(1))
	if err != nil {
		return false, err
	}
	if len(resp.Kvs) > 0 {
		return false, l.watch(ctx, string(resp.Kvs[0].Key), resp.Header.Revision)
	}
	if _, err = p.over(ctx, s); errors.Is(err, rpctypes.ErrNoSpace) {
		err = nil // it is over all the same, and whoever comes next writes that
	}
	return true, err
}
