package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Saved says what a save has written.
type Saved struct {
	Bytes    int64  // with the digest at the end
	Revision int64  // of the store, when the member began to send
	Version  string // of the storage, "" before etcd 3.6
}

// Save writes a snapshot of the etcd behind c to w: the state of the member that answers, which may be a little behind its leader.
// What has been written by then counts for nothing unless it returns nil: only then the digest that etcd sends at the end has been
// found right. The error is ErrDamaged if it was not, or that of etcd, of ctx or of w. etcd asks for a user with the role root if
// authentication is on.
//
// Each Write on w is followed by progress with the number of bytes so far; nil is allowed.
func Save(ctx context.Context, c *clientv3.Client, w io.Writer, progress func(bytes int64)) (Saved, error) {
	resp, err := c.SnapshotWithVersion(ctx)
	if err != nil {
		return Saved{}, fmt.Errorf("snapshot: %w", rpctypes.Error(err))
	}
	sum := newDigester()
	out := io.MultiWriter(w, sum)
	if progress != nil {
		out = io.MultiWriter(w, sum, &counter{report: progress})
	}
	n, err := io.Copy(out, resp.Snapshot)
	// It was read to its end, or the copy's error says more.
	_ = resp.Snapshot.Close()
	if err != nil {
		return Saved{}, fmt.Errorf("snapshot: %w", rpctypes.Error(err)) // streams do not do it themselves
	}
	if err := sum.check(); err != nil {
		return Saved{}, fmt.Errorf("snapshot: received %d bytes: %w", n, err)
	}
	return Saved{Bytes: n, Revision: resp.Header.GetRevision(), Version: resp.Version}, nil
}

type counter struct {
	n      int64
	report func(int64)
}

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	c.report(c.n)
	return len(b), nil
}

// SaveFile saves a snapshot as the file path, with mode 0600. The file appears once it is whole, on the disk, and has passed
// [Inspect], whose answer is returned. An existing file is left alone, with ErrExists, unless overwrite is set; then it is replaced
// in one step. Errors are those of Save, and of the file system.
func SaveFile(ctx context.Context, c *clientv3.Client, path string, overwrite bool, progress func(bytes int64)) (Status, error) {
	if _, err := os.Lstat(path); err == nil && !overwrite {
		return Status{}, fmt.Errorf("%s: %w", path, ErrExists)
	}
	var status Status
	err := atomically(path, overwrite, func(f *os.File) error {
		if _, err := Save(ctx, c, f, progress); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		var err error
		status, err = Inspect(f.Name())
		return err
	})
	return status, err
}

// atomically lets write fill a file beside path that takes its place if write succeeds, and is removed if not.
func atomically(path string, overwrite bool, write func(*os.File) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreAbsent(os.Remove(f.Name())))
		}
	}()
	if err := errors.Join(write(f), f.Close()); err != nil {
		return err
	}
	if err := publish(f.Name(), path, overwrite); err != nil {
		return err
	}
	return syncDir(dir)
}

// publish gives the file its name. Without overwrite it must not replace a file that somebody made meanwhile: a link fails then,
// and where there are no links the earlier look has to do.
func publish(from, to string, overwrite bool) error {
	if overwrite {
		return os.Rename(from, to)
	}
	err := os.Link(from, to)
	switch {
	case err == nil:
		return os.Remove(from)
	case errors.Is(err, os.ErrExist):
		return fmt.Errorf("%s: %w", to, ErrExists)
	}
	return os.Rename(from, to)
}

func ignoreAbsent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// syncDir makes a new name in dir outlive a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
