package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/core/recipe"
)

// idleAfter is how long a host keeps tokens that nobody asks for.
const idleAfter = 2 * time.Second

// errNoQuota means that nobody has set the quota.
var errNoQuota = errors.New("no such quota")

// limiter hands out tokens of any number of quotas.
type limiter struct {
	env   recipe.Env
	share int64            // of a quota, in a block, in per cent
	now   func() time.Time // the host's clock

	mu     sync.Mutex
	stocks map[quotaID]*stock
}

func (l *limiter) stock(id quotaID) (*stock, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.stocks[id]; s != nil {
		return s, nil
	}
	prefix, err := l.env.Key(id.namespace, id.name)
	if err != nil {
		return nil, err
	}
	s := newStock(id, prefix+"quota")
	s.used = l.now()
	l.stocks[id] = s
	return s, nil
}

// take takes n tokens or none.
func (l *limiter) take(ctx context.Context, id quotaID, n int64) (outcome, error) {
	s, err := l.stock(id)
	if err != nil {
		return outcome{}, err
	}
	for {
		if o := s.take(n, l.now()); o.known {
			return o, nil
		}
		select {
		case s.claiming <- struct{}{}:
		case <-ctx.Done():
			return outcome{}, recipe.Status(ctx.Err())
		}
		o := s.take(n, l.now()) // whoever held it may have brought enough
		if !o.known {
			o, err = l.claim(ctx, s, n)
		}
		<-s.claiming
		if err != nil || o.known {
			return o, err
		}
	}
}

// claim brings a block, or the news that there is none; the caller then looks
// again. It is called by the holder of s.claiming.
func (l *limiter) claim(ctx context.Context, s *stock, n int64) (outcome, error) {
	if s.rev == 0 {
		if err := l.read(ctx, s); err != nil {
			return outcome{}, err
		}
	}
	for {
		now := l.now()
		r := s.seen.at(now)
		next, got := r.claim(max(1, s.need(n, r.Epoch)), max(1, r.Quota*l.share/100), rand.Text())
		if n > r.Quota || r.ahead(now) || got == 0 {
			return l.refuse(ctx, s, n)
		}
		done, err := l.swap(ctx, s, next)
		if err != nil {
			return outcome{}, err
		}
		if done {
			s.add(next, got)
			return outcome{}, nil
		}
	}
}

// refuse says no on the word of etcd, not of what it said some time ago.
func (l *limiter) refuse(ctx context.Context, s *stock, n int64) (outcome, error) {
	rev := s.rev
	if err := l.read(ctx, s); err != nil {
		return outcome{}, err
	}
	now := l.now()
	r := s.seen.at(now)
	switch {
	case s.rev != rev || r.Epoch != s.seen.Epoch:
		return outcome{}, nil // it has changed: look again
	case n > r.Quota:
		return outcome{}, recipe.Errorf(codes.InvalidArgument, "invalid_tokens", "tokens: is %d, and the quota is %d a window", n, r.Quota)
	case r.ahead(now):
		return outcome{}, recipe.Errorf(codes.Unavailable, "clock_skew", "the window begins at %s and it is %s here: a clock is wrong; SetQuota with restart begins a new window",
			time.UnixMilli(r.Began).UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	default:
		return outcome{known: true, retry: s.exhausted(r, now)}, nil
	}
}

// read looks the record up.
func (l *limiter) read(ctx context.Context, s *stock) error {
	s.rev = 0
	got, err := l.env.Client.Get(ctx, s.key)
	if err != nil {
		return recipe.Status(err)
	}
	if len(got.Kvs) == 0 {
		return errNoQuota
	}
	if s.seen, err = decode(got.Kvs[0].Value); err != nil {
		return err
	}
	s.rev = got.Kvs[0].ModRevision
	return nil
}

// swap writes next if the record is still the one that was seen; if not, it has
// seen what stands there now.
func (l *limiter) swap(ctx context.Context, s *stock, next record) (done bool, err error) {
	resp, err := l.env.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(s.key), "=", s.rev)).
		Then(clientv3.OpPut(s.key, next.encode())).
		Else(clientv3.OpGet(s.key)).Commit()
	if err != nil {
		return l.settle(ctx, s, next, err)
	}
	if resp.Succeeded {
		s.seen, s.rev = next, resp.Header.Revision
		return true, nil
	}
	kvs := resp.Responses[0].GetResponseRange().GetKvs()
	if len(kvs) == 0 {
		s.rev = 0
		return false, errNoQuota
	}
	if s.seen, err = decode(kvs[0].GetValue()); err != nil {
		s.rev = 0
		return false, err
	}
	s.rev = kvs[0].GetModRevision()
	return false, nil
}

// settle finds out what became of a claim whose answer was lost. If the latest
// claim is another, this one may have been applied before, or may be applied
// later: its block counts as used.
func (l *limiter) settle(ctx context.Context, s *stock, next record, lost error) (bool, error) {
	s.rev = 0
	if ctx.Err() != nil || next.Claim == "" {
		return false, recipe.Status(lost)
	}
	if err := l.read(ctx, s); err != nil {
		return false, recipe.Status(lost)
	}
	return s.seen.Claim == next.Claim, nil
}

// giveBack returns what is left here of a quota. A second attempt after a lost
// answer could return it twice, so there is none.
func (l *limiter) giveBack(ctx context.Context, s *stock) error {
	select {
	case s.claiming <- struct{}{}:
		defer func() { <-s.claiming }()
	case <-ctx.Done():
		return ctx.Err()
	}
	epoch, left := s.empty()
	for left > 0 {
		if s.rev == 0 {
			if err := l.read(ctx, s); err != nil {
				return err
			}
		}
		next, changed := s.seen.giveBack(epoch, left)
		if !changed {
			return nil
		}
		done, err := l.swap(ctx, s, next)
		if done || err != nil {
			return err
		}
	}
	return nil
}

// sweep gives back what nobody asks for, and forgets the quota.
func (l *limiter) sweep(ctx context.Context, idle time.Duration) error {
	l.mu.Lock()
	var old []*stock
	for id, s := range l.stocks {
		if s.idle(l.now(), idle) {
			old = append(old, s)
			delete(l.stocks, id)
		}
	}
	l.mu.Unlock()
	var errs []error
	for _, s := range old {
		if err := l.giveBack(ctx, s); err != nil && !errors.Is(err, errNoQuota) {
			errs = append(errs, fmt.Errorf("give back what is left of %s: %w", s.id.name, err))
		}
	}
	return errors.Join(errs...)
}
