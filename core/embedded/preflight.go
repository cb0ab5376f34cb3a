package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// dbLockWait is short because our own lock already excludes other members: only a foreign program can hold the database.
const dbLockWait = 100 * time.Millisecond

// preflight goes once through the pages of an existing database, because etcd opens it on a goroutine of its own and panics there:
// such a panic cannot be recovered. It changes nothing.
func preflight(dir string) error {
	path := filepath.Join(dir, "member", "snap", "db")
	fi, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	if fi.Size() == 0 && !hasLog(dir) {
		return nil // The first start ended before the database was written: etcd begins again.
	}
	err = checkDB(path, fi.Size())
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("%w: %s is open in another program", ErrDataDirInUse, path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("data directory %s: %w", dir, err)
	case err != nil:
		return fmt.Errorf("%w: %s: %w; restore %s from a snapshot, or replace this member", ErrCorrupt, path, err, dir)
	}
	return nil
}

func hasLog(dir string) bool {
	logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	return err == nil && len(logs) > 0
}

func checkDB(path string, size int64) (err error) {
	if size == 0 {
		return errors.New("database is empty although its log is not")
	}
	// The file is mapped into memory: a page behind its end is a fault, which ends the process unless this asks for a panic.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("unreadable page: %v", p)
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: dbLockWait})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bolt.Tx) error {
		if tx.Size() > size {
			return fmt.Errorf("file has %d bytes of %d", size, tx.Size())
		}
		return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
			b.Stats() // goes through every page, as etcd does when it opens the database, and through no value
			return nil
		})
	})
}
