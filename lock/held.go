package lock

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/waitqueue"
)

// Held is a lock that is held, from one acquisition to its end. It is a value of
// its own: a later acquisition of the same lock is another one.
type Held struct{ owned *waitqueue.Owned }

var _ core.Ownership = (*Held)(nil)

// Context ends when the lock is not held any more, at the latest when etcd could
// give it to another. context.Cause is core.ErrReleased after Unlock, else an
// error that is [ErrLost] and one of core's causes. It carries the token
// (core.TokenFrom) and the values of the context that Lock was called with.
func (h *Held) Context() context.Context { return h.owned.Context() }

// Token returns the fencing token.
func (h *Held) Token() core.Token { return h.owned.Token() }

// IsOwner is the comparison that holds in etcd as long as the lock is held. Use
// it in transactions that write or read something: etcd answers one without any
// operation from what a single member knows.
func (h *Held) IsOwner() clientv3.Cmp { return h.owned.IsOwner() }

// Unlock releases the lock, and hands it to the first in line. It needs no
// context: it is bounded by the session's TTL and works after the work's
// context was cancelled. It is idempotent; every call returns the same.
//
// It returns nil if the lock was held until now, an error that is [ErrLost] if
// it was not, and core.ErrUnknownOutcome if etcd did not answer for a TTL, or for
// five seconds on a session that is borrowed (core.Lender); the release then goes
// on in the background as long as the session lives.
func (h *Held) Unlock() error { return h.owned.Release() }

// Commit runs ops in one etcd transaction that commits only while the lock is
// held. If the lock is not held it changes nothing and returns [ErrLost]; the
// error is core.ErrUnknownOutcome if nobody knows whether it committed.
func (h *Held) Commit(ctx context.Context, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	return commit(ctx, h.owned, ops)
}

// Downgrade turns a write lock into a read lock, without letting another writer
// in between. The result is a new ownership with a larger token; the old one
// ends with core.ErrReleased. Readers that wait behind it are let in with it.
//
// If it fails, the write lock is held as before, unless the error is [ErrLost]
// or core.ErrUnknownOutcome; in the latter case Unlock ends whichever is held.
func (h *Held) Downgrade(ctx context.Context) (*Held, error) {
	o, err := h.owned.Downgrade(ctx)
	if err != nil {
		return nil, named(h.owned.Names(), err)
	}
	return &Held{o}, nil
}

func commit(ctx context.Context, o *waitqueue.Owned, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	resp, err := o.Commit(ctx, ops)
	if err != nil {
		return nil, named(o.Names(), err)
	}
	return resp, nil
}

// Do acquires by lock, runs work with a context that ends with the ownership or
// with ctx, and releases. A loss while work ran is part of the error.
func do(ctx context.Context, acquire func(context.Context) (*Held, error), work func(context.Context) error) error {
	h, err := acquire(ctx)
	if err != nil {
		return err
	}
	workCtx, cancel := context.WithCancelCause(h.Context())
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer stop()
	defer cancel(nil)
	defer func() { _ = h.Unlock() }() // also when work panics
	err = work(workCtx)
	if unlockErr := h.Unlock(); unlockErr != nil {
		if err == nil {
			return unlockErr
		}
		return fmt.Errorf("%w; %w", err, unlockErr)
	}
	return err
}
