package importer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v2store"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.uber.org/zap"
)

// keysRoot is where the v2 store has its users' keys; the rest is about members.
const keysRoot = "/1"

// ErrRuns means that the server of a data directory runs, and goes on writing.
var ErrRuns = errors.New("its server runs")

// FromV2 reads the v2 keys of an etcd's data directory, of etcd 2.3 to 3.5: its newest snapshot and the log behind it, of which it takes
// what is known to be committed. It opens the files for reading only. Keys are as the v2 API has them, with a slash at the beginning.
// ErrRuns says that the server must be stopped first.
func FromV2(dataDir string) (Found, error) {
	logDir := filepath.Join(dataDir, "member", "wal")
	if !wal.Exist(logDir) {
		return Found{}, fmt.Errorf("%s is no data directory of an etcd: %w", dataDir, os.ErrNotExist)
	}
	if err := stopped(logDir); err != nil {
		return Found{}, fmt.Errorf("%s: %w", dataDir, err)
	}
	store, err := replayed(filepath.Join(dataDir, "member", "snap"), logDir)
	if err != nil {
		return Found{}, fmt.Errorf("%s: %w", dataDir, err)
	}
	b, err := store.SaveNoCopy()
	if err != nil {
		return Found{}, err
	}
	var saved struct{ Root *v2Node }
	if err := json.Unmarshal(b, &saved); err != nil {
		return Found{}, fmt.Errorf("%s: the store: %w", dataDir, err)
	}
	return saved.Root.child(keysRoot).found(), nil
}

// stopped returns ErrRuns if a server holds the newest file of the log.
func stopped(logDir string) error {
	files, err := filepath.Glob(filepath.Join(logDir, "*.wal"))
	if err != nil || len(files) == 0 {
		return err
	}
	slices.Sort(files)
	l, err := fileutil.TryLockFile(files[len(files)-1], os.O_RDWR, 0o600)
	switch {
	case errors.Is(err, fileutil.ErrLocked):
		return fmt.Errorf("%w: stop it, so that nothing is missed", ErrRuns)
	case errors.Is(err, os.ErrPermission):
		return nil // a copy that may only be read, which no server runs on
	case err != nil:
		return err
	}
	return l.Close()
}

// replayed is the store as the snapshot and the log have it.
func replayed(snapDir, logDir string) (v2store.Store, error) {
	log := zap.NewNop()
	known, err := wal.ValidSnapshotEntries(log, logDir)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	store := v2store.New("/0", keysRoot)
	from := new(walpb.Snapshot)
	switch s, err := snap.New(log, snapDir).LoadNewestAvailable(known); {
	case errors.Is(err, snap.ErrNoSnapshot), errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("snapshot: %w", err)
	default:
		if err := store.Recovery(s.GetData()); err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
		from.Index, from.Term = s.GetMetadata().Index, s.GetMetadata().Term
	}
	w, err := wal.OpenForRead(log, logDir, from)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	_, state, entries, err := w.ReadAll()
	_ = w.Close() // when it was opened for reading, its answer is always an error
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	for _, e := range entries {
		if e.GetIndex() > state.GetCommit() {
			break
		}
		if r, ok := parseV2(e); ok {
			r.apply(store)
		} else if err := applyMember(e, store); err != nil {
			return nil, err
		}
	}
	return store, nil
}

// A v2Node is a directory or a key, as the store saves it.
type v2Node struct {
	Path       string
	Value      string
	ExpireTime time.Time
	Children   map[string]*v2Node // nil: a key
}

// child is the node at the path of one name; nil if it is missing.
func (n *v2Node) child(path string) *v2Node {
	if n == nil {
		return nil
	}
	return n.Children[strings.TrimPrefix(path, "/")]
}

// found lists the keys below a directory.
func (n *v2Node) found() Found {
	var f Found
	empty := 0
	var walk func(n *v2Node, expires time.Time)
	walk = func(n *v2Node, expires time.Time) {
		if !n.ExpireTime.IsZero() && (expires.IsZero() || n.ExpireTime.Before(expires)) {
			expires = n.ExpireTime // what is in a directory ends with it
		}
		if n.Children == nil {
			name := strings.TrimPrefix(n.Path, keysRoot)
			f.Items = append(f.Items, Item{From: name, Key: name, Value: []byte(n.Value), Expires: expires})
			return
		}
		if len(n.Children) == 0 && n.Path != keysRoot {
			empty++
		}
		for _, c := range n.Children {
			walk(c, expires)
		}
	}
	if n != nil {
		walk(n, time.Time{})
	}
	slices.SortFunc(f.Items, func(a, b Item) int { return strings.Compare(a.From, b.From) })
	if empty > 0 {
		f.Notes = append(f.Notes, fmt.Sprintf("%d directories are empty: etcd 3 has keys only", empty))
	}
	return f
}
