package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// delays are the session's second leases, one for each lock delay in use. A
// key on such a lease outlives the session by the delay, timed by etcd.
type delays struct {
	mu     sync.Mutex
	leases map[time.Duration]clientv3.LeaseID
}

// ErrNoDelay says that a borrowed lease can have no second one: who keeps the
// first alive does not know of it.
var ErrNoDelay = errors.New("lock delay: not on a borrowed session")

// DelayLease returns the lease that ends d after the session's own would, and
// grants it when it is asked for the first time. Two leases serve any number
// of locks.
func (e *Engine) DelayLease(ctx context.Context, d time.Duration) (clientv3.LeaseID, error) {
	if e.Borrowed() {
		return 0, ErrNoDelay
	}
	if id := e.delays.find(d, 0); id != 0 {
		return id, nil
	}
	// Not under the lock: a renewal must not wait for this request.
	resp, err := e.client.Grant(ctx, int64((e.ttl+d)/time.Second))
	if err != nil {
		return 0, fmt.Errorf("lease for the lock delay: %w", err)
	}
	id := e.delays.find(d, resp.ID)
	if id != resp.ID { // another goroutine was faster
		_, _ = e.client.Revoke(ctx, resp.ID) // else it ends by itself
	}
	return id, nil
}

// find returns the lease for d; if there is none, granted becomes it.
func (l *delays) find(d time.Duration, granted clientv3.LeaseID) clientv3.LeaseID {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id, ok := l.leases[d]; ok || granted == 0 {
		return id
	}
	if l.leases == nil {
		l.leases = make(map[time.Duration]clientv3.LeaseID)
	}
	l.leases[d] = granted
	return granted
}

// forget drops a lease that is gone: the next acquisition grants another one.
func (l *delays) forget(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.leases, d)
}

func (l *delays) all() map[time.Duration]clientv3.LeaseID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.leases)
}

// RenewDelays renews the second leases. The session renews its own lease only
// after it: otherwise an ownership could outlive the key that follows it.
func (e *Engine) RenewDelays(ctx context.Context) error {
	for d, id := range e.delays.all() {
		_, err := Renew(ctx, e.client, id)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			e.delays.forget(d)
			continue
		}
		if err != nil {
			return fmt.Errorf("renew the lease for the lock delay: %w", err)
		}
	}
	return nil
}

// RevokeDelays ends the second leases after a clean end of the session.
func (e *Engine) RevokeDelays(ctx context.Context) error {
	var errs []error
	for d, id := range e.delays.all() {
		if _, err := e.client.Revoke(ctx, id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			errs = append(errs, err)
		}
		e.delays.forget(d)
	}
	return errors.Join(errs...)
}
