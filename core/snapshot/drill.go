package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/embedded"
)

// page is how many keys the drill reads at a time.
const page = 1000

// drillKey is what the drill writes, in its scratch member only.
const drillKey = "conclave"

// Drill restores the snapshot in file into a member that lives only for the call, in a directory below dir, or below the system's
// directory for temporary files if dir is empty, and on free loopback ports. It reads every key back and compares value and revisions
// with the snapshot, and writes once to see that revisions go on where they must. Nothing is left behind.
//
// The error is ErrDiffers if the comparison fails, and names the first key; else one of Restore, package embedded's, or ctx's.
func Drill(ctx context.Context, file, dir string, log *slog.Logger) (r Restored, err error) {
	work, err := os.MkdirTemp(dir, "conclave-drill-*")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	data := filepath.Join(work, "data")
	if r, err = Restore(RestoreConfig{File: file, DataDir: data, Log: log}); err != nil {
		return r, err
	}
	if err := withoutLogin(data); err != nil {
		return r, err
	}
	m, err := embedded.Start(ctx, embedded.Config{DataDir: data, ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0",
		Fast: true, NoFsync: true, Logger: log})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	var want content
	if err := readContent(file, func(c content) { want = c }); err != nil {
		return r, err
	}
	if err := compare(ctx, m.Client(), want); err != nil {
		return r, err
	}
	return r, goesOn(ctx, m.Client(), r.Revision)
}

// compare reads the whole store.
func compare(ctx context.Context, c *clientv3.Client, want content) error {
	left := make(map[string]entry, len(want.live))
	for name, e := range want.live {
		if e.lease == 0 {
			left[name] = e
		}
	}
	for from := "\x00"; ; {
		got, err := c.Get(ctx, from, clientv3.WithFromKey(), clientv3.WithLimit(page))
		if err != nil {
			return err
		}
		for _, kv := range got.Kvs {
			name := string(kv.Key)
			if e, ok := left[name]; !ok || e != entryOf(kv) {
				return fmt.Errorf("%w: key %q", ErrDiffers, name)
			}
			delete(left, name)
			from = name + "\x00"
		}
		if !got.More {
			break
		}
	}
	for name := range left {
		return fmt.Errorf("%w: key %q is missing", ErrDiffers, name)
	}
	return nil
}

// goesOn checks that the next revision, of which tokens are made, is beyond the raised one, and that what was before is compacted.
func goesOn(ctx context.Context, c *clientv3.Client, revision int64) error {
	put, err := c.Put(ctx, drillKey, "")
	if err != nil {
		return err
	}
	if put.Header.Revision != revision+1 {
		return fmt.Errorf("%w: the next revision is %d, not %d", ErrDiffers, put.Header.Revision, revision+1)
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	w, ok := <-c.Watch(clientv3.WithRequireLeader(watching), drillKey, clientv3.WithRev(1))
	switch {
	case !ok:
		return context.Cause(ctx)
	case w.CompactRevision != revision:
		return fmt.Errorf("%w: a watch from the past is told that revision %d is compacted, not %d", ErrDiffers, w.CompactRevision, revision)
	}
	return nil
}
