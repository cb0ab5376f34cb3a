package scope

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// SweepAt is the number of own leases at which ended ones are looked for.
const SweepAt = sweepAt

// OwnLeases returns how many leases the space remembers.
func (s *Space) OwnLeases() int {
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	return len(s.leases.own)
}

// Overdue lets the time of a lease pass.
func (s *Space) Overdue(id clientv3.LeaseID) {
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	s.leases.own[int64(id)] = time.Now().Add(-time.Second)
}
