package lock

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/waitqueue"
)

// A Semaphore is a name with a limited number of permits. Requests are served
// strictly in order: a small one does not pass a large one that waits.
type Semaphore struct {
	s     *core.Session
	name  string
	limit int
	opts  []Option
}

// NewSemaphore returns the semaphore of a name with a limit of 1 to 1,000,000
// permits. It does no I/O; an argument outside its limits makes every call
// return core.ErrInvalid. All users of a name have to agree on the limit as long
// as anybody holds or waits, else acquisitions return [ErrLimitMismatch]. A
// limit of 1 agrees with a [Mutex] of the name.
func NewSemaphore(s *core.Session, name string, limit int, opts ...Option) *Semaphore {
	return &Semaphore{s: s, name: name, limit: limit, opts: opts}
}

// Acquire waits for n permits, all at once, like [Mutex.Lock]. An n below 1 or
// above the limit is core.ErrInvalid.
func (m *Semaphore) Acquire(ctx context.Context, n int) (*Permit, error) {
	l := m.locker(n)
	return permit(&l.r)(l.q.Acquire(ctx, &l.r))
}

// TryAcquire takes n permits at once or returns [ErrLocked], like [Mutex.TryLock].
func (m *Semaphore) TryAcquire(ctx context.Context, n int) (*Permit, error) {
	l := m.locker(n)
	return permit(&l.r)(l.q.TryAcquire(ctx, &l.r))
}

// Contenders returns who holds permits and who waits for them: holders first.
func (m *Semaphore) Contenders(ctx context.Context) ([]Contender, error) {
	l := m.locker(1)
	return l.contenders(ctx)
}

// ForceRelease takes all permits from whoever holds them, like
// [Mutex.ForceRelease].
func (m *Semaphore) ForceRelease(ctx context.Context, reason string) (core.Token, error) {
	l := m.locker(1)
	return l.force(ctx, reason)
}

func (m *Semaphore) locker(n int) locker {
	l := newLocker(m.s, []string{m.name}, waitqueue.Permits, m.opts)
	l.r.Permits, l.r.Limit, l.r.Delay = n, m.limit, 0
	if m.limit == 1 && n == 1 { // a mutex by another name, and one that excludes them
		l.r.Mode, l.r.Permits, l.r.Limit, l.r.LocalN = waitqueue.Exclusive, 0, 0, 0
	}
	return l
}

// A Permit is what an acquisition of a semaphore returns.
type Permit struct{ owned *waitqueue.Owned }

var _ core.Ownership = (*Permit)(nil)

func permit(r *waitqueue.Request) func(*waitqueue.Owned, error) (*Permit, error) {
	return func(o *waitqueue.Owned, err error) (*Permit, error) {
		if err != nil {
			return nil, named(r.Names, err)
		}
		return &Permit{o}, nil
	}
}

// Context ends when the permits are not held any more, like [Held.Context].
func (p *Permit) Context() context.Context { return p.owned.Context() }

// Token returns the fencing token, larger than that of every earlier grant.
func (p *Permit) Token() core.Token { return p.owned.Token() }

// IsOwner is the comparison that holds in etcd as long as the permits are held,
// like [Held.IsOwner].
func (p *Permit) IsOwner() clientv3.Cmp { return p.owned.IsOwner() }

// Release gives the permits back, like [Held.Unlock].
func (p *Permit) Release() error { return p.owned.Release() }

// Commit runs ops in one etcd transaction that commits only while the permits
// are held, like [Held.Commit].
func (p *Permit) Commit(ctx context.Context, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	return commit(ctx, p.owned, ops)
}
