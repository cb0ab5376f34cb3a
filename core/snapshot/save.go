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
	Revision int64  // of the store
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

// SaveOptions say how a file is saved. The zero value is usable.
type SaveOptions struct {
	// Overwrite replaces an existing file, in one step.
	Overwrite bool
	// Progress is called with the number of bytes so far.
	Progress func(bytes int64)
	// Check looks at the whole file before it gets its name; its error is SaveFile's. [Inspect] is one, which takes time and memory with the
	// number of keys.
	Check func(file string) error
}

// SaveFile saves a snapshot as the file path, with mode 0600. The file appears once it is whole, on the disk, and has been read back:
// its digest is right, and it is a database of etcd's. An existing file is left alone, with ErrExists, unless Overwrite is set. Errors are
// those of Save, and of the file system. It ends soon after ctx does.
func SaveFile(ctx context.Context, c *clientv3.Client, path string, o SaveOptions) (Saved, error) {
	if _, err := os.Lstat(path); err == nil && !o.Overwrite {
		return Saved{}, fmt.Errorf("%s: %w", path, ErrExists)
	}
	var saved Saved
	err := atomically(path, o.Overwrite, func(f *os.File) (err error) {
		if saved, err = Save(ctx, c, f, o.Progress); err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), verify(ctx, f.Name())); err != nil {
			return err
		}
		if saved.Revision, saved.Version, err = lastRevision(f.Name()); err != nil || o.Check == nil {
			return err
		}
		return o.Check(f.Name())
	})
	return saved, err
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
