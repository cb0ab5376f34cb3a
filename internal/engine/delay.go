package engine

import (
	"context"
	"errors"
	"fmt"
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

// DelayLease returns the lease that ends d after the session's own would, and
// grants it when it is asked for the first time. Two leases serve any number
// of locks.
func (e *Engine) DelayLease(ctx context.Context, d time.Duration) (clientv3.LeaseID, error) {
	e.delays.mu.Lock()
	defer e.delays.mu.Unlock()
	if id, ok := e.delays.leases[d]; ok {
		return id, nil
	}
	resp, err := e.client.Grant(ctx, int64((e.ttl+d)/time.Second))
	if err != nil {
		return 0, fmt.Errorf("lease for the lock delay: %w", err)
	}
	if e.delays.leases == nil {
		e.delays.leases = make(map[time.Duration]clientv3.LeaseID)
	}
	e.delays.leases[d] = resp.ID
	return resp.ID, nil
}

// RenewDelays renews the second leases. The session renews its own lease only
// after it: otherwise an ownership could outlive the key that follows it.
func (e *Engine) RenewDelays(ctx context.Context) error {
	e.delays.mu.Lock()
	defer e.delays.mu.Unlock()
	for d, id := range e.delays.leases {
		_, err := Renew(ctx, e.client, id)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			delete(e.delays.leases, d) // revoked by hand: the next acquisition grants another
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
	e.delays.mu.Lock()
	defer e.delays.mu.Unlock()
	var errs []error
	for d, id := range e.delays.leases {
		if _, err := e.client.Revoke(ctx, id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			errs = append(errs, err)
		}
		delete(e.delays.leases, d)
	}
	return errors.Join(errs...)
}
