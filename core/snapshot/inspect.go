package snapshot

import (
	"context"
	"fmt"
	"os"
)

// A Status says what a snapshot holds.
type Status struct {
	Revision int64  `json:"revision"`          // the last one of the store
	Keys     int    `json:"keys"`              // that exist at that revision
	Leased   int    `json:"leased"`            // of these, on a lease: a restore ends them
	Leases   int    `json:"leases"`            // sessions, and leases of others
	Bytes    int64  `json:"bytes"`             // of the file
	Version  string `json:"version,omitempty"` // of the storage; "" before etcd 3.6
}

// Inspect checks the file path, its digest and every page of its database, and returns what it holds. The error is ErrDamaged, or
// that of the file system.
func Inspect(path string) (Status, error) {
	s, err := inspect(path)
	if err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func inspect(path string) (Status, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Status{}, err
	}
	if info.IsDir() {
		return Status{}, fmt.Errorf("%w: it is a directory", ErrDamaged)
	}
	if err := verify(context.Background(), path); err != nil {
		return Status{}, err
	}
	s := Status{Bytes: info.Size()}
	err = readContent(path, func(c content) { s.fill(c) })
	return s, err
}

func (s *Status) fill(c content) {
	s.Revision, s.Keys, s.Leases, s.Version = c.revision, len(c.live), c.leases, c.version
	for _, kv := range c.live {
		if kv.lease != 0 {
			s.Leased++
		}
	}
}
