package lock

import (
	"context"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
)

// List implements the method of the LockService.
func (i *instance) List(ctx context.Context, req *lockv1.ListRequest) (*lockv1.ListResponse, error) {
	page, next, err := i.Page(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := &lockv1.ListResponse{NextPageToken: next}
	leases := make(map[int64]bool)
	for _, n := range page {
		lock := lockOf(n)
		resp.Locks = append(resp.Locks, lock)
		if len(lock.GetHolders()) > 0 {
			leases[lock.GetHolders()[0].GetLease()] = true
		}
	}
	ttls := i.TTLs(ctx, leases)
	for _, lock := range resp.GetLocks() {
		if len(lock.GetHolders()) > 0 {
			lock.Ttl = ttls[lock.GetHolders()[0].GetLease()]
			lock.GetHolders()[0].Ttl = lock.GetTtl()
		}
	}
	return resp, nil
}
