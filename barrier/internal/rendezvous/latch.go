package rendezvous

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// ErrCounting says that the latch is not at zero.
var ErrCounting = errors.New("still counting")

// A LatchRequest names a latch.
type LatchRequest struct {
	Name  string
	Count int // it counts down from
}

// Check returns an error that is core.ErrInvalid and names the field.
func (r *LatchRequest) Check() error {
	err := keyspace.CheckName("name", r.Name)
	if r.Count < 1 || r.Count > MaxCount {
		err = errors.Join(err, fmt.Errorf("count: %d is outside 1 to %d", r.Count, MaxCount))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	return nil
}

// checkOperation returns an error that is core.ErrInvalid for what cannot name an
// operation.
func checkOperation(op string) error {
	err := keyspace.CheckText("operation", op, MaxOperation)
	if op == "" {
		err = errors.New("operation: is empty; name what is counted, so that a retry is not counted again")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	return nil
}

// counter is one call about a latch.
type counter struct {
	h *Hall
	p *place
	r *LatchRequest
}

func (h *Hall) latch(ctx context.Context, r *LatchRequest, f func(ctx context.Context, c *counter) error) error {
	if err := r.Check(); err != nil {
		return err
	}
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	p := h.use(r.Name, Latch)
	defer h.drop(p)
	if err = f(ctx, &counter{h, p, r}); err != nil && ctx.Err() != nil && !errors.Is(err, core.ErrUnknownOutcome) {
		return waitError(ctx)
	}
	return err
}

// fresh reads the state, after the call began.
func (c *counter) fresh(ctx context.Context) (s state, err error) {
	err = c.h.patiently(ctx, func(ctx context.Context) (err error) {
		s, err = c.p.board.fresh(ctx)
		return err
	})
	return s, err
}

// started returns the state of a latch of this count, and begins it if nobody did,
// or if nothing was counted of another count.
func (c *counter) started(ctx context.Context, s state) (state, error) {
	for s.rev == 0 || s.Phase == counting && s.Parties != c.r.Count {
		if err := c.p.alone(ctx, s, func() error { return c.begin(ctx, s) }); err != nil {
			return s, err
		}
		now, err := c.get(ctx)
		if err != nil {
			return s, err
		}
		s = now
	}
	return s, nil
}

// get returns the state as it is known.
func (c *counter) get(ctx context.Context) (s state, err error) {
	err = c.h.patiently(ctx, func(ctx context.Context) (err error) {
		s, err = c.p.board.get(ctx)
		return err
	})
	return s, err
}

func (c *counter) begin(ctx context.Context, s state) error {
	n := state{V: stateVersion, Gen: max(s.Gen, 1), Phase: counting, Parties: c.r.Count}
	r, err := c.h.settle(ctx, commit.Txn{
		Scope: []string{c.p.prefix},
		If:    []clientv3.Cmp{unmodified(c.p.at(), s.rev), absentIn(below(c.p.counted(n.Gen)))},
		Then:  []clientv3.Op{clientv3.OpPut(c.p.at(), n.encode())},
		Else:  []clientv3.Op{clientv3.OpGet(c.p.at())},
	}, nil)
	switch {
	case err != nil:
		return err
	case r.Succeeded:
		n.rev = r.Revision
		c.p.board.learn(n, r.Revision)
	case c.p.tell(kvs(r, 0), r.Revision).rev == s.rev:
		return c.busy(ctx, s)
	}
	return nil
}

// opened is the answer to who comes to a latch that is at zero.
func (c *counter) opened(s state) error {
	if s.Parties != c.r.Count {
		return fmt.Errorf("%w: %d here, and %d when it opened", ErrMismatch, c.r.Count, s.Parties)
	}
	return nil
}

// busy is why a latch cannot begin: operations of another count stand. If somebody
// deleted the state by hand, they are of one that is gone, and go too.
func (c *counter) busy(ctx context.Context, s state) error {
	if s.rev != 0 {
		return fmt.Errorf("%w: %d here, and %d by those who count", ErrMismatch, c.r.Count, s.Parties)
	}
	_, err := c.h.settle(ctx, commit.Txn{
		Scope: []string{c.p.prefix},
		If:    []clientv3.Cmp{absent(c.p.at())},
		Then:  []clientv3.Op{deleteAll(below(c.p.prefix + donePart))},
	}, nil)
	return err
}

// CountDown counts an operation, once. It returns what is left.
func (h *Hall) CountDown(ctx context.Context, r *LatchRequest, op string) (left int, err error) {
	if err := checkOperation(op); err != nil {
		return 0, errors.Join(err, r.Check())
	}
	err = h.latch(ctx, r, func(ctx context.Context, c *counter) error {
		left, err = c.count(ctx, op)
		return err
	})
	return left, err
}

func (c *counter) count(ctx context.Context, op string) (int, error) {
	s, err := c.get(ctx)
	sent := int64(0) // the generation that a request of unknown outcome was sent to
	for err == nil {
		if s, err = c.started(ctx, s); err != nil {
			break
		}
		if sent != 0 && s.Gen != sent {
			return 0, nil // that generation is at zero, whether it was counted or not
		}
		if s.Phase == opened {
			if s, err = c.fresh(ctx); err != nil || s.Phase == opened { // not as it once was
				return 0, errors.Join(err, c.opened(s))
			}
			continue
		}
		r, err := c.h.settle(ctx, c.countTxn(s, op), func() { sent = s.Gen })
		if err != nil {
			return 0, c.uncounted(ctx, err, sent)
		}
		now := s
		if !r.Succeeded {
			now = c.p.tell(kvs(r, 2), r.Revision)
		}
		if now.rev == s.rev {
			return c.counted(ctx, s, r.Responses[1].GetResponseRange().GetCount())
		}
		s = now
	}
	return 0, err
}

// uncounted is the error of a CountDown without an answer.
func (c *counter) uncounted(ctx context.Context, err error, sent int64) error {
	if sent != 0 && ctx.Err() != nil && !errors.Is(err, core.ErrUnknownOutcome) {
		return errors.Join(waitError(ctx), core.ErrUnknownOutcome)
	}
	if ctx.Err() != nil && errors.Is(err, core.ErrUnknownOutcome) {
		return errors.Join(waitError(ctx), core.ErrUnknownOutcome)
	}
	return err
}

func (c *counter) countTxn(s state, op string) commit.Txn {
	key, all := c.p.counted(s.Gen)+keyspace.Escape(op), get(below(c.p.counted(s.Gen)), clientv3.WithCountOnly())
	rec := c.h.record
	rec.ID = op
	return commit.Txn{
		Scope: []string{c.p.prefix},
		If:    []clientv3.Cmp{unmodified(c.p.at(), s.rev), absent(key)},
		Then:  []clientv3.Op{clientv3.OpPut(key, mustJSON(rec)), all},
		Else:  []clientv3.Op{clientv3.OpGet(key, clientv3.WithCountOnly()), all, clientv3.OpGet(c.p.at())},
	}
}

// counted returns what is left after n operations, and opens the latch at zero.
func (c *counter) counted(ctx context.Context, s state, n int64) (int, error) {
	if left := s.Parties - int(n); left > 0 {
		return left, nil
	}
	o := state{V: stateVersion, Gen: s.Gen, Phase: opened, Parties: s.Parties}
	r, err := c.h.settle(ctx, commit.Txn{
		Scope: []string{c.p.prefix},
		If:    []clientv3.Cmp{unmodified(c.p.at(), s.rev)},
		Then:  []clientv3.Op{clientv3.OpPut(c.p.at(), o.encode()), deleteAll(below(c.p.counted(s.Gen)))},
		Else:  []clientv3.Op{clientv3.OpGet(c.p.at())},
	}, nil)
	if err != nil {
		return 0, err
	}
	if o.rev = r.Revision; r.Succeeded {
		c.p.board.learn(o, r.Revision)
	} else {
		c.p.tell(kvs(r, 0), r.Revision)
	}
	return 0, nil
}

// Left returns what is left of the count, by one linearizable read, and writes
// nothing.
func (h *Hall) Left(ctx context.Context, r *LatchRequest) (left int, err error) {
	err = h.latch(ctx, r, func(ctx context.Context, c *counter) error {
		s, n, err := c.look(ctx)
		switch {
		case err != nil:
		case s.rev == 0:
			left = r.Count
		case s.Phase == counting:
			left = max(0, s.Parties-int(n))
		}
		return err
	})
	return left, err
}

// look reads the state and the operations that stand.
func (c *counter) look(ctx context.Context) (s state, n int64, err error) {
	for {
		resp, err := c.h.e.Client().Txn(ctx).Then(clientv3.OpGet(c.p.at())).Commit()
		if err != nil {
			return s, 0, err
		}
		s = c.p.tell(resp.Responses[0].GetResponseRange().GetKvs(), resp.Header.Revision)
		if s.rev == 0 || s.Phase != counting {
			return s, 0, nil
		}
		resp, err = c.h.e.Client().Txn(ctx).Then(clientv3.OpGet(c.p.at()), get(below(c.p.counted(s.Gen)), clientv3.WithCountOnly())).Commit()
		if err != nil {
			return s, 0, err
		}
		if c.p.tell(resp.Responses[0].GetResponseRange().GetKvs(), resp.Header.Revision).rev == s.rev {
			return s, resp.Responses[1].GetResponseRange().GetCount(), nil
		}
	}
}

// Await waits until the generation that counts now is at zero.
func (h *Hall) Await(ctx context.Context, r *LatchRequest) error {
	return h.latch(ctx, r, func(ctx context.Context, c *counter) error {
		s, err := c.fresh(ctx)
		if err == nil {
			s, err = c.started(ctx, s)
		}
		if err != nil {
			return err
		}
		if s.Phase == opened {
			return c.opened(s)
		}
		gen := s.Gen
		l := h.lookout()
		defer l.stop()
		for {
			s, known, changed := c.p.board.now()
			switch {
			case !known:
				if _, err := c.fresh(ctx); err != nil {
					return err
				}
				continue
			case s.rev == 0:
				return fmt.Errorf("latch: its state was deleted: %w", core.ErrKeyDeleted)
			case s.Gen != gen || s.Phase == opened:
				return nil
			}
			select {
			case <-changed:
			case <-l.timer.C: // who counted the last one may have died before it opened the latch
				l.again()
				if err := h.patiently(ctx, c.finish); err != nil {
					return err
				}
			case <-ctx.Done():
				return waitError(ctx)
			}
		}
	})
}

// finish opens a latch that is at zero.
func (c *counter) finish(ctx context.Context) error {
	s, n, err := c.look(ctx)
	if err == nil && s.Phase == counting {
		_, err = c.counted(ctx, s, n)
	}
	return err
}

// Reset begins the next generation of a latch that is at zero.
func (h *Hall) Reset(ctx context.Context, r *LatchRequest) error {
	return h.latch(ctx, r, func(ctx context.Context, c *counter) error {
		asked := int64(0) // the generation that a request of unknown outcome begins
		for {
			s, n, err := c.look(ctx)
			switch {
			case err != nil:
				return err
			case s.rev == 0:
				_, err = c.started(ctx, s)
				return err
			case asked != 0 && s.Gen >= asked:
				return nil
			case s.Phase == counting && int(n) < s.Parties:
				return fmt.Errorf("%w: %d of %d left", ErrCounting, s.Parties-int(n), s.Parties)
			}
			done, err := c.reset(ctx, s, func() { asked = s.Gen + 1 })
			if done || err != nil {
				return err
			}
		}
	})
}

func (c *counter) reset(ctx context.Context, s state, lost func()) (bool, error) {
	n := state{V: stateVersion, Gen: s.Gen + 1, Phase: counting, Parties: c.r.Count}
	r, err := c.h.settle(ctx, commit.Txn{
		Scope: []string{c.p.prefix},
		If:    []clientv3.Cmp{unmodified(c.p.at(), s.rev)},
		Then:  []clientv3.Op{clientv3.OpPut(c.p.at(), n.encode()), deleteAll(below(c.p.counted(s.Gen)))},
		Else:  []clientv3.Op{clientv3.OpGet(c.p.at())},
	}, lost)
	if err != nil {
		return false, err
	}
	if n.rev = r.Revision; r.Succeeded {
		c.p.board.learn(n, r.Revision)
	} else {
		c.p.tell(kvs(r, 0), r.Revision)
	}
	return r.Succeeded, nil
}
