package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"google.golang.org/protobuf/proto"
)

// content is what a database holds at its last revision.
type content struct {
	revision int64
	live     map[string]entry
	leases   int
	version  string
}

// An entry is what must come out of a restore as it went in.
type entry struct {
	create, mod, version int64
	lease                int64
	value                uint64 // its hash
}

// readContent opens the database in the file path, which a digest may follow, checks its pages and passes on what it holds.
func readContent(path string, use func(content)) error {
	c := content{live: make(map[string]entry)}
	err := view(path, func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return c.read(tx)
	})
	if err != nil {
		return err
	}
	use(c)
	return nil
}

// lastRevision returns the last revision of the database in the file path, and the version of its storage.
func lastRevision(path string) (revision int64, version string, err error) {
	var c content
	err = view(path, func(tx *bbolt.Tx) error {
		keys := tx.Bucket(schema.Key.Name())
		if keys == nil {
			return errForeign
		}
		if last, _ := keys.Cursor().Last(); last != nil {
			c.revision = mvcc.BytesToRev(last).Main
		}
		c.readMeta(tx)
		return nil
	})
	return c.revision, c.version, err
}

var errForeign = fmt.Errorf("%w: a database, but not etcd's", ErrDamaged)

// view lets look read the database in the file path.
func view(path string, look func(*bbolt.Tx) error) (err error) {
	db, err := bbolt.Open(path, 0o400, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	// bbolt answers pages that make no sense with a panic.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	return db.View(look)
}

func (c *content) read(tx *bbolt.Tx) error {
	keys := tx.Bucket(schema.Key.Name())
	if keys == nil {
		return errForeign
	}
	if leases := tx.Bucket(schema.Lease.Name()); leases != nil {
		c.leases = leases.Stats().KeyN
	}
	if err := keys.ForEach(c.add); err != nil {
		return err
	}
	c.readMeta(tx)
	return nil
}

// readMeta reads what stands beside the keys. Of a store in which all was deleted, compactions alone tell how far it had come.
func (c *content) readMeta(tx *bbolt.Tx) {
	if v := schema.ReadStorageVersionFromSnapshot(tx); v != nil {
		c.version = v.String()
	}
	meta := tx.Bucket(schema.Meta.Name())
	if meta == nil {
		return
	}
	for _, name := range [][]byte{schema.ScheduledCompactKeyName, schema.FinishedCompactKeyName} {
		if rev := meta.Get(name); rev != nil {
			c.revision = max(c.revision, mvcc.BytesToRev(rev).Main)
		}
	}
}

// add takes up one change; changes come in their order.
func (c *content) add(rev, value []byte) error {
	c.revision = mvcc.BytesToRev(rev).Main
	kv := new(mvccpb.KeyValue)
	if err := proto.Unmarshal(value, kv); err != nil {
		return fmt.Errorf("%w: revision %d: %w", ErrDamaged, c.revision, err)
	}
	switch {
	case mvcc.IsTombstone(rev):
		delete(c.live, string(kv.Key))
	case len(kv.Key) > 0: // a restore with a raised revision leaves an empty record of it
		c.live[string(kv.Key)] = entryOf(kv)
	}
	return nil
}

func entryOf(kv *mvccpb.KeyValue) entry {
	sum := sha256.Sum256(kv.Value)
	return entry{create: kv.CreateRevision, mod: kv.ModRevision, version: kv.Version, lease: kv.Lease, value: binary.BigEndian.Uint64(sum[:])}
}
