package snapshot

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"
)

// copyDatabase copies the database of a snapshot, without the digest behind it.
func copyDatabase(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.LimitReader(in, info.Size()-sha256.Size))
	return errors.Join(err, out.Close())
}

type ended struct {
	leases, keys int
	revision     int64 // afterwards
}

// marker is written and deleted, so that the last record has the store's last revision.
var marker = []byte("conclave")

// endSessions revokes every lease in the database, as a member does when one expires, with upstream's own store. The order is that of
// the leases' ids, so that the members of a cluster that is restored member by member get equal revisions.
func endSessions(path string, log *zap.Logger) (e ended, err error) {
	be := backend.NewDefaultBackend(log, path)
	defer func() { err = errors.Join(err, be.Close()) }()
	lessor := lease.NewLessor(log, be, nil, lease.LessorConfig{})
	defer lessor.Stop()
	store := mvcc.NewStore(log, be, lessor, mvcc.StoreConfig{})
	defer func() { err = errors.Join(err, store.Close()) }()
	leases := lessor.Leases()
	slices.SortFunc(leases, func(a, b *lease.Lease) int { return cmp.Compare(a.ID, b.ID) })
	for _, l := range leases {
		e.keys += len(l.Keys())
		if err := lessor.Revoke(l.ID); err != nil {
			return e, fmt.Errorf("end session %x: %w", l.ID, err)
		}
	}
	e.leases = len(leases)
	// Upstream raises the largest revision that a record has. That may be far below the store's own, when all that was written since has
	// been deleted and compacted: an earlier restore's raise, for instance, would be given a second time.
	store.Put(marker, nil, lease.NoLease)
	store.DeleteRange(marker, nil)
	e.revision = store.Rev()
	store.Commit()
	return e, nil
}
